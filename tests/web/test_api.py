"""The page's API, by plain HTTP to a real agent: the same nouns and the same JSON as over MQTT."""

from __future__ import annotations

import json
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness import AgentProcess, wait_for_state
from tests.peers.broker import Broker
from tests.peers.broker import Listener as MqttListener
from tests.peers.ports import accepts, free_port
from tests.peers.process import wait_until
from tests.test_mqtt import BAD_REQUESTS
from tests.web.browser import PASSWORD, PageAgent, page_agent, page_url
from tests.web.client import PATIENCE_S, Listener, ask, basic, listening, post
from yiagent.interfaces import is_own_name
from yiagent.web.front import LISTEN_AGAIN_S

KEY = "made-up-api-key"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory, any_broker: Broker) -> Iterator[PageAgent]:
    """One agent for all that changes nothing, or takes back what it did."""
    with page_agent(tmp_path_factory.mktemp("api") / "api", any_broker) as running:
        yield running


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[PageAgent]:
    """An agent of the test's own, without a broker."""
    with page_agent(tmp_path / "alone", None) as running:
        yield running


# --- reading ---


def test_state_and_telemetry_are_those_of_the_broker(agent: PageAgent, any_broker: Broker) -> None:
    """The same bytes' worth of JSON."""
    with MqttListener(any_broker.port, agent.topic("#")) as listener:
        state = wait_for_state(listener, lambda state: True, topic=agent.topic("state"))
        assert ask(agent, "/api/state").json == state
        sample = listener.wait_for_topic(agent.topic("telemetry"))
        assert set(ask(agent, "/api/telemetry").json) == set(json.loads(sample.payload))


def test_the_log_from_a_line_on(agent: PageAgent) -> None:
    """All that is kept, or what came after a line; none after the last."""
    lines = ask(agent, "/api/log").json
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert set(lines[0]) == {"seq", "ts", "level", "source", "message"}
    assert ask(agent, "/api/log?since=1").json[0]["seq"] == 2
    assert ask(agent, "/api/log?since=999999").json == []
    for nonsense in ("x", "-1", "1.5", "", "%00", "1" * 99):
        assert ask(agent, f"/api/log?since={nonsense}").status == 400


def test_the_page_is_sent_compressed_or_not_and_not_twice(agent: PageAgent) -> None:
    """As the browser can take it; one that has it gets a word."""
    packed = ask(agent, "/", headers={"Accept-Encoding": "br, gzip;q=0.8"})
    plain = ask(agent, "/", headers={"Accept-Encoding": "gzip;q=0"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert plain.headers["Content-Encoding"] is None
    assert packed.text == plain.text
    again = ask(agent, "/", headers={"If-None-Match": packed.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


def test_head_is_get_without_a_body(agent: PageAgent) -> None:
    """For every address that is read, with the same length told."""
    for path in ("/", "/healthz", "/api/state", "/metrics", "/nothing"):
        whole, head = ask(agent, path), ask(agent, path, method="HEAD")
        assert (head.status, head.body) == (whole.status, b"")
        assert head.headers["Content-Length"] == whole.headers["Content-Length"] or path in ("/metrics", "/api/state")


def test_health_needs_no_password(agent: PageAgent) -> None:
    """And tells no settings."""
    answer = ask(agent, "/healthz", login={})
    assert answer.status == 200
    assert answer.json == {"status": "ok", "phase": "idle", "reason": None}


def test_metrics(agent: PageAgent) -> None:
    """In Prometheus' format."""
    answer = ask(agent, "/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "\nyiagent_broker_connected 1\n" in answer.text


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/api", "GET", 404),
        ("/../etc/passwd", "GET", 404),
        ("/%2e%2e/etc/passwd", "GET", 404),
        ("/static/page.js", "GET", 404),
        ("/snapshot.jpg", "GET", 404),
        ("/api/state", "DELETE", 405),
        ("/api/request", "GET", 405),
        ("/api/restart", "GET", 405),
    ],
)
def test_other_addresses_and_methods(agent: PageAgent, path: str, method: str, status: int) -> None:
    """A word and no file, whatever is asked for."""
    answer = ask(agent, path, method=method, headers={"Content-Type": "application/json"})
    assert answer.status == status
    assert set(answer.json) == {"status", "error"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/state", "/api/log", "/metrics", "/nothing", "/snapshot.jpg"])
@pytest.mark.parametrize("login", [None, {}, basic("wrong")], ids=["in", "asked", "wrong"])
def test_every_answer_keeps_the_browser_strict(alone: PageAgent, path: str, login: dict[str, str] | None) -> None:
    """Refusals too."""
    headers = ask(alone, path, login=login).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] in ("no-store", "private, no-cache")


# --- who may ---


def test_everything_else_needs_the_password(alone: PageAgent) -> None:
    """Also what does not exist, so that nobody learns what does; and nothing is carried out."""
    for path in ("/", "/api/state", "/api/events", "/metrics", "/snapshot.jpg", "/nothing", "/healthz/x"):
        answer = ask(alone, path, login={})
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="yiagent"')
    for path in ("/api/request", "/api/restart", "/api/broker", "/healthz"):
        assert ask(alone, path, b'{"stream":"ON"}', login={}).status == 401
    assert ask(alone, "/api/state").json["stream"] == "OFF"


def test_ten_wrong_passwords(alone: PageAgent) -> None:
    """Then this address is not answered, and is told for how long; a watchdog still is."""
    assert [ask(alone, "/", login=basic(f"wrong {n}")).status for n in range(10)] == [401] * 10
    locked = ask(alone, "/")
    assert locked.status == 429
    assert 0 < int(locked.headers["Retry-After"]) <= 60
    assert ask(alone, "/healthz", login={}).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": ""}, 415),
    ],
)
def test_another_site_changes_nothing(agent: PageAgent, headers: dict[str, str], status: int) -> None:
    """With the right password, as a browser sends it for any site."""
    before = agent.intent_bytes()
    for path in ("/api/request", "/api/restart", "/api/broker", "/api/broker/try", "/api/broker/reset"):
        answer = ask(agent, path, b'{"stream":"ON"}', headers=headers)
        assert answer.status == status
        assert answer.json["status"] == "error"
    assert ask(agent, "/api/state").json["stream"] == "OFF"
    assert agent.intent_bytes() == before


def test_its_own_page_is_let_in(agent: PageAgent) -> None:
    """With what a browser sends for it."""
    host = f"localhost:{agent.config['web']['port']}"
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert ask(agent, "/api/request", b"{}", headers=headers).status == 200


def test_a_name_from_the_router_is_asked_for_in_the_house(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone may know this machine by a name that it does not know itself; one that is another's is not taken."""
    answers = {"camera": "127.0.0.1", "printer": "192.0.2.99"}

    def resolve(name: str, *_: object, **__: object) -> list[Any]:
        if name not in answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[name], 0))]

    monkeypatch.setattr("yiagent.interfaces.socket.getaddrinfo", resolve)
    assert is_own_name("camera")
    assert not is_own_name("printer")
    assert not is_own_name("evil")


# --- commanding ---


def test_a_request_is_answered_as_over_mqtt(agent: PageAgent, any_broker: Broker) -> None:
    """All of it at once, in the state before the answer; the key is never shown."""
    document = {"transaction": "T1", "server": "rtmp://127.0.0.1:9/live", "key": KEY, "channel": "sd"}
    with MqttListener(any_broker.port, agent.topic("#")) as listener:
        answer = post(agent, "/api/request", document)
        assert answer.status == 200
        assert (answer.json["transaction"], answer.json["status"], answer.json["error"]) == ("T1", "ok", None)
        assert answer.json["state"] == ask(agent, "/api/state").json
        told = wait_for_state(listener, lambda state: state["channel"] == "sd" and state["key_set"])
        assert told["server"] == "rtmp://127.0.0.1:9/live"
    for path in ("/", "/api/state", "/api/log", "/api/about", "/api/broker", "/metrics", "/api/history"):
        assert KEY not in ask(agent, path).text
    assert KEY not in answer.text


@pytest.mark.parametrize(("body", "code", "message"), [row for row in BAD_REQUESTS if len(row[0]) < 16_000])
def test_a_bad_request_is_refused_as_over_mqtt(agent: PageAgent, body: bytes, code: str, message: str) -> None:
    """By the same code and words, with status 400; nothing is changed."""
    before = agent.intent_bytes(), ask(agent, "/api/state").json
    answer = ask(agent, "/api/request", body)
    assert answer.status == 400
    assert answer.json["status"] == "error"
    assert answer.json["error"]["code"] == code
    assert message in answer.json["error"]["message"]
    assert answer.json["transaction"] == ("T" if b'"transaction":"T"' in body and code != "not_utf8" else None)
    assert (agent.intent_bytes(), ask(agent, "/api/state").json) == before


def test_the_page_alone_commands_an_agent_without_a_broker(alone: PageAgent) -> None:
    """Start, restart and stop; what was wanted is kept over a restart."""
    wish = {"stream": "ON", "server": f"rtmp://127.0.0.1:{free_port()}/live", "key": KEY}
    assert post(alone, "/api/request", wish).json["state"]["stream"] == "ON"
    wait_until(lambda: ask(alone, "/healthz").status == 503, PATIENCE_S, "it to tell that it is not live")
    assert post(alone, "/api/restart", {}).status == 200
    assert post(alone, "/api/restart", {"key": "x"}).json["error"]["code"] == "unknown_field"
    alone.restart()
    state = ask(alone, "/api/state").json
    assert (state["stream"], state["server"], state["key_set"]) == ("ON", wish["server"], True)
    assert post(alone, "/api/request", {"stream": "OFF"}).json["state"]["stream"] == "OFF"
    assert post(alone, "/api/snapshot", {}).json["error"]["code"] == "not_available"


# --- events ---


def test_events_tell_what_is_so_and_then_what_is_new(agent: PageAgent) -> None:
    """State first, samples as they come, each line of the log once and in order."""
    with listening(agent) as listener:
        assert "content-type: text/event-stream" in listener.head.lower()
        first = listener.next()
        assert first.name == "state"
        assert first.data == ask(agent, "/api/state").json
        assert listener.next("log").data["seq"] == 1
        assert set(listener.next("telemetry").data) == set(ask(agent, "/api/telemetry").json)
        ask(agent, "/api/request", b'{"channel":"4k"}')
        line = listener.next("log")
        while "Refused a request from the page" not in line.data["message"]:
            line = listener.next("log")
        assert line.id.endswith(f"-{line.data['seq']}")
        assert line.data in ask(agent, "/api/log").json


def test_events_go_on_after_the_last_that_was_heard(agent: PageAgent) -> None:
    """By its id, or by a line's plain number; an id of another agent, or from the future, begins anew."""
    with listening(agent) as listener:
        second = [listener.next("log"), listener.next("log")][1]
    for mark, first in ((second.id, 3), ("2", 3), ("0123abcd-2", 1), ("99999999", 1), ("nonsense", 1), ("-5", 1)):
        with listening(agent, mark) as listener:
            assert listener.next("log").data["seq"] == first, mark


def test_no_line_is_lost_over_a_restart(alone: PageAgent) -> None:
    """Line numbers begin anew; the id of the agent before says so."""
    with listening(alone) as listener:
        last = listener.next("log")
    alone.restart()
    with listening(alone, last.id) as listener:
        assert listener.next("log").data["seq"] == 1


def test_a_reader_that_was_slow_gets_the_latest(tmp_path: Path) -> None:
    """Not all that it missed: what is so, and of the log what is kept."""
    with page_agent(tmp_path / "slow", None, telemetry={"interval_s": 0.2}) as agent, listening(agent) as listener:
        listener.next("telemetry")
        memory = psutil.Process(agent.pid).memory_info().rss
        for number in range(40):
            post(agent, "/api/request", {"server": f"rtmp://127.0.0.1/{'x' * 200}{number}"})
        state = listener.next("state")
        while not state.data["server"].endswith("x39"):
            state = listener.next("state")
        assert psutil.Process(agent.pid).memory_info().rss - memory < 4 << 20


# --- coming and going ---


def hangs_up(listener: Listener) -> bool:
    """Whether the other end has gone, reading what it had said before."""
    try:
        return listener.sock.recv(65536) == b""
    except ConnectionResetError:
        return True


def test_its_own_password_is_shown_once_and_nowhere_else(tmp_path: Path, any_broker: Broker) -> None:
    """On the console of the first start; it is kept in a file of its owner's."""
    agent = page_agent(tmp_path / "fresh", any_broker, log={"level": "debug"})
    del agent.config["web"]["password"]
    with agent, MqttListener(any_broker.port, agent.topic("#")) as listener:
        file = agent.state_dir / "web-password"
        word = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        wait_until(lambda: word in agent.log_text, PATIENCE_S, "the password on the console")
        assert ask(agent, "/api/state", login=basic(word)).status == 200
        assert ask(agent, "/api/state", login=basic(word + "x")).status == 401
        listener.wait_for_topic(agent.topic("telemetry"))
        for path in ("/", "/api/log", "/api/about", "/metrics"):
            assert word not in ask(agent, path, login=basic(word)).text
        agent.restart()
        assert ask(agent, "/api/state", login=basic(word)).status == 200
        assert agent.full_log_text.count(word) == 1
        assert not any(word.encode() in message.payload for message in listener.messages)


def test_info_has_the_address_of_the_page(agent: PageAgent, any_broker: Broker) -> None:
    """Which answers."""
    with MqttListener(any_broker.port, agent.topic("info")) as listener:
        info = json.loads(listener.wait_for_topic(agent.topic("info")).payload)
    assert info["web"] == page_url(agent)


def test_a_page_that_is_off(tmp_path: Path, any_broker: Broker) -> None:
    """Nothing listens, and `info` says so."""
    agent = AgentProcess(tmp_path / "off", broker_port=any_broker.port, config={"device": {"id": "page-off"}})
    with agent, MqttListener(any_broker.port, agent.topic("#")) as listener:
        agent.wait_until_online(listener)
        info = json.loads(listener.wait_for_topic(agent.topic("info")).payload)
        assert info["web"] is None
        listens = [link for link in psutil.Process(agent.pid).net_connections() if link.status == "LISTEN"]
        assert listens == []


def test_a_port_that_is_taken_is_told_and_tried_again(tmp_path: Path) -> None:
    """The agent does the rest of its work meanwhile."""
    with page_agent(tmp_path / "first", None) as first:
        second = AgentProcess(
            tmp_path / "second", config={"web": {**first.config["web"], "enabled": True}, "device": {"id": "second"}}
        )
        with second:
            second.wait_until(lambda: "cannot be served" in second.log_text, PATIENCE_S, "it to be told")
            assert re.search(r"The page cannot be served at 127.0.0.1:\d+: Address already in use", second.log_text)
            first.end()
            port = first.config["web"]["port"]
            wait_until(lambda: accepts(port), LISTEN_AGAIN_S + PATIENCE_S, "the page to be served")
            assert ask(second, "/api/about").json["device"] == "second"
            assert second.log_text.count("cannot be served") == 1


def test_an_agent_that_ends_leaves_its_visitors(tmp_path: Path) -> None:
    """At once, with all of them connected."""
    with page_agent(tmp_path / "ending", None) as agent, listening(agent) as one, listening(agent) as other:
        one.next()
        other.next()
        assert agent.end() == 0
        wait_until(lambda: hangs_up(one), PATIENCE_S, "its visitors to be left")
        assert "error in yiagent" not in agent.full_log_text


def test_no_secret_is_told(tmp_path: Path, any_broker: Broker) -> None:
    """With a password in every place that has one, at `log.level: debug`, by any address or event."""
    secrets = [PASSWORD, "broker-secret-1", "camera-secret-2", "stream-secret-3", "url-secret-4"]
    config: dict[str, Any] = {
        "source": {"sd": f"rtsp://127.0.0.1:{free_port()}/x", "username": "u", "password": secrets[2]},
        "destination": {"server": f"rtmp://user:{secrets[4]}@127.0.0.1:{free_port()}/live", "key": secrets[3]},
        "log": {"level": "debug"},
        "mqtt": {"host": "127.0.0.1", "port": any_broker.port, "username": "u", "password": secrets[1]},
    }
    with page_agent(tmp_path / "secret", None, **config) as agent, listening(agent) as listener:
        post(agent, "/api/request", {"stream": "ON"})
        post(agent, "/api/request", {"key": secrets[3] + "\n", "server": f"rtmp://x:{secrets[4]}@h ost/"})
        post(agent, "/api/broker/try", {"password": "another-secret-5", "port": free_port(), "username": "u"})
        told = listener.next("state")
        heard = [json.dumps(told.data)]
        while told.data["reason"] is None:
            told = listener.next("state")
            heard.append(json.dumps(told.data))
        paths = ("/", "/api/state", "/api/log", "/api/about", "/api/broker", "/metrics", "/healthz", "/api/history")
        heard += [ask(agent, path).text for path in paths]
        heard.append(agent.full_log_text)
    for secret in [*secrets, "another-secret-5"]:
        assert secret not in "\n".join(heard)
