"""`yiagent doctor` finds what is wrong with the real parts, says it as the agent would, and shows no secret."""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml

from tests.peers.broken_servers import BrokenServer, GarbageServer, HangUpServer, PlaintextServer, SilentServer
from tests.peers.broker import Broker, Listener, OldBrokerProxy
from tests.peers.camera import REPOSITORY, Audio, GstCamera, LiveCamera
from tests.peers.certificates import Certificates
from tests.peers.ports import free_port
from tests.peers.process import find_program
from tests.peers.rtmp import RtmpServer
from yiagent.doctor import machine
from yiagent.doctor.findings import Findings
from yiagent.intent import FILE_NAME, Intent, render_intent
from yiagent.model import Channel
from yiagent.redact import Secret

DEVICE = "front"
CAMERA_PASSWORD = "c4m/p:ss word"
BROKER_PASSWORD = "br0ker:secret"
WRONG_PASSWORD = "wr0ng-guess"
KEY = "str3am-key?psk=t0ken9"
SAVED_KEY = "saved-k3y-of-old"
URL_PASSWORD = "in-the-url-7"
SECRETS = (CAMERA_PASSWORD, BROKER_PASSWORD, WRONG_PASSWORD, "str3am-key", "t0ken9", SAVED_KEY, URL_PASSWORD)
DOCTOR_TIMEOUT_S = 40.0
LINE = re.compile(r"(ok|FAIL|warn|skip) +([^:]+): (.+)")


@dataclass(frozen=True)
class Visit:
    """What one run of the doctor said: the exit status, and each line's mark, subject and text."""

    status: int
    lines: list[tuple[str, str, str]]

    def of(self, what: str) -> str:
        """`mark text` of the only line about this."""
        found = [f"{mark} {text}" for mark, subject, text in self.lines if subject == what]
        assert len(found) == 1, self.lines
        return found[0]

    @property
    def failed(self) -> list[str]:
        """What did not go well."""
        return [what for mark, what, _ in self.lines if mark == "FAIL"]


Doctor = Callable[..., Visit]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the peers."""
    return tmp_path_factory.mktemp("doctor")


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Certificates:
    """The certificates of all."""
    return Certificates(folder / "certificates")


@pytest.fixture(scope="module")
def camera(folder: Path) -> Iterator[LiveCamera]:
    """A camera that asks for a login."""
    with LiveCamera(folder / "camera", gop_s=1, login=f"viewer:{CAMERA_PASSWORD}") as camera:
        yield camera


@pytest.fixture(scope="module")
def server(folder: Path, certificates: Certificates) -> Iterator[RtmpServer]:
    """An RTMP server with a good certificate, and one from a stranger."""
    with RtmpServer(folder / "server", tls=[certificates.server, certificates.stranger]) as server:
        yield server


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[Broker]:
    """A broker on which each user has its own topics; `watcher` may only read."""
    users = {DEVICE: BROKER_PASSWORD, "watcher": BROKER_PASSWORD}
    acl = "pattern readwrite yiagent/%u/#\nuser watcher\ntopic read yiagent/#\n"
    with Broker(folder / "broker", users=users, acl_text=acl) as broker:
        yield broker


@pytest.fixture
def well(camera: LiveCamera, server: RtmpServer, broker: Broker, tmp_path: Path) -> dict[str, Any]:
    """Settings with which everything is fine, for each test to spoil."""
    state = tmp_path / "state"
    state.mkdir()
    return {
        "device": {"id": DEVICE},
        "source": {"sd": camera.sd_url, "username": "viewer", "password": CAMERA_PASSWORD},
        "destination": {"server": server.url(), "key": KEY},
        "mqtt": {"host": "127.0.0.1", "port": broker.port, "username": DEVICE, "password": BROKER_PASSWORD},
        "state_dir": f"{state}",
    }


@pytest.fixture
def ill(well: dict[str, Any]) -> dict[str, Any]:
    """Settings for a look at one thing alone: no broker, no server, and a camera that nothing answers for."""
    well["source"]["sd"] = f"rtsp://127.0.0.1:{free_port()}/ch0_1.h264"
    return {name: value for name, value in well.items() if name not in ("mqtt", "destination")}


@pytest.fixture
def doctor(certificates: Certificates, tmp_path: Path) -> Doctor:
    """Runs the doctor on settings; whatever it says, it shows no secret and no traceback."""

    def run(settings: dict[str, Any], *, code: str = "", mode: int = 0o600) -> Visit:
        file = tmp_path / "yiagent.yaml"
        file.write_text(yaml.safe_dump(settings))
        file.chmod(mode)
        program = ["-c", code, f"{file}"] if code else ["-m", "yiagent", "doctor", "-c", f"{file}"]
        result = subprocess.run(
            [sys.executable, *program],
            cwd=REPOSITORY,
            env={**os.environ, "SSL_CERT_FILE": f"{certificates.ca_file}"},
            capture_output=True,
            text=True,
            timeout=DOCTOR_TIMEOUT_S,
            check=False,
        )
        assert result.stderr == ""
        assert not [secret for secret in SECRETS if secret in result.stdout]
        lines = [LINE.fullmatch(line) for line in result.stdout.splitlines()]
        assert all(lines), result.stdout
        return Visit(result.returncode, [(line[1], line[2], line[3]) for line in lines if line is not None])

    return run


def test_when_all_is_well_it_says_so(
    well: dict[str, Any], doctor: Doctor, camera: LiveCamera, server: RtmpServer, broker: Broker
) -> None:
    """Every part has its lines in a fixed order, the status is 0, and nothing is published to the server."""
    well["source"]["hd"] = camera.hd_url
    well["destination"]["server"] = server.url(tls=True)
    with Listener(broker.port, "yiagent/#", username=DEVICE, password=BROKER_PASSWORD) as listener:
        visit = doctor(well)
        heard = listener.wait_for_topic(f"yiagent/{DEVICE}/response")
        assert not heard.retain
        assert {message.topic for message in listener.messages} == {heard.topic}
    assert visit.status == 0
    assert [what for _, what, _ in visit.lines] == [
        *("configuration", "ffmpeg", "ffmpeg's parts", "camera hd", "camera hd sound", "camera sd", "camera sd sound"),
        *("server", "stream key", "broker", "broker, commands", "broker, answers"),
        *("state folder", "saved wish", "agent", "memory", "clock"),
    ]
    assert visit.of("camera hd").startswith("ok H.264 1280x720, sound AAC")
    assert visit.of("camera sd").startswith("ok H.264 640x360, sound AAC")
    assert "copied" in visit.of("camera sd sound")
    assert re.match(r"ok rtmps://.*1 address, TLS with a good certificate, RTMP answers", visit.of("server"))
    assert visit.of("stream key") == "ok set (from the configuration)"
    assert "MQTT 5" in visit.of("broker")
    assert server.streams() == []
    assert "publish" not in server.log_text
    assert list(Path(well["state_dir"]).iterdir()) == []


# The camera


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": WRONG_PASSWORD}, "FAIL rtsp://.*refused the user name or password"),
        ({"sd": "/ch0_7.h264"}, "FAIL .*has no stream at this path"),
        ({"sd": f"rtsp://127.0.0.1:{free_port()}/x"}, "FAIL .*Nothing answers at the camera's RTSP address"),
        ({"sd": "rtsp://no-such-host.invalid/x"}, "FAIL .*The camera's name does not resolve"),
    ],
)
def test_what_is_wrong_with_the_camera(
    well: dict[str, Any], doctor: Doctor, camera: LiveCamera, change: dict[str, str], words: str
) -> None:
    """The doctor gives the agent's own reasons; the other parts stay as well as they are."""
    if change.get("sd", "").startswith("/"):
        change = {"sd": camera.sd_url.replace("/ch0_1.h264", change["sd"])}
    well["source"].update(change)
    visit = doctor(well)
    assert visit.status == 1
    assert visit.failed == ["camera sd"]
    assert re.match(words, visit.of("camera sd"))


def test_a_login_in_the_url_is_used_and_hidden(ill: dict[str, Any], doctor: Doctor, tmp_path: Path) -> None:
    """Another camera's digest login, its password inside the address, right and wrong."""
    with GstCamera(tmp_path / "camera", login=f"viewer:{URL_PASSWORD}") as camera:
        ill["source"] = {
            "hd": camera.hd_url.replace("://", f"://viewer:{URL_PASSWORD}@"),
            "sd": camera.hd_url.replace("://", f"://viewer:{WRONG_PASSWORD}@"),
        }
        visit = doctor(ill)
    assert visit.of("camera hd").startswith("ok H.264 640x360")
    assert "rtsp://***@127.0.0.1" in visit.of("camera sd")
    assert visit.failed == ["camera sd"]


@pytest.mark.parametrize(
    ("sound", "setting", "words"),
    [
        ("pcma", "auto", "ok G.711 .* becomes AAC"),
        ("pcma", "copy", "warn G.711 .*silence"),
        ("none", "auto", "ok a silent AAC track"),
        ("none", "aac", "FAIL The camera sends no sound. Set stream.audio"),
    ],
)
def test_what_becomes_of_the_sound(
    ill: dict[str, Any], doctor: Doctor, camera: LiveCamera, sound: Audio, setting: str, words: str
) -> None:
    """The line tells what stream.audio makes of what the camera sends."""
    ill["source"]["sd"] = camera.sd_url
    ill["stream"] = {"audio": setting}
    camera.set_audio(sound)
    try:
        visit = doctor(ill)
    finally:
        camera.set_audio("aac")
    assert re.match(words, visit.of("camera sd sound"))
    assert visit.status == int(words.startswith("FAIL"))


def test_an_h265_camera_needs_an_ffmpeg_that_can(ill: dict[str, Any], doctor: Doctor, tmp_path: Path) -> None:
    """Before 6.1 it cannot be streamed; after, it can where the server takes it. Its size needs a second look."""
    with LiveCamera(tmp_path / "camera", video="h265", audio="none", sprop=False) as camera:
        ill["source"] = {"hd": camera.hd_url}
        visit = doctor(ill)
    assert "H.265 1280x720" in visit.of("camera hd")
    if "H.265 into RTMP: no" in visit.of("ffmpeg"):
        assert re.match(r"FAIL .*sends [\w.]+, which this ffmpeg cannot put into RTMP", visit.of("camera hd"))
        assert visit.status == 1
    else:
        assert visit.of("camera hd").startswith("warn")
        assert visit.status == 0


# The server


@pytest.mark.parametrize(
    ("server_url", "words"),
    [
        ("rtmp://127.0.0.1:{free}/live", "Nothing answers at the server's address"),
        ("rtmp://no-such-host.invalid/live", "The server's name does not resolve"),
        ("rtmps://127.0.0.1:{stranger}/live", "certificate is not trusted.*unable to get local issuer"),
        ("rtmp://127.0.0.1:{garbage}/live", "does not speak RTMP"),
        ("rtmp://127.0.0.1:{hangup}/live", "does not speak RTMP"),
        ("rtmp://127.0.0.1:{silent}/live", "did not answer in time"),
        ("rtmps://127.0.0.1:{plain}/live", "refused the encrypted connection, or does not speak TLS"),
        # Whether the hang-up comes before or after the first word of TLS is a race; both sentences are right.
        ("rtmps://127.0.0.1:{hangup}/live", "the encrypted connection"),
    ],
)
def test_what_is_wrong_with_the_server(
    ill: dict[str, Any], doctor: Doctor, server: RtmpServer, server_url: str, words: str
) -> None:
    """Each fault is told apart by a connection that says no more than hello."""
    broken: dict[str, BrokenServer] = {
        "garbage": GarbageServer(),
        "hangup": HangUpServer(),
        "silent": SilentServer(),
        "plain": PlaintextServer(),
    }
    with ExitStack() as stack:
        ports = {name: stack.enter_context(peer).port for name, peer in broken.items()}
        url = server_url.format(free=free_port(), stranger=server.rtmps_ports[1], **ports)
        ill["destination"] = {"server": url.replace("://", f"://user:{URL_PASSWORD}@"), "key": KEY}
        visit = doctor(ill)
    assert visit.status == 1
    assert visit.failed == ["camera sd", "server"]
    assert re.match(rf"FAIL rtmps?://\*\*\*@.*{words}", visit.of("server"))


# The broker


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"port": free_port()}, "nothing answers at port"),
        ({"host": "no-such-host.invalid"}, "does not resolve"),
        ({"password": WRONG_PASSWORD}, "refuses the user name or password"),
    ],
)
def test_what_is_wrong_with_the_broker(
    ill: dict[str, Any], well: dict[str, Any], doctor: Doctor, change: dict[str, Any], words: str
) -> None:
    """The words are the agent's, and nothing more is tried on a broker that lets nobody in."""
    visit = doctor({**ill, "mqtt": {**well["mqtt"], **change}})
    assert visit.status == 1
    assert visit.failed == ["camera sd", "broker"]
    assert words in visit.of("broker")
    assert not [what for _, what, _ in visit.lines if what.startswith("broker,")]


def test_a_user_without_rights_is_told(ill: dict[str, Any], well: dict[str, Any], doctor: Doctor) -> None:
    """By MQTT 5 the broker says that a message was refused."""
    visit = doctor({**ill, "mqtt": {**well["mqtt"], "username": "watcher"}})
    assert visit.failed == ["camera sd", "broker, answers"]
    assert re.match(r"FAIL .*not let this user publish to yiagent/front/response", visit.of("broker, answers"))


@pytest.mark.parametrize(("user", "words"), [(DEVICE, "ok may publish"), ("watcher", "warn it cannot be told")])
def test_an_old_broker_is_believed_by_what_comes_back(
    ill: dict[str, Any], well: dict[str, Any], doctor: Doctor, broker: Broker, user: str, words: str
) -> None:
    """By MQTT 3.1.1 a refused message is silence: only one that comes back proves anything."""
    with OldBrokerProxy(broker.port) as old:
        visit = doctor({**ill, "mqtt": {**well["mqtt"], "port": old.port, "username": user}})
    assert "MQTT 3.1.1" in visit.of("broker")
    assert visit.of("broker, answers").startswith(words)
    assert visit.failed == ["camera sd"]


def test_a_refused_subscription_is_told(ill: dict[str, Any], doctor: Doctor, tmp_path: Path) -> None:
    """mosquitto's access list refuses none, so this is its other kind of rules."""
    plugin = next(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"), None)
    if plugin is None:
        pytest.skip("mosquitto came without its plugin for rules")
    rules = tmp_path / "rules.json"
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    rules.write_text(json.dumps({"defaultACLAccess": access}))
    lines = [f"plugin {plugin}", f"plugin_opt_config_file {rules}"]
    with Broker(tmp_path / "broker", extra_lines=lines) as broker:
        visit = doctor({**ill, "mqtt": {"host": "127.0.0.1", "port": broker.port}})
    assert visit.failed == ["camera sd", "broker, commands"]
    assert "listen to yiagent/front/+/set and yiagent/front/request" in visit.of("broker, commands")


# The state folder


def test_the_saved_wish_wins(well: dict[str, Any], doctor: Doctor, server: RtmpServer) -> None:
    """What was commanded is what is looked at, it stays as it was, and a running agent is seen by its lock."""
    state = Path(well["state_dir"])
    saved = render_intent(Intent(True, server.url("live/instance"), Secret(SAVED_KEY), Channel.SD))
    (state / FILE_NAME).write_bytes(saved)
    well["destination"]["server"] = "rtmp://no-such-host.invalid/live"
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        visit = doctor(well)
    assert visit.status == 0
    assert "live/instance (set by command)" in visit.of("server")
    assert visit.of("stream key") == "ok set (set by command)"
    assert visit.of("saved wish") == "ok by command: stream ON, channel sd, a server, a key"
    assert visit.of("agent").startswith("ok one is running")
    assert (state / FILE_NAME).read_bytes() == saved
    assert {file.name for file in state.iterdir()} == {FILE_NAME, "lock"}


def test_a_damaged_wish_and_no_agent(ill: dict[str, Any], doctor: Doctor) -> None:
    """A wish that cannot be read is told and left where it is; a lock that nobody holds is no agent."""
    state = Path(ill["state_dir"])
    (state / FILE_NAME).write_text("{")
    (state / "lock").touch()
    visit = doctor(ill)
    assert visit.failed == ["camera sd", "saved wish"]
    assert "damaged" in visit.of("saved wish")
    assert visit.of("agent").startswith("skip none is running")
    assert visit.of("server").startswith("skip")
    assert (state / FILE_NAME).read_text() == "{"


def test_a_state_folder_that_cannot_be(ill: dict[str, Any], doctor: Doctor, tmp_path: Path) -> None:
    """Below a file no folder can be made."""
    (tmp_path / "file").touch()
    visit = doctor({**ill, "state_dir": f"{tmp_path}/file/state"})
    assert visit.status == 1
    assert re.match(r"FAIL .*cannot be (made|written)", visit.of("state folder"))


def test_a_state_folder_that_is_not_there_yet_is_left_to_the_agent(
    ill: dict[str, Any], doctor: Doctor, tmp_path: Path
) -> None:
    """Made by the doctor it could belong to root, and the agent could not write there."""
    visit = doctor({**ill, "state_dir": f"{tmp_path}/new/state"})
    assert visit.of("state folder").startswith("ok")
    assert not (tmp_path / "new").exists()


# ffmpeg, and the doctor itself


def test_without_ffmpeg_the_rest_is_looked_at(well: dict[str, Any], doctor: Doctor) -> None:
    """The camera's door can be knocked at without it."""
    visit = doctor({**well, "ffmpeg": "no-such-ffmpeg"})
    assert visit.status == 1
    assert visit.failed == ["ffmpeg"]
    assert "no program “no-such-ffmpeg”" in visit.of("ffmpeg")
    assert visit.of("camera sd").startswith("skip")
    assert visit.of("server").startswith("ok")


def test_an_ffmpeg_that_is_none_is_told(ill: dict[str, Any], doctor: Doctor, tmp_path: Path) -> None:
    """A program of another kind is not mistaken for it."""
    visit = doctor({**ill, "ffmpeg": find_program("true")})
    assert "does not say that it is ffmpeg" in visit.of("ffmpeg")


def test_an_ffmpeg_without_its_parts_is_told(ill: dict[str, Any], doctor: Doctor, tmp_path: Path) -> None:
    """What is needed and missing fails; what would only be needed for another server is mentioned."""
    small = tmp_path / "small-ffmpeg"
    small.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        "*encoder=aac*) echo \"Codec 'aac' is not recognized by FFmpeg.\" ;;\n"
        f'*-protocols*) {find_program("ffmpeg")} "$@" | grep -v rtmps ;;\n'
        f'*) exec {find_program("ffmpeg")} "$@" ;;\n'
        "esac\n"
    )
    small.chmod(0o755)
    visit = doctor({**ill, "ffmpeg": f"{small}"})
    parts = [(mark, text) for mark, what, text in visit.lines if what == "ffmpeg's parts"]
    assert [mark for mark, _ in parts] == ["FAIL", "warn"]
    assert "an AAC encoder" in parts[0][1]
    assert "RTMPS" in parts[1][1]


EXAMINE = """
import sys
import time
from pathlib import Path
import yiagent.doctor
from yiagent.config import load_config
file = Path(sys.argv[1])
{before}
sys.exit(yiagent.doctor.examine(load_config(file), file))
"""


@pytest.mark.parametrize(("mode", "mark"), [(0o644, "warn"), (0o600, "ok")])
def test_a_file_with_passwords_that_all_may_read_is_told(
    ill: dict[str, Any], doctor: Doctor, mode: int, mark: str
) -> None:
    """Only the mode makes the difference."""
    visit = doctor(ill, code=EXAMINE.format(before=""), mode=mode)
    assert visit.of("configuration").startswith(mark)


def test_a_bug_in_one_check_is_one_line(ill: dict[str, Any], doctor: Doctor) -> None:
    """It is told by its kind alone, for its text could hold anything, and the other checks go on."""
    spoil = f"def spoil(**_): raise ValueError({BROKER_PASSWORD!r})\nyiagent.doctor.examine_memory = spoil"
    visit = doctor(ill, code=EXAMINE.format(before=spoil))
    assert visit.failed == ["camera sd", "memory"]
    assert "ValueError" in visit.of("memory")
    assert visit.of("clock").startswith("ok")


@pytest.mark.parametrize(
    ("available", "mark", "words"),
    [(3_000_000, "warn", "hardly fit. End"), (6_000_000, "warn", "stream.channel to sd"), (9_000_000, "ok", "for HD")],
)
def test_memory_is_held_against_what_ffmpeg_took(
    monkeypatch: pytest.MonkeyPatch, available: int, mark: str, words: str
) -> None:
    """On a camera's few megabytes HD is advised against before the kernel ends something."""
    monkeypatch.setattr(machine, "_ffmpeg_bytes", lambda: 4_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=36_000_000))
    monkeypatch.setattr(machine, "memory_available_kb", lambda: available // 1024)
    findings = Findings()
    machine.examine_memory(ffmpeg_ran=True, findings=findings)
    assert [finding.mark for finding in findings.lines] == [mark]
    assert words in findings.lines[0].detail


def test_memory_that_nothing_tells_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc/meminfo there is no advice, and no error."""
    monkeypatch.setattr(machine, "memory_available_kb", lambda: None)
    findings = Findings()
    machine.examine_memory(ffmpeg_ran=True, findings=findings)
    assert [finding.mark for finding in findings.lines] == ["warn"]


@pytest.mark.parametrize(("matters", "mark"), [(True, "FAIL"), (False, "warn")])
def test_a_clock_that_was_never_set_is_told(monkeypatch: pytest.MonkeyPatch, matters: bool, mark: str) -> None:
    """In 1970 no certificate is valid yet; without encryption only the times are wrong."""
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((1970, 1, 1, 0, 3, 0, 3, 1, 0)))
    findings = Findings()
    machine.examine_clock(certificates_matter=matters, findings=findings)
    assert [finding.mark for finding in findings.lines] == [mark]
