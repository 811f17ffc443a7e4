"""The example files in config/, put to work: only addresses, ports and folders are replaced by the test's own."""

import re
import shutil
import socket
import subprocess
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.peers.broker import Listener, Message
from tests.peers.ports import accepts, free_port
from tests.peers.process import Peer, PeerError, dying_with_parent, find_program, wait_until
from tests.peers.rtmp import MODULE_FOLDERS
from tests.peers.shipped import CONFIG, ShippedBroker, replaced

REPOSITORY = Path(__file__).resolve().parents[1]
PASSWORDS = {"front-door": "front-secret", "garage": "garage-secret", "homeassistant": "ha-secret"}
BRIDGE = ShippedBroker.BRIDGE_USER
# A bridge that has lost its hub tries again within so long here, and a busy machine adds to it.
BRIDGED_S = 20.0
SHIPPED_KEY = "change-me-front-door"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShippedBroker]:
    with ShippedBroker(tmp_path_factory.mktemp("broker"), PASSWORDS) as broker:
        yield broker


@pytest.mark.parametrize(
    ("topic", "readers"),
    [
        # The camera at the front door publishes these; those named must hear it, all others must not.
        ("yiagent/front-door/state", {"front-door", "homeassistant"}),
        ("yiagent/front-door/stream/set", {"front-door", "homeassistant"}),
        ("homeassistant/device/front-door/config", {"homeassistant"}),
        ("homeassistant/device/front-door/machine/config", {"homeassistant"}),
        ("homeassistant/switch/front-door/switch_stream/config", {"homeassistant"}),
        # It may not speak for another, nor for Home Assistant, nor anywhere else.
        ("yiagent/garage/stream/set", set()),
        ("yiagent/garage/availability", set()),
        ("yiagent/latest", set()),
        ("homeassistant/device/garage/config", set()),
        ("homeassistant/device/garage/machine/config", set()),
        ("homeassistant/switch/garage/switch_stream/config", set()),
        ("homeassistant/switch/front-door/config", set()),
        ("homeassistant/status", set()),
        ("elsewhere", set()),
    ],
)
def test_a_camera_speaks_for_itself_alone(broker: ShippedBroker, topic: str, readers: set[str]) -> None:
    """What a camera publishes reaches itself and Home Assistant, and only on its own topics."""
    heard = _heard_after_publishing(broker, "front-door", topic)
    assert heard == readers


@pytest.mark.parametrize(
    ("topic", "readers"),
    [
        ("yiagent/garage/stream/set", {"garage", "homeassistant"}),
        ("yiagent/front-door/request", {"front-door", "homeassistant"}),
        ("homeassistant/status", {"front-door", "garage", "homeassistant"}),
        ("yiagent/latest", {"homeassistant"}),
        # Deleted there, a device is deleted at the broker.
        ("homeassistant/device/garage/config", {"homeassistant"}),
        ("elsewhere", set()),
    ],
)
def test_home_assistant_commands_every_camera(broker: ShippedBroker, topic: str, readers: set[str]) -> None:
    """What Home Assistant publishes reaches the camera it is meant for, and its birth message all of them."""
    heard = _heard_after_publishing(broker, "homeassistant", topic)
    assert heard == readers


def test_the_broker_lets_nobody_in_without_the_right_password(broker: ShippedBroker) -> None:
    """No password, a wrong one, or another camera's: refused."""
    for user, password in [("", ""), ("front-door", "wrong"), ("front-door", PASSWORDS["garage"]), ("nobody", "x")]:
        with pytest.raises(PeerError):
            Listener(broker.port, username=user, password=password).start()


def _heard_after_publishing(broker: ShippedBroker, user: str, topic: str) -> set[str]:
    """Publish as one user, and tell which users heard it."""
    with ExitStack() as stack:
        clients = {name: stack.enter_context(broker.client(name)) for name in PASSWORDS}
        clients[user].publish(topic, "marked")
        # Once taken, a message stands in the queues of those who hear it, before whatever is published later.
        for name, client in clients.items():
            client.publish("yiagent/flush" if name == "homeassistant" else f"yiagent/{name}/flush", "flush")
            client.wait_for(lambda message: message.payload == b"flush")
        return {name for name, client in clients.items() if client.on(topic)}


class Pair:
    """A hub, and a broker that is bridged to it: the camera `garage` and Home Assistant there, `front-door` here."""

    def __init__(self, folder: Path) -> None:
        there = {"garage": PASSWORDS["garage"], "homeassistant": PASSWORDS["homeassistant"], BRIDGE: "bridge-secret"}
        self.hub = ShippedBroker(folder / "hub", there, with_bridge_rules=True)
        here = {"front-door": PASSWORDS["front-door"], "homeassistant": PASSWORDS["homeassistant"]}
        self.here = ShippedBroker(folder / "here", here, bridge_to=self.hub.port, bridge_password=there[BRIDGE])

    def heard_at_the_hub(self, topic: str, text: str) -> Message:
        """The first such message that Home Assistant hears, also one that was kept from before."""
        with self.hub.client("homeassistant") as home:
            return home.wait_for(
                lambda message: message.topic == topic and message.text == text, BRIDGED_S, f"{text} on {topic}"
            )

    def wait_until_bridged(self) -> None:
        """Return when the bridge says at the hub that it is up."""
        self.heard_at_the_hub(f"yiagent/bridge/{BRIDGE}", "1")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("pair"))
    with pair.hub, pair.here:
        pair.wait_until_bridged()
        yield pair


@pytest.mark.parametrize(
    "topic",
    [
        *(f"yiagent/front-door/{name}" for name in ("availability", "info", "state", "telemetry", "log", "snapshot")),
        *("yiagent/front-door/response", "yiagent/front-door/response/who-asked"),
        *("homeassistant/device/front-door/config", "homeassistant/device/front-door/machine/config"),
        "homeassistant/switch/front-door/switch_stream/config",
    ],
)
def test_what_a_camera_says_crosses_the_bridge(pair: Pair, topic: str) -> None:
    """Home Assistant at the hub hears it, once; and it is retained there where it is here."""
    with pair.hub.client("homeassistant") as home, pair.here.client("front-door", "yiagent/front-door/#") as camera:
        camera.publish(topic, "said", retain=True)
        home.wait_for(lambda message: message.topic == topic and message.text == "said", BRIDGED_S)
        camera.publish("yiagent/front-door/log", "flush")
        home.wait_for(lambda message: message.text == "flush", BRIDGED_S)
        assert [message.text for message in home.on(topic)].count("said") == 1
    assert pair.heard_at_the_hub(topic, "said").retain


@pytest.mark.parametrize(
    "topic", ["yiagent/front-door/stream/set", "yiagent/front-door/request", "homeassistant/status"]
)
def test_what_a_camera_is_told_crosses_the_bridge(pair: Pair, topic: str) -> None:
    """It hears Home Assistant's commands and its birth, once, with what MQTT 5 adds to a request."""
    with pair.hub.client("homeassistant") as home, pair.here.client("front-door", "#") as camera:
        home.publish(topic, "told", response_topic="yiagent/front-door/response/x", correlation_data=b"7")
        heard = camera.wait_for(lambda message: message.topic == topic, BRIDGED_S)
        assert heard.properties == {"ResponseTopic": "yiagent/front-door/response/x", "CorrelationData": b"7"}
        home.publish("homeassistant/status", "flush")
        camera.wait_for(lambda message: message.text == "flush", BRIDGED_S)
        assert len([message for message in camera.on(topic) if message.text == "told"]) == 1


def test_nothing_else_crosses_the_bridge(pair: Pair) -> None:
    """What the hub's own cameras say stays there; what is commanded here, and who comes up here, stays here."""
    with (
        pair.hub.client("homeassistant") as there,
        pair.hub.client("garage", "yiagent/garage/#") as garage,
        pair.here.client("homeassistant") as here,
        pair.here.client("front-door", "yiagent/front-door/#") as front_door,
    ):
        for topic in ("yiagent/garage/state", "yiagent/garage/telemetry", "homeassistant/device/garage/config"):
            garage.publish(topic, "there")
        for topic in ("yiagent/front-door/stream/set", "yiagent/front-door/request", "homeassistant/status"):
            here.publish(topic, "here")
        # Both directions, behind all of these.
        there.publish("homeassistant/status", "flush")
        here.wait_for(lambda message: message.text == "flush", BRIDGED_S)
        front_door.publish("yiagent/front-door/log", "flush")
        there.wait_for(lambda message: message.topic == "yiagent/front-door/log" and message.text == "flush", BRIDGED_S)
        assert [message for message in here.messages if message.text == "there"] == []
        assert [message for message in there.messages if message.text == "here"] == []


def test_a_cameras_last_will_crosses_the_bridge(pair: Pair) -> None:
    """A connection that breaks is `offline` at the hub."""
    topic = "yiagent/front-door/availability"
    with pair.hub.client("homeassistant", topic) as home:
        camera = paho.Client(CallbackAPIVersion.VERSION2)
        camera.username_pw_set("front-door", PASSWORDS["front-door"])
        camera.will_set(topic, "offline", qos=1, retain=True)
        camera.connect("127.0.0.1", pair.here.port)
        camera.loop_start()
        camera.publish(topic, "online", qos=1, retain=True)
        home.wait_for(lambda message: message.text == "online", BRIDGED_S)
        connection = camera.socket()
        assert isinstance(connection, socket.socket)
        camera.reconnect_delay_set(60, 60)
        connection.shutdown(socket.SHUT_RDWR)
        home.wait_for(lambda message: message.text == "offline", BRIDGED_S)
        camera.disconnect()
        camera.loop_stop()


def test_a_hub_that_forgot_has_everything_again(pair: Pair) -> None:
    """After the restart of either, all that is kept here is kept there; nobody had to say it again."""
    with pair.here.client("front-door", "yiagent/front-door/#") as camera:
        for name in ("availability", "state"):
            camera.publish(f"yiagent/front-door/{name}", f"kept {name}", retain=True)
        pair.heard_at_the_hub("yiagent/front-door/state", "kept state")
        pair.hub.kill()
        pair.hub.start()
        for name in ("availability", "state"):
            pair.heard_at_the_hub(f"yiagent/front-door/{name}", f"kept {name}")
    pair.here.restart()
    pair.wait_until_bridged()
    with pair.here.client("front-door", "yiagent/front-door/#") as camera:
        camera.publish("yiagent/front-door/state", "said anew", retain=True)
        pair.heard_at_the_hub("yiagent/front-door/state", "said anew")


class ShippedServer(Peer):
    """nginx as config/nginx-rtmp.conf makes it."""

    def __init__(self, folder: Path) -> None:
        super().__init__("nginx", folder)
        self.port = free_port()
        self.http_port = free_port()

    def configuration(self) -> Path:
        temporary = "".join(
            f"{kind}_temp_path {self.folder / kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = replaced(
            (CONFIG / "nginx-rtmp.conf").read_text(),
            {
                # In the foreground and without workers of another user, who could not read this folder.
                r"^user www-data;$": "daemon off; master_process off;",
                r"^pid /run/nginx\.pid;$": f"pid {self.folder}/nginx.pid;",
                r"^error_log /var/log/nginx/error\.log;$": "error_log stderr;",
                # Other modules that this machine's nginx has been given are none of this test's concern.
                r"^include /etc/nginx/modules-enabled/\*\.conf;$": self._load_module(),
                r"^http \{$": "http { " + temporary,
                r"\blisten 1935;": f"listen 127.0.0.1:{self.port};",
                r"\b127\.0\.0\.1:8088\b": f"127.0.0.1:{self.http_port}",
            },
        )
        file = self.folder / "nginx.conf"
        file.write_text(text)
        return file

    def command(self) -> list[str]:
        return [find_program("nginx"), "-p", str(self.folder), "-c", str(self.configuration())]

    def is_ready(self) -> bool:
        return accepts(self.port) and accepts(self.http_port)

    def published(self) -> list[str]:
        """The names of the streams that are being published now."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.http_port}/stat", timeout=5) as answer:
            root = ElementTree.fromstring(answer.read())
        return [stream.findtext("name", "") for stream in root.iter("stream") if stream.find("publishing") is not None]

    def _load_module(self) -> str:
        for folder in MODULE_FOLDERS:
            if (path := Path(folder) / "ngx_rtmp_module.so").exists():
                return f"load_module {path};"
        return ""  # compiled in


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShippedServer]:
    with ShippedServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@contextmanager
def _publishing(server: ShippedServer, path: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [find_program("ffmpeg"), "-nostdin", "-v", "error", "-re", "-f", "lavfi"]
    command += ["-i", "testsrc2=size=160x120:rate=10", "-t", "20", "-c:v", "libx264", "-preset", "ultrafast"]
    command += ["-g", "10", "-f", "flv", f"rtmp://127.0.0.1:{server.port}/{path}"]
    with subprocess.Popen(dying_with_parent(command), stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_nginx_finds_no_fault_in_the_server_configuration(tmp_path: Path) -> None:
    """`nginx -t` passes, also with all that is commented out as an example."""
    server = ShippedServer(tmp_path)
    file = server.configuration()
    with_examples = re.sub(r"^( +)# (?=(\"~|hls|server \{|    |\}))", r"\1", file.read_text(), flags=re.MULTILINE)
    assert "\n            hls on;" in with_examples
    with_examples = with_examples.replace("/run/nginx-hls", f"{tmp_path}/hls")
    with_examples = with_examples.replace("listen 8089;", f"listen 127.0.0.1:{free_port()};")
    for text in (file.read_text(), with_examples):
        file.write_text(text)
        done = subprocess.run(
            [find_program("nginx"), "-t", "-p", tmp_path, "-c", file], capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 0, done.stderr
        assert "[warn]" not in done.stderr


def test_the_server_takes_the_key_in_its_configuration(server: ShippedServer) -> None:
    """A publisher with a key of the map goes live."""
    with _publishing(server, f"live/{SHIPPED_KEY}"):
        wait_until(lambda: server.published() == [SHIPPED_KEY], 10, "the stream")
    wait_until(lambda: server.published() == [], 10, "its end")


@pytest.mark.parametrize(
    "path",
    [
        "live/wrong",
        "live/" + SHIPPED_KEY.upper(),
        f"live/{SHIPPED_KEY}x",
        # The right key told beside the name that is published under.
        f"live/wrong?name={SHIPPED_KEY}",
        f"live/wrong&name={SHIPPED_KEY}",
        f"live?name={SHIPPED_KEY}/wrong",
        f"elsewhere/{SHIPPED_KEY}",
    ],
)
def test_the_server_refuses_every_other_key(server: ShippedServer, path: str) -> None:
    """A publisher with another key, or none of the map's as its stream's name, is sent away."""
    with _publishing(server, path) as publisher:
        assert publisher.wait(10) != 0
        assert server.published() == []


def test_every_script_passes_shellcheck() -> None:
    """No shell script has a construction that shellcheck warns of."""
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    files = [path for path in (REPOSITORY / "scripts").iterdir() if path.is_file() and path.suffix != ".py"]
    scripts = [path for path in files if re.match(rb"#!.*sh\b|# shellcheck ", path.read_bytes())]
    assert len(scripts) >= 5
    scripts += [REPOSITORY / ".ci" / "run", *(REPOSITORY / "sd" / "card").rglob("*.sh")]
    done = subprocess.run([shellcheck, "-x", *scripts], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_service_file_names_only_settings_that_systemd_knows() -> None:
    """`systemd-analyze verify` finds nothing to say, where there is one; the program it starts need not be there."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    unit = CONFIG / "yiagent.service"
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if "yiagent.service" in line and "not executable" not in line]
    assert said == []
