"""Who may speak to whom, and that nobody hears a secret: logins, access lists, TLS and redaction, on real mosquitto."""

import base64
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from tests.harness import WAIT_TIMEOUT_S, AgentProcess, wait_for_answer, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.certificates import Certificates
from tests.peers.ports import free_port

PASSWORD = "made up: p%41ss/wörd@1"
ONLY_OWN = """
pattern readwrite yiagent/%u/#
pattern write homeassistant/device/%u/config
pattern read homeassistant/status
user watcher
topic readwrite #
"""
DYNAMIC_SECURITY = "mosquitto_dynamic_security.so"
PLUGIN_FOLDERS = (Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of all tests here."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is entered here ends with the test, in reverse order."""
    with ExitStack() as stack:
        yield stack


def agent_with(folder: Path, port: int, **mqtt: Any) -> AgentProcess:
    """An agent with these keys of `mqtt`."""
    return AgentProcess(folder / "agent", broker_port=port, config={"mqtt": mqtt})


def let_in(broker: Broker) -> bool:
    """Whether the broker has accepted a connection of the agent's."""
    return " as yiagent-cam " in broker.log_text


def expect_refusal(agent: AgentProcess, broker: Broker, words: str) -> None:
    """The agent says these words as the reason why it cannot connect, once, and is not let in; it goes on trying."""
    with agent:
        agent.wait_for_log("Cannot connect to the MQTT broker at", WAIT_TIMEOUT_S)
        (line,) = [line for line in agent.log_text.splitlines() if "Cannot connect to the MQTT broker at" in line]
        assert " WARNING " in line
        assert words in line
        assert "trying again for ever" in line
        assert not let_in(broker)
        assert agent.alive
        assert agent.end() == 0
        assert "Traceback" not in agent.log_text


# Logins and access lists


def test_the_right_login_is_let_in(tmp_path: Path) -> None:
    """User and password, odd characters and all, open the broker; a command and its echo go through its access list."""
    users = {"cam": PASSWORD, "watcher": "w"}
    with (
        Broker(tmp_path / "broker", users=users, acl_text=ONLY_OWN) as broker,
        Listener(broker.port, username="watcher", password="w") as listener,
        agent_with(tmp_path, broker.port, username="cam", password=PASSWORD) as agent,
    ):
        agent.wait_until_online(listener)
        listener.publish(agent.topic("channel/set"), "sd")
        wait_for_state(listener, lambda state: state["channel"] == "sd")
        assert " WARNING " not in agent.log_text
        assert " ERROR " not in agent.log_text


def test_a_password_file_serves_as_well(tmp_path: Path) -> None:
    """The password may stand in a file of its own, with the line's end that editors leave."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    users = {"cam": PASSWORD, "watcher": "w"}
    with (
        Broker(tmp_path / "broker", users=users) as broker,
        Listener(broker.port, username="watcher", password="w") as listener,
        agent_with(tmp_path, broker.port, username="cam", password_file=f"{secret}") as agent,
    ):
        agent.wait_until_online(listener)


@pytest.mark.parametrize("login", [{}, {"username": "cam", "password": "wrong"}, {"username": "nobody"}])
def test_a_wrong_login_is_told_in_words(tmp_path: Path, login: dict[str, str]) -> None:
    """No login and a wrong one are refused by the broker; the log names the settings to look at, not the password."""
    with Broker(tmp_path / "broker", users={"cam": PASSWORD}) as broker:
        agent = agent_with(tmp_path, broker.port, **login)
        expect_refusal(agent, broker, "it refuses the user name or password (mqtt.username, mqtt.password)")
        assert "wrong" not in agent.full_log_text


def test_a_login_that_becomes_right_is_let_in(tmp_path: Path) -> None:
    """When the broker's side is mended, the agent connects by itself."""
    users = {"cam": "another", "watcher": "w"}
    with (
        Broker(tmp_path / "broker", users=users) as broker,
        Listener(broker.port, username="watcher", password="w") as listener,
        agent_with(tmp_path, broker.port, username="cam", password=PASSWORD) as agent,
    ):
        agent.wait_for_log("it refuses the user name or password", WAIT_TIMEOUT_S)
        broker.users["cam"] = PASSWORD
        broker.reload()
        agent.wait_until_online(listener, 2 * WAIT_TIMEOUT_S)


def test_what_the_user_may_not_publish_is_told(tmp_path: Path) -> None:
    """Where the access list refuses a publication, the log says so once for each topic; the rest goes on."""
    users = {"cam": PASSWORD, "watcher": "w"}
    acl = (
        "user watcher\ntopic readwrite #\nuser cam\n"
        "topic write yiagent/cam/availability\ntopic read yiagent/cam/#\ntopic read homeassistant/status\n"
    )
    with (
        Broker(tmp_path / "broker", users=users, acl_text=acl) as broker,
        Listener(broker.port, username="watcher", password="w") as listener,
        agent_with(tmp_path, broker.port, username="cam", password=PASSWORD) as agent,
    ):
        refused = "The MQTT broker does not let this user publish to yiagent/cam/"
        for name in ("state", "info"):
            agent.wait_for_log(f"{refused}{name}: check its access list", WAIT_TIMEOUT_S)
        agent.wait_for_log("publish to homeassistant/device/cam/config: check its access list", WAIT_TIMEOUT_S)
        assert listener.wait_for_topic(agent.topic("availability")).text == "online"
        for channel in ("sd", "auto"):
            listener.publish(agent.topic("channel/set"), channel)
        listener.publish(agent.topic("request"), '{"transaction":"1"}')
        agent.wait_for_log(f"{refused}response", WAIT_TIMEOUT_S)
        assert json.loads(agent.intent_bytes() or b"")["channel"] == "auto"
        assert agent.log_text.count(f"{refused}state") == 1
        assert agent.log_text.count(" ERROR ") == 4


def test_what_the_user_may_not_subscribe_to_is_told(tmp_path: Path) -> None:
    """Where the broker refuses the subscription, the log says that no command will be heard; telemetry goes on."""
    plugin = next((path for folder in PLUGIN_FOLDERS for path in folder.glob(f"**/{DYNAMIC_SECURITY}")), None)
    if plugin is None:
        pytest.skip("mosquitto's own access list refuses no subscription, and its plugin that does is not installed")
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps(_no_subscriptions_but_for("watcher", "w")))
    lines = ("log_type subscribe", f"plugin {plugin}", f"plugin_opt_config_file {rules}")
    with (
        Broker(tmp_path / "broker", extra_lines=lines) as broker,
        Listener(broker.port, username="watcher", password="w") as listener,
        agent_with(tmp_path, broker.port) as agent,
    ):
        for name in ("+/set", "request"):
            agent.wait_for_log(f"does not let this user listen to yiagent/cam/{name}", WAIT_TIMEOUT_S)
        agent.wait_until_online(listener)
        listener.wait_for_topic(agent.topic("telemetry"))


def _no_subscriptions_but_for(user: str, password: str) -> dict[str, Any]:
    """Rules for mosquitto's plugin: anyone may publish and receive, one user may subscribe."""
    salt, rounds = b"made-up-salt", 101
    derived = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    allow = [
        {"acltype": kind, "topic": "#", "priority": 0, "allow": True}
        for kind in ("subscribePattern", "publishClientSend", "publishClientReceive", "unsubscribePattern")
    ]
    return {
        "defaultACLAccess": {
            "publishClientSend": True,
            "publishClientReceive": True,
            "subscribe": False,
            "unsubscribe": True,
        },
        "clients": [
            {
                "username": user,
                "password": base64.b64encode(derived).decode(),
                "salt": base64.b64encode(salt).decode(),
                "iterations": rounds,
                "roles": [{"rolename": "all"}],
            }
        ],
        "groups": [],
        "roles": [{"rolename": "all", "acls": allow}],
    }


# TLS


def test_tls_with_an_authority_of_our_own(tmp_path: Path, certificates: Certificates) -> None:
    """With `ca_file` the broker's certificate is verified, and everything works as without."""
    tls = {"ca_file": f"{certificates.ca_file}"}
    with (
        Broker(tmp_path / "broker", tls=certificates) as broker,
        Listener(broker.port, host="localhost", tls=certificates) as listener,
    ):
        for host in ("localhost", "127.0.0.1"):
            position = listener.position
            with agent_with(tmp_path, broker.port, host=host, tls=tls) as agent:
                agent.wait_until_online(listener, after=position)
                listener.publish(agent.topic("channel/set"), "sd")
                wait_for_state(listener, lambda state: state["channel"] == "sd", after=position)
                assert agent.end() == 0


def test_tls_with_a_client_certificate(tmp_path: Path, certificates: Certificates) -> None:
    """A broker that asks for a certificate gets the agent's, and knows it by that name."""
    tls = {
        "ca_file": f"{certificates.ca_file}",
        "cert_file": f"{certificates.client.cert_file}",
        "key_file": f"{certificates.client.key_file}",
    }
    with (
        Broker(
            tmp_path / "broker",
            tls=certificates,
            require_client_certificate=True,
            extra_lines=["use_identity_as_username true"],
        ) as broker,
        Listener(broker.port, tls=certificates, client_certificate=certificates.client) as listener,
        agent_with(tmp_path, broker.port, tls=tls) as agent,
    ):
        agent.wait_until_online(listener)
        assert " as yiagent-cam (p5, c1, k10, u'client')" in broker.log_text


@pytest.mark.parametrize("pair", [None, "stranger_client"])
def test_a_missing_client_certificate_is_told(tmp_path: Path, certificates: Certificates, pair: str | None) -> None:
    """Where the broker wants a certificate that the agent has not, or not from the right authority, the log says so."""
    tls = {"ca_file": f"{certificates.ca_file}"}
    if pair is not None:
        stranger = certificates.stranger_client
        tls |= {"cert_file": f"{stranger.cert_file}", "key_file": f"{stranger.key_file}"}
    with Broker(tmp_path / "broker", tls=certificates, require_client_certificate=True) as broker:
        expect_refusal(agent_with(tmp_path, broker.port, tls=tls), broker, "mqtt.tls.cert_file")


@pytest.mark.parametrize(
    ("server", "ca", "words"),
    [
        ("stranger", "ca_file", "its certificate is not accepted: "),
        ("server", "stranger_ca_file", "its certificate is not accepted: "),
        ("expired", "ca_file", "its certificate is not accepted: certificate has expired"),
        ("other_host", "ca_file", "certificate is not valid for '127.0.0.1'"),
        ("server", None, "its certificate is not accepted: "),
    ],
)
def test_a_certificate_that_proves_nothing_is_not_accepted(
    tmp_path: Path, certificates: Certificates, server: str, ca: str | None, words: str
) -> None:
    """A stranger's, a wrong authority's, an old and another host's certificate: no connection, and words for each."""
    # Without `ca_file` a client's pair alone switches TLS on, and the machine's own authorities decide.
    pair = certificates.client
    own = {"cert_file": f"{pair.cert_file}", "key_file": f"{pair.key_file}"}
    tls = {"ca_file": f"{getattr(certificates, ca)}"} if ca is not None else own
    with Broker(tmp_path / "broker", tls=certificates, server_certificate=getattr(certificates, server)) as broker:
        expect_refusal(agent_with(tmp_path, broker.port, username="cam", password=PASSWORD, tls=tls), broker, words)
        assert "CONNECT" not in broker.log_text


def test_plain_towards_tls_is_told(tmp_path: Path, certificates: Certificates) -> None:
    """An agent without TLS at a port that wants it is asked the right question."""
    with Broker(tmp_path / "broker", tls=certificates) as broker:
        expect_refusal(agent_with(tmp_path, broker.port), broker, "does this port want TLS?")


def test_tls_towards_plain_is_told(tmp_path: Path, certificates: Certificates) -> None:
    """An agent with TLS at a port that does not speak it never falls back to plain text."""
    with Broker(tmp_path / "broker") as broker:
        agent = agent_with(tmp_path, broker.port, tls={"ca_file": f"{certificates.ca_file}"})
        expect_refusal(agent, broker, "(mqtt.tls)")


@pytest.mark.parametrize(
    ("host", "words"), [("no-such-host.invalid", "its name does not resolve"), ("127.0.0.1", "nothing answers at port")]
)
def test_a_broker_that_cannot_be_found_is_told(tmp_path: Path, host: str, words: str) -> None:
    """A name that does not resolve and a port where nothing listens each have words of their own."""
    with agent_with(tmp_path, free_port(), host=host) as agent:
        agent.wait_for_log(words, 2 * WAIT_TIMEOUT_S)
        assert agent.end() == 0


# Secrets

MQTT_PASSWORD = "mqtt/made@up:p%41ss"
CAMERA_PASSWORD = "camera-made@up/päss"
FILE_KEY = "file-key-0815"
SET_KEY = "set-key-4711?psk=query-secret-42"
URL_KEY = "url-key-2342"
REQUEST_KEY = "request-key-1337"
SERVER_PASSWORD = "server-made-up-pass"
TOKEN = "token-made-up-99"
STRAY_KEY = "stray-key-5150"
SECRETS = [
    *(MQTT_PASSWORD, CAMERA_PASSWORD, FILE_KEY, SET_KEY, "set-key-4711", "query-secret-42", URL_KEY, REQUEST_KEY),
    *(SERVER_PASSWORD, TOKEN, STRAY_KEY),
]


def _forms(secret: str) -> set[str]:
    """How a secret may be written where it leaks."""
    return {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}


def _leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if any(form in text for form in _forms(secret))]


def test_no_secret_is_ever_said(tmp_path: Path) -> None:
    """Whatever is set, refused or fails, no topic but the command's own and no line of the console holds a secret."""
    users = {"cam": MQTT_PASSWORD, "watcher": "w"}
    closed = free_port()
    config = {
        "source": {"sd": f"rtsp://127.0.0.1:{closed}/sd", "username": "viewer", "password": CAMERA_PASSWORD},
        "destination": {"server": f"rtmp://127.0.0.1:{closed}/live", "key": FILE_KEY},
        "stream": {"autostart": True},
        "mqtt": {"username": "cam", "password": MQTT_PASSWORD},
        "log": {"level": "debug"},
    }
    with (
        Broker(tmp_path / "broker", users=users) as broker,
        Listener(broker.port, username="watcher", password="w") as listener,
        AgentProcess(tmp_path / "agent", broker_port=broker.port, config=config) as agent,
    ):
        agent.wait_until_online(listener)
        # It fails at the camera, with everything ffmpeg has to say about that.
        wait_for_state(listener, lambda state: state["reason"] is not None)
        secret_server = f"rtmp://publisher:{SERVER_PASSWORD}@127.0.0.1:{closed}/live?token={TOKEN}&backup=1"
        for name, payload in (
            ("key/set", SET_KEY),
            ("server/set", secret_server),
            ("url/set", f"rtmp://publisher:{SERVER_PASSWORD}@127.0.0.1:{closed}/live/{URL_KEY}"),
            ("request", json.dumps({"key": REQUEST_KEY, "server": secret_server})),
            # Sent to the wrong place or in the wrong form.
            ("key/set", f"{STRAY_KEY}\n"),
            ("channel/set", STRAY_KEY),
            ("stream/set", STRAY_KEY),
            ("server/set", f"http://user:{STRAY_KEY}@host/live"),
            ("server/set", STRAY_KEY),
            ("url/set", f"rtmp://{STRAY_KEY} /live/{STRAY_KEY}"),
            ("request", f'{{"key": "{STRAY_KEY}"'),
            ("request", json.dumps({STRAY_KEY: STRAY_KEY})),
            ("request", json.dumps({"key": STRAY_KEY, "channel": STRAY_KEY})),
            ("restart/set", STRAY_KEY),
            ("restart/set", "PRESS"),
        ):
            listener.publish(agent.topic(name), payload)
        listener.publish(agent.topic("request"), '{"transaction":"last"}')
        answer = wait_for_answer(
            listener, agent.topic("response"), lambda answer: answer.get("transaction") == "last", WAIT_TIMEOUT_S
        )
        assert answer["state"]["server"] == f"rtmp://***@127.0.0.1:{closed}/live?token=***&backup=1"
        assert answer["state"]["key_set"] is True
        position = listener.position
        listener.wait_for(lambda message: message.topic.endswith("/telemetry"), WAIT_TIMEOUT_S, after=position)

        saved = agent.intent_bytes() or b""
        assert json.loads(saved)["key"] == REQUEST_KEY, "the wish itself is whole"
        assert json.loads(saved)["server"] == secret_server
        assert stat.S_IMODE(agent.intent_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(agent.state_dir.stat().st_mode) == 0o700
        assert not _leaks(" ".join(psutil.Process(agent.pid).cmdline()))

        position = listener.position
        agent.restart()
        agent.wait_until_online(listener, after=position)
        listener.publish(agent.topic("stream/set"), "OFF")
        wait_for_state(listener, lambda state: state["phase"] == "idle" and state["stream"] == "OFF", after=position)
        assert agent.end() == 0

        said = [m for m in listener.messages if not m.topic.endswith(("/set", "/request"))]
        assert {m.topic.rpartition("/")[2] for m in said} == {
            *("availability", "info", "state", "telemetry", "log", "response", "config")
        }
        for message in said:
            text = message.payload.decode()
            assert not _leaks(text), text
            decoded = json.dumps(json.loads(text), ensure_ascii=False) if text.startswith("{") else text
            assert not _leaks(decoded), text
        for line in agent.full_log_text.splitlines():
            assert not _leaks(line), line
        assert agent.full_log_text.count("Refused") >= 10


def test_nothing_of_the_state_folder_is_for_others(tmp_path: Path) -> None:
    """With a generous umask too, the folder and all files in it are the agent's alone."""
    before = os.umask(0)
    try:
        with (
            Broker(tmp_path / "broker") as broker,
            Listener(broker.port) as listener,
            AgentProcess(tmp_path / "agent", broker_port=broker.port) as agent,
        ):
            agent.wait_until_online(listener)
            listener.publish(agent.topic("key/set"), URL_KEY)
            wait_for_state(listener, lambda state: bool(state["key_set"]))
            agent.wait_until(agent.intent_file.exists, WAIT_TIMEOUT_S, "the intent file")
            announced = agent.state_dir / "announced.json"
            agent.wait_until(announced.exists, WAIT_TIMEOUT_S, "the record of what is announced")
            assert agent.end() == 0
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in agent.state_dir.iterdir()}
            assert modes == {"announced.json": 0o600, "intent.json": 0o600, "lock": 0o600}
            assert stat.S_IMODE(agent.state_dir.stat().st_mode) == 0o700
    finally:
        os.umask(before)
