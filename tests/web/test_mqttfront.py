"""The broker set on the page: tried, kept, taken back; the stream never hears of it, and no password is shown."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.harness import WAIT_TIMEOUT_S, AgentProcess
from tests.peers.broken_servers import HangUpServer, SilentServer
from tests.peers.broker import Broker, Listener
from tests.peers.camera import REPOSITORY, LiveCamera
from tests.peers.certificates import Certificates
from tests.peers.ports import free_port
from tests.peers.process import wait_until
from tests.peers.rtmp import RtmpServer
from tests.test_mqtt import STOP_WITHIN_S
from tests.web.here import Here
from tests.web.visitor import PASSWORD, Reply, Visitor
from yiagent import redact
from yiagent.brokerchoice import BrokerChoice
from yiagent.redact import Secret

FIRST_WORD = "first-broker-w0rd"
SECOND_WORD = "second-broker-w0rd"
WRONG_WORD = "wrong-broker-w0rd"
WORDS = (FIRST_WORD, SECOND_WORD, WRONG_WORD, PASSWORD)
PUBLIC = {"host", "port", "username", "password_set", "tls", "chosen_here", "configured_host", "connected", "message"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The configuration's broker."""
    with Broker(tmp_path_factory.mktemp("first"), users={"cam": FIRST_WORD}) as broker:
        yield broker


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The one that is set on the page."""
    with Broker(tmp_path_factory.mktemp("second"), users={"other": SECOND_WORD}) as broker:
        yield broker


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, any_certificates: Certificates) -> Iterator[Broker]:
    """One that speaks TLS alone."""
    folder = tmp_path_factory.mktemp("guarded")
    with Broker(folder, users={"other": SECOND_WORD}, tls=any_certificates) as broker:
        yield broker


def login(broker: Broker, user: str = "other", word: str = SECOND_WORD, **fields: Any) -> dict[str, Any]:
    """What is typed on the page."""
    return {"host": "127.0.0.1", "port": broker.port, "username": user, "password": word, **fields}


@contextmanager
def listening(broker: Broker, device: str, *, tls: Certificates | None = None) -> Iterator[Listener]:
    """Somebody who hears all of one device."""
    [(user, word)] = broker.users.items()
    with Listener(broker.port, f"yiagent/{device}/#", username=user, password=word, tls=tls) as listener:
        yield listener


@dataclass
class Home:
    """An agent with a page; every answer is kept."""

    agent: AgentProcess
    visitor: Visitor
    device: str
    replies: list[Reply]

    def broker(self) -> dict[str, Any]:
        """What the page shows of the broker."""
        reply = self.visitor.get("/api/broker")
        self.replies.append(reply)
        assert set(reply.json) == PUBLIC
        return dict(reply.json)

    def post(self, path: str, document: Any = None) -> Reply:
        """Send something."""
        reply = self.visitor.post(path, document)
        self.replies.append(reply)
        return reply

    def wait_for_broker(self, **expected: Any) -> dict[str, Any]:
        """What the page shows, once it shows this."""
        wait_until(
            lambda: expected.items() <= self.broker().items(), WAIT_TIMEOUT_S, f"{expected}, not {self.broker()}"
        )
        return self.broker()

    @property
    def file(self) -> Path:
        """Where the choice is kept."""
        return self.agent.state_dir / "broker.json"

    def check_secrets(self, *listeners: Listener) -> None:
        """No password stands in an answer, in the log or on a topic."""
        shown = [self.agent.full_log_text, *(f"{reply.headers} {reply.body.decode()}" for reply in self.replies)]
        shown += [self.visitor.get("/api/log").body.decode()]
        shown += [f"{message.payload!r}" for listener in listeners for message in listener.messages]
        assert [word for word in WORDS if word in "\n".join(shown)] == []


@contextmanager
def home(folder: Path, mqtt: dict[str, Any], **config: Any) -> Iterator[Home]:
    """An agent that logs all there is, with a page."""
    port = free_port()
    device = f"home-{port}"
    merged = {
        "device": {"id": device},
        "mqtt": mqtt,
        "web": {"enabled": True, "host": "127.0.0.1", "port": port, "password": PASSWORD},
        "log": {"level": "debug"},
        **config,
    }
    with AgentProcess(folder / "agent", config=merged) as agent:
        visitor = Visitor(port)
        visitor.wait_until_served()
        yield Home(agent, visitor, device, [])
        assert "Traceback" not in agent.full_log_text


def configured(broker: Broker, word: str = FIRST_WORD) -> dict[str, Any]:
    """The configuration's section."""
    return {"host": "127.0.0.1", "port": broker.port, "username": "cam", "password": word}


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory, first: Broker) -> Iterator[Home]:
    """An agent on its configuration's broker, on which nothing is changed."""
    with home(tmp_path_factory.mktemp("settled"), configured(first)) as settled:
        settled.wait_for_broker(connected=True)
        yield settled
        settled.check_secrets()


# A try


@pytest.mark.parametrize(
    ("case", "accepted", "words"),
    [
        ("right", True, r"lets this agent in \(MQTT 5\)"),
        ("kept", True, r"lets this agent in"),
        ("wrong", False, "refuses the user name or password"),
        ("nobody", False, "refuses the user name or password"),
        ("away", False, "nothing answers at port"),
        ("nameless", False, "does not resolve"),
        ("hangs up", False, "does this port want TLS"),
        ("wants tls", False, "TLS"),
        ("no tls", False, "does this port speak TLS|no encrypted connection"),
        ("stranger", False, "certificate is not accepted"),
    ],
)
def test_a_try_gives_the_brokers_own_answer(
    settled: Home, first: Broker, second: Broker, guarded: Broker, case: str, accepted: bool, words: str
) -> None:
    """It changes nothing: not the connection that is there, and no file."""
    with HangUpServer() as rude:
        document: dict[str, Any] = {
            "right": login(second),
            "kept": {},
            "wrong": login(second, word=WRONG_WORD),
            "nobody": {"host": "127.0.0.1", "port": second.port, "username": None, "password": None},
            "away": {"port": free_port(), "password": WRONG_WORD},
            "nameless": {"host": "no-such-host.invalid", "password": WRONG_WORD},
            "hangs up": {"port": rude.port, "password": WRONG_WORD},
            "wants tls": login(guarded),
            "no tls": login(second, tls=True),
            # The configuration names no authority of its own, and this one is not the machine's.
            "stranger": login(guarded, tls=True),
        }[case]
        connections = first.log_text.count(f"as yiagent-{settled.device} ")
        before = settled.broker()
        reply = settled.post("/api/broker/try", document)
        assert reply.status == 200
        assert set(reply.json) == {"accepted", "message"}
        assert reply.json["accepted"] == accepted
        assert re.search(words, reply.json["message"]), reply.json
        assert settled.broker() == before
        assert before["connected"]
        assert not settled.file.exists()
        assert first.log_text.count(f"as yiagent-{settled.device} ") == connections, "its connection stayed"


def test_one_try_at_a_time(settled: Home) -> None:
    """A broker that takes its time to answer is not asked by everyone at once."""
    with SilentServer() as silent, ThreadPoolExecutor(1) as beside:
        slow = beside.submit(settled.post, "/api/broker/try", {"port": silent.port, "password": WRONG_WORD})
        wait_until(lambda: silent.accepted > 0, WAIT_TIMEOUT_S, "the first try")
        reply = settled.post("/api/broker/try", {})
        assert (reply.status, reply.code) == (400, "not_available")
        assert "being tried already" in reply.json["error"]["message"]
        silent.stop()
        assert not slow.result(WAIT_TIMEOUT_S).json["accepted"]


@pytest.mark.parametrize("path", ["/api/broker", "/api/broker/try"])
@pytest.mark.parametrize(
    ("document", "code", "field"),
    [
        ({"host": "mqtt://x"}, "invalid_value", "host: "),
        ({"port": "1883"}, "invalid_value", "port: "),
        ({"host": "evil.example"}, "invalid_value", "password: "),
        ({"port": 1}, "invalid_value", "password: "),
        ({"ca_file": "/etc/shadow"}, "unknown_field", ""),
        (b"[]", "not_json", ""),
        (b"", "not_json", ""),
    ],
)
def test_what_cannot_be_a_broker_is_refused(settled: Home, path: str, document: Any, code: str, field: str) -> None:
    """By field, and nothing is tried or kept."""
    before = settled.broker()
    reply = settled.post(path, document)
    assert (reply.status, reply.code) == (400, code)
    assert reply.json["error"]["message"].startswith(field)
    assert settled.broker() == before
    assert not settled.file.exists()


def test_tries_push_no_secret_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many words are tried, the stream key stays masked; a chosen broker's word does for ever."""
    monkeypatch.setattr(redact, "REMEMBERED_FORMS", 6)

    async def play() -> None:
        page = Here(tmp_path)
        page.redactor.learn("the-stream-key")
        port = free_port()
        for number in range(8):
            choice = BrokerChoice("127.0.0.1", port, "u", Secret(f"tried-word-{number}"), tls=False)
            assert not (await page.mqtt.attempt(choice)).accepted
        await page.mqtt.choose(BrokerChoice("127.0.0.1", port, "u", Secret("chosen-word"), tls=False))
        page.journal.info("the-stream-key and chosen-word")
        for number in range(8):
            page.redactor.learn(f"later-key-{number}")
        page.journal.info("chosen-word again")
        assert page.lines[-2:] == ["*** and ***", "*** again"]

    asyncio.run(play())


# A choice


def test_a_choice_is_kept_and_taken_back(
    first: Broker, second: Broker, any_camera: LiveCamera, any_server: RtmpServer, tmp_path: Path
) -> None:
    """Said good-bye to the old, everything told to the new, through a restart, while the same ffmpeg streams on."""
    stream: dict[str, Any] = {
        "source": {"sd": any_camera.sd_url},
        "destination": {"server": any_server.url(), "key": "choice"},
        "stream": {"autostart": True},
    }
    with home(tmp_path, configured(first), **stream) as at:
        device = at.device
        with listening(first, device) as old, listening(second, device) as new:
            at.agent.wait_until_online(old)
            any_server.wait_for_stream("choice", timeout_s=WAIT_TIMEOUT_S)
            wait_until(lambda: at.visitor.get("/healthz").status == 200, WAIT_TIMEOUT_S, "the stream")
            [ffmpeg] = at.agent.ffmpegs()
            position = old.position

            saved = at.post("/api/broker", login(second))
            assert saved.status == 200
            assert {name: saved.json[name] for name in ("host", "port", "username", "chosen_here", "password_set")} == {
                "host": "127.0.0.1",
                "port": second.port,
                "username": "other",
                "chosen_here": True,
                "password_set": True,
            }
            assert at.file.stat().st_mode & 0o777 == 0o600
            topic = at.agent.topic("availability")
            left = old.wait_for(
                lambda m: m.topic == topic and m.text == "offline", WAIT_TIMEOUT_S, "offline", after=position
            )
            assert left.text == "offline"
            assert at.agent.wait_until_online(new)["phase"] == "streaming"
            at.wait_for_broker(connected=True, message=None)
            with listening(second, device) as late:
                for name in ("availability", "info", "state"):
                    assert late.wait_for_topic(at.agent.topic(name)).retain
            with listening(first, device) as late:
                heard = late.wait_for_topic(topic)
                assert (heard.text, heard.retain) == ("offline", True)
            new.publish(at.agent.topic("request"), '{"transaction":"new"}')
            new.wait_for(lambda m: m.topic == at.agent.topic("response") and b'"new"' in m.payload, WAIT_TIMEOUT_S)
            assert [child.pid for child in at.agent.ffmpegs()] == [ffmpeg.pid]

            position = new.position
            at.agent.restart()
            at.visitor.wait_until_served()
            at.agent.wait_until_online(new, after=position)
            assert "wins over the file's" in at.agent.log_text
            assert at.wait_for_broker(connected=True)["chosen_here"]

            any_server.wait_for_stream("choice", timeout_s=WAIT_TIMEOUT_S)
            [ffmpeg] = at.agent.ffmpegs()
            positions = old.position, new.position
            back = at.post("/api/broker/reset")
            assert (back.status, back.json["chosen_here"], back.json["port"]) == (200, False, first.port)
            at.agent.wait_until_online(old, after=positions[0])
            new.wait_for(lambda m: m.topic == topic and m.text == "offline", WAIT_TIMEOUT_S, after=positions[1])
            assert not at.file.exists()
            assert [child.pid for child in at.agent.ffmpegs()] == [ffmpeg.pid]
            at.check_secrets(old, new)


def test_a_broker_that_is_away_is_told_and_replaced(first: Broker, second: Broker, tmp_path: Path) -> None:
    """The page shows its message; a password that is wrong is told in the broker's words, and mended by the next."""
    mqtt = {"host": "127.0.0.1", "port": free_port(), "username": "cam", "password": FIRST_WORD}
    with home(tmp_path, mqtt) as at:
        away = at.wait_for_broker(
            connected=False, message=f"nothing answers at port {mqtt['port']} (mqtt.host, mqtt.port)"
        )
        assert (away["configured_host"], away["chosen_here"]) == ("127.0.0.1", False)
        assert at.post("/api/broker", login(second, word=WRONG_WORD)).status == 200
        wait_until(
            lambda: "refuses the user name or password" in (at.broker()["message"] or ""), WAIT_TIMEOUT_S, "its refusal"
        )
        with listening(second, at.device) as listener:
            # The rest stays: only what is typed is sent.
            assert at.post("/api/broker", {"password": SECOND_WORD}).status == 200
            at.agent.wait_until_online(listener)
            at.wait_for_broker(connected=True)
            at.check_secrets(listener)


def test_an_agent_without_a_broker_gets_one(second: Broker, tmp_path: Path) -> None:
    """And back to none."""
    with home(tmp_path, {}) as at:
        assert at.broker()["host"] is None
        refused = at.post("/api/broker", {"username": "other"})
        assert (refused.status, refused.json["error"]["message"].partition(":")[0]) == (400, "host")
        with listening(second, at.device) as listener:
            assert at.post("/api/broker", login(second)).status == 200
            at.agent.wait_until_online(listener)
            position = listener.position
            assert at.post("/api/broker/reset").json["host"] is None
            topic = at.agent.topic("availability")
            listener.wait_for(lambda m: m.topic == topic and m.text == "offline", WAIT_TIMEOUT_S, after=position)
            at.wait_for_broker(connected=False, message=None)
            assert at.post("/api/broker", login(second)).status == 200
            at.agent.wait_until_online(listener, after=position + 1)
            assert at.agent.end() == 0


def test_a_frozen_broker_is_left_all_the_same(second: Broker, tmp_path: Path) -> None:
    """It hears no good-bye, and is not waited for; it tells the last will itself when it can again."""
    with (
        Broker(tmp_path / "frozen", users={"cam": FIRST_WORD}) as frozen,
        home(tmp_path, configured(frozen)) as at,
        listening(second, at.device) as new,
    ):
        at.wait_for_broker(connected=True)
        frozen.freeze()
        try:
            assert at.post("/api/broker", login(second)).status == 200
            at.agent.wait_until_online(new)
            at.wait_for_broker(connected=True, port=second.port)
        finally:
            frozen.thaw()
        with listening(frozen, at.device) as old:
            topic = at.agent.topic("availability")
            old.wait_for(lambda m: m.topic == topic and m.text == "offline", WAIT_TIMEOUT_S)


@pytest.mark.parametrize("path", ["/api/broker", "/api/broker/try"])
def test_an_agent_ends_in_time_while_a_broker_is_silent(second: Broker, tmp_path: Path, path: str) -> None:
    """Whether it is only being tried or was chosen."""
    with (
        SilentServer() as silent,
        home(tmp_path, configured(second, WRONG_WORD)) as at,
        ThreadPoolExecutor(1) as beside,
    ):
        asking = beside.submit(at.visitor.post, path, {"port": silent.port, "password": WRONG_WORD})
        wait_until(lambda: silent.accepted > 0, WAIT_TIMEOUT_S, "its connection")
        began = time.monotonic()
        assert at.agent.end() == 0
        assert time.monotonic() - began < STOP_WITHIN_S
        # What was asked is answered, or its connection ends.
        assert asking.exception(WAIT_TIMEOUT_S) is None or isinstance(asking.exception(), (OSError, HTTPException))


def test_encryption_is_switched_on_while_it_runs(
    first: Broker, guarded: Broker, any_certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that was started without TLS has it from then on, by the machine's authorities."""
    # What stands for the machine's own authorities.
    monkeypatch.setenv("SSL_CERT_FILE", f"{any_certificates.ca_file}")
    with home(tmp_path, configured(first)) as at, listening(guarded, at.device, tls=any_certificates) as listener:
        at.wait_for_broker(connected=True)
        tried = at.post("/api/broker/try", login(guarded, tls=True))
        assert tried.json == {"accepted": True, "message": "The broker lets this agent in (MQTT 5)."}
        assert at.post("/api/broker", login(guarded, tls=True)).json["tls"] is True
        at.agent.wait_until_online(listener)
        at.wait_for_broker(connected=True)
        # Less guarded, the kept password goes nowhere.
        refused = at.post("/api/broker", {"tls": False})
        assert (refused.status, refused.json["error"]["message"].partition(":")[0]) == (400, "password")
        at.check_secrets(listener)


def test_a_configuration_with_encryption_is_gone_back_to(
    first: Broker, guarded: Broker, any_certificates: Certificates, tmp_path: Path
) -> None:
    """Also by an agent that was started on a broker without, and so without TLS."""
    mqtt = {
        **login(guarded),
        "tls": {"ca_file": f"{any_certificates.ca_file}"},
    }
    with home(tmp_path, mqtt) as at:
        at.wait_for_broker(connected=True)
        assert at.post("/api/broker", login(first, "cam", FIRST_WORD, tls=False)).status == 200
        at.wait_for_broker(connected=True, port=first.port)
        at.agent.restart()
        at.visitor.wait_until_served()
        at.wait_for_broker(connected=True, port=first.port)
        assert at.post("/api/broker/reset").json["tls"] is True
        at.wait_for_broker(connected=True, port=guarded.port)
        at.check_secrets()


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"version":99,"host":"x"}', b'{"version":1,"password":"first-broker-w0rd"}']
)
def test_a_damaged_choice_is_set_aside(first: Broker, tmp_path: Path, content: bytes) -> None:
    """The configuration's broker is used, the log says what happened and what to do, and nothing is lost."""
    state = tmp_path / "agent" / "state"
    state.mkdir(parents=True)
    (state / "broker.json").write_bytes(content)
    with home(tmp_path, configured(first)) as at:
        at.wait_for_broker(connected=True, chosen_here=False)
        assert (state / "broker.json.unreadable-1").read_bytes() == content
        assert not at.file.exists()
        told = [line for line in at.visitor.get("/api/log").json if "cannot be used" in line["message"]]
        assert [line["level"] for line in told] == ["error"]
        assert "broker.json.unreadable-1" in told[0]["message"]
        assert "set it on the page again" in told[0]["message"]
        at.check_secrets()


def test_what_cannot_be_saved_is_not_done(first: Broker, second: Broker, tmp_path: Path) -> None:
    """A choice that a restart would forget is refused, and the agent stays where it is; so is its taking back."""
    with home(tmp_path, configured(first)) as at:
        at.wait_for_broker(connected=True)
        # What also stops root: a folder where the new file, or the file itself, would stand.
        blocked = at.file.with_name("broker.json.new")
        blocked.mkdir()
        reply = at.post("/api/broker", login(second))
        assert (reply.status, reply.code) == (400, "not_available")
        assert "could not be saved" in reply.json["error"]["message"]
        assert "nothing was changed" in reply.json["error"]["message"]
        now = at.broker()
        assert (now["connected"], now["port"], now["chosen_here"]) == (True, first.port, False)
        blocked.rmdir()
        assert at.post("/api/broker", login(second)).status == 200
        at.wait_for_broker(connected=True, port=second.port)
        at.file.unlink()
        at.file.mkdir()
        assert (at.post("/api/broker/reset").status, at.broker()["port"]) == (400, second.port)
        at.file.rmdir()
        assert at.post("/api/broker/reset").status == 200
        at.wait_for_broker(connected=True, port=first.port)
        at.check_secrets()


def test_the_doctor_looks_at_the_chosen_broker(first: Broker, second: Broker, tmp_path: Path) -> None:
    """At the one that the agent is on, or it would find fault with what nobody uses; it shows no password."""
    mqtt = {"host": "127.0.0.1", "port": free_port(), "username": "cam", "password": FIRST_WORD}
    with home(tmp_path, mqtt) as at:
        assert at.post("/api/broker", login(second)).status == 200
        at.wait_for_broker(connected=True)
        result = subprocess.run(
            [sys.executable, "-m", "yiagent", "doctor", "-c", f"{at.agent.config_file}"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=2 * WAIT_TIMEOUT_S,
            check=False,
        )
        [line] = [line for line in result.stdout.splitlines() if line[5:].split(":")[0].strip() == "broker"]
        assert line.startswith("ok"), result.stdout
        assert f"{second.port}" in line
        assert not [word for word in WORDS if word in result.stdout + result.stderr]
        at.check_secrets()
