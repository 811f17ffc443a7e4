"""The broker's settings, tried and set from the page of a real agent, with real brokers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.certificates import Certificates
from tests.peers.ports import free_port
from tests.peers.process import wait_until
from tests.peers.rtmp import RtmpServer
from tests.web.browser import PageAgent, page_agent
from tests.web.client import PATIENCE_S, ask, post

WORD = "made-up-broker-word"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that wants a password."""
    with Broker(tmp_path_factory.mktemp("guarded"), users={"cam": WORD, "see": "all"}) as broker:
        yield broker


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[PageAgent]:
    """An agent whose configured broker is away."""
    with page_agent(tmp_path / tmp_path.name, None, mqtt={"host": "127.0.0.1", "port": free_port()}) as running:
        yield running


def broker_of(agent: PageAgent) -> Any:
    return ask(agent, "/api/broker").json


def until_connected(agent: PageAgent) -> None:
    wait_until(lambda: broker_of(agent)["connected"], PATIENCE_S, "it to be connected")


def test_the_brokers_own_answer(agent: PageAgent, guarded: Broker) -> None:
    """Shown while it is away, and for whatever is tried; trying changes nothing."""
    wait_until(lambda: broker_of(agent)["message"] is not None, PATIENCE_S, "it to be told")
    told = broker_of(agent)
    assert told["message"].startswith("nothing answers at port")
    assert (told["connected"], told["chosen_here"], told["password_set"]) == (False, False, False)
    right = {"port": guarded.port, "username": "cam", "password": WORD}
    for fields, accepted, message in (
        (right, True, "lets this agent in (MQTT 5)"),
        ({**right, "password": "wrong"}, False, "refuses the user name or password"),
        ({**right, "port": free_port()}, False, "nothing answers at port"),
        ({**right, "tls": True}, False, "TLS"),
    ):
        answer = post(agent, "/api/broker/try", fields)
        assert answer.status == 200
        assert answer.json["accepted"] is accepted, answer.json
        assert message in answer.json["message"]
        assert WORD not in answer.text
    assert not (agent.state_dir / "broker.json").exists()
    assert not broker_of(agent)["connected"]
    assert post(agent, "/api/broker/try", {"port": 0}).json["error"]["message"].startswith("port: ")


def test_a_broker_that_is_set_wins_until_it_is_taken_back(agent: PageAgent, guarded: Broker) -> None:
    """Over a restart too; then the configuration's holds again."""
    with Listener(guarded.port, agent.topic("#"), username="see", password="all") as listener:
        answer = post(agent, "/api/broker", {"port": guarded.port, "username": "cam", "password": WORD})
        assert answer.status == 200
        agent.wait_until_online(listener)
        until_connected(agent)
        told = broker_of(agent)
        assert (told["chosen_here"], told["password_set"], told["port"]) == (True, True, guarded.port)
        assert WORD not in json.dumps(told) + agent.full_log_text
        position = listener.position
        agent.restart()
        agent.wait_until_online(listener, after=position)
        assert WORD not in agent.full_log_text
        position = listener.position
        assert post(agent, "/api/broker/reset", {}).json["chosen_here"] is False
        listener.wait_for(
            lambda message: message.topic == agent.topic("availability") and message.payload == b"offline",
            PATIENCE_S,
            "good-bye",
            after=position,
        )
    assert broker_of(agent)["port"] == agent.config["mqtt"]["port"]


def test_the_stream_goes_on_while_the_broker_changes(
    tmp_path: Path, any_broker: Broker, guarded: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """The same ffmpeg, and a state that is true at both."""
    with (
        page_agent(tmp_path / "moving", any_broker, any_camera) as agent,
        Listener(any_broker.port, agent.topic("#")) as old,
        Listener(guarded.port, agent.topic("#"), username="see", password="all") as new,
    ):
        post(agent, "/api/request", {"stream": "ON", "server": any_server.url(), "key": "made-up-moving"})
        wait_for_state(old, lambda state: state["phase"] == "streaming", 2 * PATIENCE_S)
        before = [process.pid for process in agent.ffmpegs()]
        post(agent, "/api/broker", {"port": guarded.port, "username": "cam", "password": WORD})
        wait_for_state(new, lambda state: state["phase"] == "streaming")
        old.wait_for(
            lambda message: message.topic == agent.topic("availability") and message.payload == b"offline",
            PATIENCE_S,
            "good-bye",
        )
        assert [process.pid for process in agent.ffmpegs()] == before
        new.publish(agent.topic("stream/set"), "OFF")
        wait_for_state(new, lambda state: state["phase"] == "idle")


def test_encryption_can_be_set_while_it_runs(
    tmp_path: Path, any_certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an agent that was started without any, and so without Python's ssl in memory."""
    monkeypatch.setenv("SSL_CERT_FILE", str(any_certificates.ca_file))
    with (
        Broker(tmp_path / "broker", tls=any_certificates) as broker,
        page_agent(tmp_path / "tls", None) as agent,
    ):
        fields = {"host": "localhost", "port": broker.port, "tls": True}
        assert post(agent, "/api/broker/try", fields).json["accepted"] is True
        post(agent, "/api/broker", fields)
        until_connected(agent)
        agent.restart()
        until_connected(agent)


def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path, any_broker: Broker) -> None:
    """It is told, kept, and the configuration's broker holds."""
    agent = page_agent(tmp_path / "damaged", any_broker)
    agent.state_dir.mkdir(parents=True)
    (agent.state_dir / "broker.json").write_text('{"version":1,"host":"half')
    with agent:
        until_connected(agent)
        assert "broker.json, cannot be used: it is damaged; kept as broker.json.unreadable-1" in agent.log_text
        assert (agent.state_dir / "broker.json.unreadable-1").exists()
        assert broker_of(agent)["chosen_here"] is False


def test_a_choice_that_cannot_be_kept_is_refused(agent: PageAgent, any_broker: Broker) -> None:
    """In words, and nothing is changed."""
    (agent.state_dir / "broker.json.new").mkdir()
    answer = post(agent, "/api/broker", {"port": any_broker.port})
    assert answer.status == 400
    assert "could not be saved" in answer.json["error"]["message"]
    assert broker_of(agent)["chosen_here"] is False
    (agent.state_dir / "broker.json.new").rmdir()
    assert post(agent, "/api/broker", {"port": any_broker.port}).status == 200
    until_connected(agent)
