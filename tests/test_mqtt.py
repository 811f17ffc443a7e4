"""The MQTT contract, kept by the real agent towards a real mosquitto."""

import asyncio
import itertools
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from tests.harness import (
    WAIT_TIMEOUT_S,
    AgentProcess,
    State,
    latest_state,
    wait_for_answer,
    wait_for_log_line,
    wait_for_state,
)
from tests.peers.broken_servers import BrokenServer, SilentServer
from tests.peers.broker import Broker, Listener, Message, OldBrokerProxy
from tests.peers.camera import LiveCamera
from tests.peers.process import wait_until
from tests.peers.proxy import Proxy
from tests.peers.rtmp import RtmpServer
from yiagent.agent import empty_snapshot
from yiagent.commands import Command
from yiagent.model import Channel, Info, Level, Telemetry
from yiagent.mqtt import MqttLink
from yiagent.redact import Redactor
from yiagent.settings import DiscoveryConfig, MqttConfig
from yiagent.store import Journal, Store

INTERVAL_S = 0.5
STOP_WITHIN_S = 10.0
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
REASON_KEYS = {"code", "message"}
STATE_KEYS = {
    *("schema", "stream", "phase", "since", "channel", "active_channel", "server", "key_set", "attempt", "retry_at"),
    "reason",
}
INFO_KEYS = {"schema", "device", "name", "agent", "ffmpeg", "python", "machine", "web"}
LOG_KEYS = {"seq", "ts", "level", "source", "message"}
WHOLE = (int,)
NUMBER = (int, float)
NOTHING = type(None)
TELEMETRY_TYPES: dict[str, tuple[type, ...]] = {
    "ts": (str,),
    "stream_kbps": NUMBER,
    "sent_bytes": WHOLE,
    "fps": (*NUMBER, NOTHING),
    "speed": (*NUMBER, NOTHING),
    "dropped_frames": (*WHOLE, NOTHING),
    "streaming_s": WHOLE,
    "tx_kbps": (*NUMBER, NOTHING),
    "rx_kbps": (*NUMBER, NOTHING),
    "interface": (str, NOTHING),
    "cpu_percent": (*NUMBER, NOTHING),
    "memory_available_kb": (*WHOLE, NOTHING),
    "agent_rss_kb": (*WHOLE, NOTHING),
    "remux_rss_kb": (*WHOLE, NOTHING),
    "load_1m": (*NUMBER, NOTHING),
    "temperature_c": (*NUMBER, NOTHING),
    "uptime_s": (*WHOLE, NOTHING),
}

_numbers = itertools.count(1)


@dataclass
class Stand:
    """An agent, and a listener beside it that also speaks to it."""

    agent: AgentProcess
    listener: Listener
    launches_file: Path

    def send(self, name: str, payload: bytes | str, **options: Any) -> int:
        """Publish a command; the position from which on its effects are heard."""
        position = self.listener.position
        self.listener.publish(self.agent.topic(name), payload, **options)
        return position

    def state(self, condition: Callable[[State], bool], *, after: int = 0) -> State:
        """The first state that meets the condition."""
        return wait_for_state(self.listener, condition, after=after, topic=self.agent.topic("state"))

    def answer(self, condition: Callable[[dict[str, Any]], bool], *, after: int) -> dict[str, Any]:
        """The first answer on `response` that meets the condition."""
        return wait_for_answer(self.listener, self.agent.topic("response"), condition, after=after)

    def request(self, **fields: Any) -> dict[str, Any]:
        """Send a request and return its answer."""
        transaction = f"t{next(_numbers)}"
        position = self.send("request", json.dumps({"transaction": transaction, **fields}))
        return self.answer(lambda answer: answer.get("transaction") == transaction, after=position)

    def settle(self) -> State:
        """The state when all that was sent before has been dealt with: commands are dealt with in turn."""
        answer = self.request()
        assert answer["status"] == "ok"
        return dict(answer["state"])

    def on(self, name: str, *, after: int = 0) -> list[Message]:
        """All that was heard on one of the agent's topics, from a position on."""
        return [message for message in self.listener.messages[after:] if message.topic == self.agent.topic(name)]

    def launches(self) -> list[str]:
        """The arguments of every start of ffmpeg so far."""
        return self.launches_file.read_text().splitlines() if self.launches_file.exists() else []

    def media_launches(self) -> int:
        """How many of those were to send media, rather than to ask ffmpeg or to look at the camera."""
        return sum("-f flv" in line for line in self.launches())


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that takes anyone, and that no test stops."""
    with Broker(tmp_path_factory.mktemp("broker"), extra_lines=["set_tcp_nodelay true"]) as broker:
        yield broker


class PromptListener(Listener):
    """One whose small messages are not held back 40 ms each: there are thousands of them here."""

    def start(self) -> Self:
        """Connect and subscribe, without Nagle's algorithm."""
        super().start()
        connection = self._client.socket()
        assert isinstance(connection, socket.socket)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self


@contextmanager
def standing(
    folder: Path, broker_port: int, *, agent_port: int | None = None, start: bool = True, **config: Any
) -> Iterator[Stand]:
    """An agent of its own device id that writes down each start of ffmpeg, and one who listens to it alone.

    `agent_port`: where the agent finds the broker, for a proxy between the two.
    """
    folder.mkdir(parents=True, exist_ok=True)
    launches = folder / "launches"
    program = folder / "recording-ffmpeg"
    program.write_text(f'#!/bin/sh\necho "$*" >> "{launches}"\nexec ffmpeg "$@"\n')
    program.chmod(0o755)
    device = f"cam{next(_numbers)}"
    merged = {"device": {"id": device, "name": "Front door"}, "ffmpeg": program, **config}
    agent = AgentProcess(folder / "agent", broker_port=agent_port or broker_port, config=merged)
    with PromptListener(broker_port, f"yiagent/{device}/#") as listener:
        try:
            if start:
                agent.start()
                agent.wait_until_online(listener)
            yield Stand(agent, listener, launches)
        finally:
            agent.stop()


@pytest.fixture(scope="module")
def idle(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """An agent that is OFF and stays so, with a server and a key it was given."""
    with standing(tmp_path_factory.mktemp("idle"), broker.port) as stand:
        stand.request(server="rtmp://127.0.0.1/live", key="first-key", channel="sd")
        stand.agent.wait_until(
            # Begun and over: only the guard is left.
            lambda: bool(stand.launches()) and len(stand.agent.children()) == 1,
            WAIT_TIMEOUT_S,
            "its look at ffmpeg",
        )
        yield stand


# What it says


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_availability_follows_the_agents_life(broker: Broker, tmp_path: Path, number: signal.Signals) -> None:
    """`online` and `offline` are retained with QoS 1; a signal ends it within 10 s, status 0, by a proper good-bye."""
    with standing(tmp_path, broker.port) as stand:
        topic = stand.agent.topic("availability")
        with Listener(broker.port, topic) as late:
            heard = late.wait_for_topic(topic)
            assert (heard.text, heard.qos, heard.retain) == ("online", 1, True)
        began = time.monotonic()
        assert stand.agent.end(number) == 0
        assert time.monotonic() - began < STOP_WITHIN_S
        stand.listener.wait_for(lambda message: message.topic == topic and message.text == "offline")
        assert f"Received DISCONNECT from yiagent-{stand.agent.config['device']['id']}" in broker.log_text
        with Listener(broker.port, topic) as late:
            heard = late.wait_for_topic(topic)
            assert (heard.text, heard.qos, heard.retain) == ("offline", 1, True)


def test_a_killed_agent_is_offline(broker: Broker, tmp_path: Path) -> None:
    """`kill -9` leaves the last will behind, retained; the next start says `online` again."""
    with standing(tmp_path, broker.port) as stand:
        topic = stand.agent.topic("availability")
        position = stand.listener.position
        stand.agent.kill9()
        stand.listener.wait_for(
            lambda message: message.topic == topic and message.text == "offline", WAIT_TIMEOUT_S, after=position
        )
        with Listener(broker.port, topic) as late:
            heard = late.wait_for_topic(topic)
            assert (heard.text, heard.qos, heard.retain) == ("offline", 1, True)
        position = stand.listener.position
        stand.agent.start()
        stand.agent.wait_until_online(stand.listener, after=position)


def test_info_says_what_the_agent_is(idle: Stand, broker: Broker) -> None:
    """`info` is retained with QoS 1 and holds the contract's keys, and ffmpeg's version as soon as that is known."""
    topic = idle.agent.topic("info")
    idle.listener.wait_for(lambda message: message.topic == topic and json.loads(message.payload)["ffmpeg"] is not None)
    with Listener(broker.port, topic) as late:
        heard = late.wait_for_topic(topic)
    info = json.loads(heard.payload)
    assert (heard.qos, heard.retain) == (1, True)
    assert set(info) == INFO_KEYS
    assert (info["schema"], info["name"], info["web"]) == (1, "Front door", None)
    assert info["device"] == idle.agent.config["device"]["id"]
    assert all(isinstance(info[key], str) and info[key] for key in ("agent", "ffmpeg", "python", "machine"))
    assert heard.payload == json.dumps(info, ensure_ascii=False, separators=(",", ":")).encode(), "compact JSON"


def test_state_is_the_whole_snapshot(idle: Stand, broker: Broker) -> None:
    """`state` is retained with QoS 1 and holds the contract's keys, each of its type."""
    now = idle.settle()
    topic = idle.agent.topic("state")
    with Listener(broker.port, topic) as late:
        heard = late.wait_for_topic(topic)
    state = json.loads(heard.payload)
    assert (heard.qos, heard.retain) == (1, True)
    assert state == now
    assert set(state) == STATE_KEYS
    assert TIME.fullmatch(state["since"])
    expected: dict[str, object] = {
        "schema": 1,
        "stream": "OFF",
        "phase": "idle",
        "channel": "sd",
        "active_channel": None,
        "server": "rtmp://127.0.0.1/live",
        "key_set": True,
        "attempt": 0,
        "retry_at": None,
        "reason": None,
    }
    assert {key: value for key, value in state.items() if key != "since"} == expected


def test_telemetry_comes_at_its_interval(idle: Stand) -> None:
    """A sample every interval, streaming or not, with QoS 0: every key, of its type, null for what is not known."""
    topic = idle.agent.topic("telemetry")
    position = idle.listener.position
    wait_until(lambda: len(idle.on("telemetry", after=position)) >= 7, WAIT_TIMEOUT_S, "seven samples")
    heard = idle.on("telemetry", after=position)
    assert {(message.topic, message.qos, message.retain) for message in heard} == {(topic, 0, False)}
    mean_s = (heard[-1].at_s - heard[0].at_s) / (len(heard) - 1)
    assert 0.8 * INTERVAL_S < mean_s < 3 * INTERVAL_S
    for message in heard:
        sample = json.loads(message.payload)
        assert {key: type(value) in TELEMETRY_TYPES[key] for key, value in sample.items()} == dict.fromkeys(
            TELEMETRY_TYPES, True
        )
        assert TIME.fullmatch(sample["ts"])
        assert (sample["stream_kbps"], sample["sent_bytes"], sample["streaming_s"]) == (0, 0, 0)
        assert [sample[key] for key in ("fps", "speed", "dropped_frames", "remux_rss_kb")] == [None] * 4
        assert all(sample[key] > 0 for key in ("memory_available_kb", "agent_rss_kb", "uptime_s"))


def test_the_log_is_published_line_by_line(idle: Stand) -> None:
    """Each line of the journal comes once, in order, with QoS 0, in the contract's keys."""
    position = idle.send("channel/set", "8k")
    line = wait_for_log_line(idle.listener, "Refused channel/set", after=position)
    assert (line["level"], line["source"]) == ("warning", "agent")
    heard = idle.on("log")
    lines = [json.loads(message.payload) for message in heard]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert {(message.qos, message.retain) for message in heard} == {(0, False)}
    for line in lines:
        assert set(line) == LOG_KEYS
        assert TIME.fullmatch(line["ts"])
        assert (line["level"] in tuple(Level), line["source"]) == (True, "agent")
        assert f"{line['level'].upper():7} {line['source']}: {line['message']}" in idle.agent.log_text


def test_nothing_else_is_retained(broker: Broker, tmp_path: Path) -> None:
    """Who comes after the agent's end finds `availability`, `info` and `state`, and nothing more."""
    with standing(tmp_path, broker.port) as stand:
        stand.request(channel="auto")
        stand.listener.wait_for_topic(stand.agent.topic("telemetry"))
        stand.listener.wait_for_topic(stand.agent.topic("log"))
        assert stand.agent.end() == 0
        with Listener(broker.port, stand.agent.topic("#")) as late:
            late.publish(stand.agent.topic("end"))
            late.wait_for_topic(stand.agent.topic("end"))
            retained = {message.topic for message in late.messages if message.retain}
    assert retained == {stand.agent.topic(name) for name in ("availability", "info", "state")}


# Its connection


def test_everything_is_republished_to_a_broker_that_forgot(tmp_path: Path) -> None:
    """After the broker's restart with nothing retained, all that was retained is there again, and commands work."""
    with Broker(tmp_path / "broker") as broker, standing(tmp_path, broker.port) as stand:
        stand.request(server="rtmp://127.0.0.1/live", channel="sd")
        broker.stop()
        stand.agent.wait_for_log("Lost the MQTT broker", WAIT_TIMEOUT_S)
        position = stand.listener.position
        broker.start()
        stand.agent.wait_until_online(stand.listener, after=position)
        stand.listener.wait_until_subscribed()
        with Listener(broker.port, stand.agent.topic("#")) as late:
            for name in ("availability", "info", "state"):
                assert late.wait_for_topic(stand.agent.topic(name)).retain
            assert late.wait_for_topic(stand.agent.topic("availability")).text == "online"
            assert (latest_state(late) or {})["server"] == "rtmp://127.0.0.1/live"
        assert stand.request(channel="auto")["state"]["channel"] == "auto"


def test_a_cut_connection_is_made_again(broker: Broker, tmp_path: Path) -> None:
    """A connection that ends is followed by another, with everything published again, and commands work on it."""
    with Proxy(broker.port) as proxy, standing(tmp_path, broker.port, agent_port=proxy.port) as stand:
        position = stand.listener.position
        proxy.cut()
        stand.agent.wait_until_online(stand.listener, after=position)
        assert stand.on("info", after=position)
        assert stand.request(channel="sd")["state"]["channel"] == "sd"


def test_a_frozen_connection_is_noticed_on_both_sides(broker: Broker, tmp_path: Path) -> None:
    """When nothing comes through, the last will says `offline`, the log says why, and the agent comes back."""
    mqtt = {"keepalive_s": 2}
    with Proxy(broker.port) as proxy, standing(tmp_path, broker.port, agent_port=proxy.port, mqtt=mqtt) as stand:
        topic = stand.agent.topic("availability")
        position = stand.listener.position
        proxy.freeze()
        stand.listener.wait_for(
            lambda message: message.topic == topic and message.text == "offline", WAIT_TIMEOUT_S, after=position
        )
        stand.agent.wait_for_log("Lost the MQTT broker", WAIT_TIMEOUT_S)
        position = stand.listener.position
        # What was held back belongs to connections that are no more.
        proxy.cut()
        proxy.thaw()
        stand.agent.wait_until_online(stand.listener, after=position)
        assert stand.request()["status"] == "ok"


def test_a_frozen_broker_does_not_keep_the_agent_from_ending(broker: Broker, tmp_path: Path) -> None:
    """SIGTERM ends the agent within 10 s, status 0, also when nobody takes its good-bye."""
    with Proxy(broker.port) as proxy, standing(tmp_path, broker.port, agent_port=proxy.port) as stand:
        proxy.freeze()
        began = time.monotonic()
        assert stand.agent.end() == 0
        assert time.monotonic() - began < STOP_WITHIN_S


def test_a_broker_that_did_not_read_gets_the_latest_state(broker: Broker, tmp_path: Path) -> None:
    """Whatever was commanded and refused while it took nothing, one state waited: the one that is so then."""
    mqtt = {"keepalive_s": 60}
    with Proxy(broker.port) as proxy, standing(tmp_path, broker.port, agent_port=proxy.port, mqtt=mqtt) as stand:
        stand.settle()
        position = stand.listener.position
        proxy.deafen()
        for number in range(70):
            stand.send("server/set", f"rtmp://127.0.0.1/{number}", qos=0)
            # Each is answered: more answers wait than there is room for, and no state must be lost to them.
            stand.send("channel/set", "8k", qos=0)
        stand.send("server/set", "rtmp://127.0.0.1/last", qos=0)
        stand.agent.wait_until(
            lambda: b"/last" in (stand.agent.intent_bytes() or b""), WAIT_TIMEOUT_S, "the last command's effect"
        )
        proxy.hear()
        stand.state(lambda state: bool(state["server"] == "rtmp://127.0.0.1/last"), after=position)
        assert stand.settle()["server"] == "rtmp://127.0.0.1/last"
        told = [json.loads(message.payload)["server"] for message in stand.on("state", after=position)]
        assert told[-1] == "rtmp://127.0.0.1/last"
        assert len(told) == 2, "the one that was on its way when it stopped reading, and the latest"


def test_the_agent_waits_for_a_broker_that_is_not_there_yet(tmp_path: Path) -> None:
    """Started before the broker, it runs, says once what is amiss, and is online when the broker is."""
    broker = Broker(tmp_path / "broker")
    config = {"mqtt": {"host": "127.0.0.1", "port": broker.port}}
    with AgentProcess(tmp_path / "agent", config=config) as agent:
        agent.wait_for_log(f"nothing answers at port {broker.port}", WAIT_TIMEOUT_S)
        with broker, Listener(broker.port) as listener:
            agent.wait_until_online(listener)
            wait_for_log_line(listener, "Cannot connect to the MQTT broker at 127.0.0.1")
            wait_for_log_line(listener, "Connected to the MQTT broker at 127.0.0.1")
            assert agent.log_text.count("Cannot connect to the MQTT broker") == 1


# Links in this process: what a subprocess does not show


async def _nothing(command: Command) -> None:
    """Carry out a command by doing nothing."""


def _no_info() -> Info:
    return Info(device="x", name="x", agent="0", ffmpeg=None, python="3", machine="x", web=None)


def _link(
    port: int, device: str, *, store: Store | None = None, keepalive_s: int = 30, prefix: str = "fleet"
) -> tuple[MqttLink, Journal]:
    journal = Journal(Redactor(), level=Level.INFO, clock=time.time, monotonic=time.monotonic)
    config = MqttConfig(
        host="127.0.0.1",
        port=port,
        username=None,
        password=None,
        tls=None,
        prefix=prefix,
        keepalive_s=keepalive_s,
        discovery=DiscoveryConfig(enabled=False, prefix="homeassistant"),
    )
    store = store or Store(empty_snapshot(Channel.AUTO))
    link = MqttLink(config=config, device=device, store=store, journal=journal, info=_no_info, execute=_nothing)
    return link, journal


async def _until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(WAIT_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - the conditions are seen on other threads and in the kernel
            await asyncio.sleep(0.01)
    assert condition(), what


def _warnings(journal: Journal) -> list[str]:
    return [line.message for line in journal.since(0) if line.level.rank >= Level.WARNING.rank]


async def _stop(*links: MqttLink) -> None:
    await asyncio.gather(*(link.stop() for link in links))


def test_a_fleet_does_not_come_back_in_one_instant(broker: Broker) -> None:
    """After one cut for all, the first waits of a dozen agents spread over a good part of a second."""

    def online(listener: Listener, after: int) -> list[float]:
        messages = listener.messages[after:]
        return [message.at_s for message in messages if message.topic.endswith("/availability")]

    async def fleet() -> list[float]:
        with Proxy(broker.port) as proxy, Listener(broker.port, "fleet/#") as listener:
            links = [_link(proxy.port, f"f{number}")[0] for number in range(12)]
            running = [asyncio.create_task(link.run()) for link in links]
            await _until(lambda: len(online(listener, 0)) >= 12, "all online")
            position = listener.position

            def back() -> list[float]:
                return online(listener, position)[12:]

            proxy.cut()
            # Twelve last wills, then twelve times `online`.
            await _until(lambda: len(back()) >= 12, "all online again")
            times = back()
            await _stop(*links)
            await asyncio.gather(*running)
            return times

    times = asyncio.run(fleet())
    # Twelve of a range of 1.4 s fall within 0.3 s of each other once in a hundred million.
    assert max(times) - min(times) > 0.3


def test_nagle_is_off(broker: Broker) -> None:
    """The connection to the broker has TCP_NODELAY, so that a burst of small messages is not 40 ms late."""

    async def options() -> list[int]:
        with Listener(broker.port, "fleet/#") as listener:
            link, _ = _link(broker.port, "nagle")
            before = set(_sockets_to(broker.port))
            running = asyncio.create_task(link.run())
            await _until(lambda: bool(listener.on("fleet/nagle/availability")), "online")
            found = []
            for number in set(_sockets_to(broker.port)) - before:
                with socket.socket(fileno=os.dup(number)) as copy:
                    found.append(copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            await _stop(link)
            await running
            return found

    assert asyncio.run(options()) == [1]


def _sockets_to(port: int) -> list[int]:
    """The descriptors of this process that are TCP connections to a port on loopback."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if f"{entry.readlink()}".startswith("socket:"):
                with socket.socket(fileno=os.dup(int(entry.name))) as copy:
                    if copy.type == socket.SOCK_STREAM and copy.getpeername()[1:2] == (port,):
                        found.append(int(entry.name))
    return found


def test_a_broker_that_never_answers_is_told_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without an answer is given up and made anew; the link can be stopped in the middle of it."""
    monkeypatch.setattr("yiagent.mqtt.ANSWER_TIMEOUT_S", 0.3)
    monkeypatch.setattr("yiagent.mqtt.LONGEST_WAIT_S", 0.1)

    async def talk() -> list[str]:
        with SilentServer() as silent:
            link, journal = _link(silent.port, "silent")
            running = asyncio.create_task(link.run())
            await _until(lambda: silent.accepted >= 3, "three tries")
            async with asyncio.timeout(5):
                await link.stop()
                await running
            return _warnings(journal)

    (warning,) = asyncio.run(talk())
    assert "it takes the connection but does not answer" in warning


def test_a_broker_silent_for_longer_than_the_keepalive_is_told(broker: Broker) -> None:
    """It is not said to have hung up, and is not taken for an old one: what it takes long for is tried again in 5."""

    async def talk() -> tuple[list[str], list[str]]:
        with Proxy(broker.port) as proxy:
            proxy.freeze()
            link, journal = _link(proxy.port, "frozen", keepalive_s=1)
            running = asyncio.create_task(link.run())
            await _until(lambda: bool(_warnings(journal)), "a warning")
            warnings = _warnings(journal)
            proxy.thaw()
            await _until(lambda: any("Connected" in line.message for line in journal.since(0)), "online")
            await _stop(link)
            await running
            return warnings, [line.message for line in journal.since(0) if "Connected" in line.message]

    (warning,), (connected,) = asyncio.run(talk())
    assert "it takes the connection but does not answer" in warning
    assert "(MQTT 5)" in connected


class StartingBroker(Proxy):
    """Hangs up on its first client, as does what holds the port of a broker that is just being started."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self.levels: list[int] = []

    def admit(self, client: socket.socket) -> bytes | None:
        """Look at the protocol's level, and let in all but the first."""
        head = client.recv(64, socket.MSG_PEEK)
        self.levels.append(head.partition(b"\x00\x04MQTT")[2][0])
        return b"" if len(self.levels) > 1 else None


def test_a_broker_that_hung_up_once_is_spoken_to_in_5(broker: Broker) -> None:
    """3.1.1 is let in after the hang-up, but 5 is tried once more before anything is said in 3.1.1, and is spoken."""

    async def talk() -> tuple[list[int], list[str], list[Message]]:
        with StartingBroker(broker.port) as starting, Listener(broker.port, "starting/#") as listener:
            link, journal = _link(starting.port, "x", prefix="starting")
            running = asyncio.create_task(link.run())
            await _until(lambda: bool(listener.on("starting/x/state")), "online")
            heard = listener.on("starting/x/availability")
            await _stop(link)
            await running
            return starting.levels, [line.message for line in journal.since(0)], heard

    levels, lines, heard = asyncio.run(talk())
    assert levels == [5, 4, 5]
    assert lines == ["Connected to the MQTT broker at 127.0.0.1 (MQTT 5)"]
    assert [message.text for message in heard] == ["online"], "what was left again left no last will"


def test_what_was_refused_is_said_when_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An access list that takes rights and gives them back costs one line each, and the broker ends with the truth."""
    monkeypatch.setattr("yiagent.notice.REFUSED_AGAIN_S", 0.2)
    monkeypatch.setattr("yiagent.mqtt.TELL_AGAIN_S", 0.05)
    acl = tmp_path / "acl"
    acl.write_text("topic read #\n")
    acl.chmod(0o600)
    names = ("availability", "info", "state")

    async def talk() -> list[tuple[Level, str]]:
        with (
            Broker(tmp_path / "broker", extra_lines=[f"acl_file {acl}"]) as broker,
            Listener(broker.port, "fleet/#") as listener,
        ):

            def refusals() -> int:
                return broker.log_text.count("Denied PUBLISH from yiagent-refused (d0, q1, r1")

            link, journal = _link(broker.port, "refused")
            running = asyncio.create_task(link.run())
            await _until(lambda: refusals() >= 9, "three tries for each of the three")
            assert not listener.messages
            acl.write_text("topic readwrite #\n")
            broker.reload()
            await _until(lambda: all(listener.on(f"fleet/refused/{name}") for name in names), "all three")
            await _until(lambda: "lets this user" in journal.since(0)[-1].message, "word of it")
            settled = refusals()
            await asyncio.sleep(0.5)
            assert [len(listener.on(f"fleet/refused/{name}")) for name in names] == [1, 1, 1]
            assert refusals() == settled
            await _stop(link)
            await running
            return [(line.level, line.message) for line in journal.since(0)]

    lines = asyncio.run(talk())
    assert [line for line in lines if line[0] is Level.ERROR] == [
        (Level.ERROR, f"The MQTT broker does not let this user publish to fleet/refused/{name}: check its access list")
        for name in names
    ]
    assert {message for level, message in lines if level is Level.INFO and "again" in message} == {
        f"The MQTT broker lets this user publish to fleet/refused/{name} again" for name in names
    }
    assert len(lines) == 7


class CountingBroker(BrokenServer):
    """Speaks just enough MQTT 5: refuses the first `refuses` subscriptions, and acknowledges nothing else."""

    def __init__(self, *, refuses: int) -> None:
        super().__init__()
        self._refuses = refuses
        self.subscribed: list[bytes] = []
        self.signed_off = False
        self.open = 0

    def serve(self, client: socket.socket) -> None:
        """Answer until the client goes."""
        self.open += 1
        stream = client.makefile("rb")
        while head := stream.read(1):
            length = shift = 0
            while True:
                (byte,) = stream.read(1)
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            body = stream.read(length)
            if head[0] == 0x10:
                client.sendall(bytes.fromhex("2003000000"))
            elif head[0] == 0xE0:
                self.signed_off = True
            elif head[0] == 0x82:
                self.subscribed.append(body[5:-1])
                code = 0x87 if len(self.subscribed) <= self._refuses else 0x01
                client.sendall(bytes([0x90, 4, *body[:2], 0, code]))
        self.open -= 1


def test_a_refused_subscription_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or no command would be heard for months after the access list was mended; one line each."""
    monkeypatch.setattr("yiagent.notice.REFUSED_AGAIN_S", 0.2)
    monkeypatch.setattr("yiagent.mqtt.TELL_AGAIN_S", 0.05)

    async def talk() -> tuple[list[bytes], list[str]]:
        with CountingBroker(refuses=4) as counting:
            link, journal = _link(counting.port, "deaf")
            running = asyncio.create_task(link.run())
            await _until(lambda: sum("again" in line.message for line in journal.since(0)) == 2, "both allowed")
            await asyncio.sleep(0.5)
            await _stop(link)
            await running
            return counting.subscribed, [line.message for line in journal.since(0)]

    subscribed, lines = asyncio.run(talk())
    assert subscribed == [b"fleet/deaf/+/set", b"fleet/deaf/request"] * 3
    assert sum("does not let this user listen to fleet/deaf/" in line for line in lines) == 2
    assert sum("lets this user listen to fleet/deaf/" in line for line in lines) == 2


def test_a_broker_that_acknowledges_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers pings and loses what it is told: the next state would wait for ever. A new connection tells all."""
    monkeypatch.setattr("yiagent.mqtt.LONGEST_UNANSWERED_S", 0.2)
    monkeypatch.setattr("yiagent.mqtt.LONGEST_WAIT_S", 0.1)
    monkeypatch.setattr("yiagent.mqtt.TELL_AGAIN_S", 0.05)

    async def talk() -> list[str]:
        with CountingBroker(refuses=0) as counting:
            link, journal = _link(counting.port, "unheard")
            running = asyncio.create_task(link.run())
            await _until(lambda: counting.accepted >= 3, "three connections")
            await _stop(link)
            await running
            return _warnings(journal)

    assert "Lost the MQTT broker: it does not acknowledge what it is told. " in asyncio.run(talk())[0]


def test_an_offline_that_is_not_taken_is_left_to_the_last_will(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who signs off has no last will: only where the broker has `offline` does the agent sign off."""
    monkeypatch.setattr("yiagent.mqtt.GOODBYE_S", 0.2)

    async def talk() -> bool:
        with CountingBroker(refuses=0) as counting:
            link, _ = _link(counting.port, "leaving")
            running = asyncio.create_task(link.run())
            await _until(lambda: len(counting.subscribed) == 2, "online")
            await _stop(link)
            await running
            await _until(lambda: counting.open == 0, "the end of the connection")
            return counting.signed_off

    assert not asyncio.run(talk())


def _sample(number: int) -> Telemetry:
    nothing = dict.fromkeys((*TELEMETRY_TYPES,), None)
    return Telemetry(**{**nothing, "ts": time.time(), "sent_bytes": number, "streaming_s": 0})  # type: ignore[arg-type]


def test_telemetry_that_comes_is_fresh(broker: Broker) -> None:
    """What the way does not carry is left out on this side; the latest sample waits, and comes when there is room."""

    async def talk() -> list[int]:
        with Proxy(broker.port, buffer_bytes=4096) as proxy, Listener(broker.port, "fleet/slow/#") as listener:
            store = Store(empty_snapshot(Channel.AUTO))
            link, _ = _link(proxy.port, "slow", store=store, keepalive_s=60)
            running = asyncio.create_task(link.run())
            await _until(lambda: bool(listener.on("fleet/slow/state")), "online")
            proxy.deafen()
            for number in range(300):
                store.put_telemetry(_sample(number))
                await asyncio.sleep(0.005)

            def numbers() -> list[int]:
                return [json.loads(m.payload)["sent_bytes"] for m in listener.on("fleet/slow/telemetry")]

            proxy.hear()
            await _until(lambda: numbers()[-1:] == [299], "the latest sample")
            await _stop(link)
            await running
            return numbers()

    numbers = asyncio.run(talk())
    assert numbers == sorted(set(numbers))
    # Some stood in the proxy already; the kernel alone would have held all 300.
    assert len(numbers) < 60


def test_a_long_message_is_refused_before_it_is_read(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker of 3.1.1 knows no limit: what is longer ends the connection with a word, and the next one stands."""
    monkeypatch.setattr("yiagent.mqttclient.LONGEST_PACKET_BYTES", 100_000)

    async def talk() -> list[str]:
        with OldBrokerProxy(broker.port) as old, Listener(broker.port, "fleet/#") as listener:
            link, journal = _link(old.port, "long")
            running = asyncio.create_task(link.run())
            await _until(lambda: bool(listener.on("fleet/long/state")), "online")
            listener.publish("fleet/long/request", b"x" * 90_000)
            await _until(lambda: bool(listener.on("fleet/long/response")), "an answer")
            position = listener.position
            listener.publish("fleet/long/request", b"x" * 110_000)
            await _until(lambda: bool([m for m in listener.messages[position:] if m.topic.endswith("/state")]), "back")
            await _stop(link)
            await running
            return _warnings(journal)

    refused, lost = asyncio.run(talk())
    assert "longer than 4096 bytes" in refused
    assert "Lost the MQTT broker: it sends a message of more than 97 kB, which is not taken. " in lost


def test_a_link_tries_for_ever_and_says_it_once(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it fails, the log holds one warning of it and one line of the success that ends it."""
    monkeypatch.setattr("yiagent.mqtt.LONGEST_WAIT_S", 0.1)

    async def talk() -> list[str]:
        with Proxy(broker.port) as proxy, Listener(broker.port, "fleet/#") as listener:
            link, journal = _link(proxy.port, "patient")
            running = asyncio.create_task(link.run())
            await _until(lambda: bool(listener.on("fleet/patient/state")), "online")
            proxy.refuse()
            tries = proxy.accepted
            proxy.cut()
            await _until(lambda: proxy.accepted >= tries + 20, "twenty tries")
            position = listener.position
            proxy.accept()

            def back() -> bool:
                return any(message.topic == "fleet/patient/state" for message in listener.messages[position:])

            await _until(back, "online again")
            await _stop(link)
            await running
            assert sum("Connected to the MQTT broker" in line.message for line in journal.since(0)) == 2
            return _warnings(journal)

    lost, still = asyncio.run(talk())
    assert "Lost the MQTT broker" in lost
    assert "Cannot connect to the MQTT broker at 127.0.0.1" in still
    assert "trying again for ever" in still


# MQTT 3.1.1, and commands that were retained


@pytest.mark.parametrize("silent", [False, True])
def test_an_old_broker_is_spoken_to_in_its_own_version(broker: Broker, tmp_path: Path, silent: bool) -> None:
    """MQTT 5 is tried, then 3.1.1; on that, commands and answers work, and a replayed command is ignored, and told."""
    with (
        OldBrokerProxy(broker.port, silent=silent) as old,
        standing(tmp_path, broker.port, agent_port=old.port, start=False) as stand,
        # Named by how it is spoken to, for the retain flag comes out the same.
        Listener(broker.port, stand.agent.topic("#"), protocol=MQTTProtocolVersion.MQTTv311) as listener,
    ):
        listener.publish(stand.agent.topic("stream/set"), "ON", retain=True)
        stand.agent.start()
        stand.agent.wait_until_online(stand.listener)
        # A hang-up may have another reason: it is an old broker's where 3.1.1 is let in, and 5 hung up on once more.
        assert old.levels == ([5, 4, 5, 4] if silent else [5, 4])
        stand.agent.wait_for_log("(MQTT 3.1.1)")
        assert stand.settle()["stream"] == "OFF"
        warning = wait_for_log_line(stand.listener, "Ignored a retained command on stream/set")
        assert warning["level"] == "warning"
        assert stand.agent.intent_bytes() is None

        position = listener.position
        listener.publish(stand.agent.topic("channel/set"), "sd", retain=True)
        wait_for_state(listener, lambda state: state["channel"] == "sd", after=position)
        assert stand.request(channel="auto")["state"]["channel"] == "auto"
        position = listener.position
        listener.publish(stand.agent.topic("channel/set"), "8k")
        refusal = wait_for_answer(
            listener, stand.agent.topic("response"), lambda answer: "command" in answer, after=position
        )
        assert (refusal["command"], refusal["status"]) == ("channel/set", "error")

        position = listener.position
        listener.publish(stand.agent.topic("request"), b'{"key":"' + FIVE_MB + b'"}')
        refusal = wait_for_answer(listener, stand.agent.topic("response"), after=position)
        assert refusal["error"]["code"] == "too_large", "it does not know what an MQTT 5 broker is told"

        position = stand.listener.position
        old.cut()
        stand.agent.wait_until_online(stand.listener, after=position)
        state = stand.settle()
        assert (state["channel"], state["stream"]) == ("auto", "OFF")
        wait_for_log_line(stand.listener, "Ignored a retained command on channel/set")
        assert old.levels[-1] == 4
        # Not left to haunt who comes next.
        listener.publish(stand.agent.topic("channel/set"), b"", retain=True)
        listener.publish(stand.agent.topic("stream/set"), b"", retain=True)


def test_a_retained_command_takes_effect_once(broker: Broker, tmp_path: Path) -> None:
    """Sent while the agent is there it counts; from before its start, and again at each reconnect, it does not."""
    with (
        Proxy(broker.port) as proxy,
        standing(tmp_path, broker.port, agent_port=proxy.port, start=False) as stand,
    ):
        stand.send("stream/set", "ON", retain=True)
        stand.send("request", '{"transaction":"old","channel":"sd"}', retain=True)
        stand.agent.start()
        stand.agent.wait_until_online(stand.listener)
        stand.agent.wait_for_log("(MQTT 5)")
        state = stand.settle()
        assert (state["stream"], state["channel"]) == ("OFF", "auto")
        assert stand.agent.intent_bytes() is None
        assert not [m for m in stand.on("response") if json.loads(m.payload).get("transaction") == "old"]

        position = stand.send("channel/set", "sd", retain=True)
        stand.state(lambda state: state["channel"] == "sd", after=position)
        assert stand.request(channel="auto")["state"]["channel"] == "auto"
        position = stand.listener.position
        proxy.cut()
        stand.agent.wait_until_online(stand.listener, after=position)
        state = stand.settle()
        assert (state["stream"], state["channel"]) == ("OFF", "auto")
        for name in ("stream/set", "channel/set", "request"):
            stand.send(name, b"", retain=True)


# Commands


def test_each_command_does_what_it_says(broker: Broker, tmp_path: Path) -> None:
    """Every `…/set` is echoed in the state and saved, and what it was told survives a restart of the agent."""
    sources = {"sd": "rtsp://127.0.0.1:1/sd", "hd": "rtsp://127.0.0.1:1/hd"}
    with standing(tmp_path, broker.port, source=sources) as stand:

        def after(name: str, payload: str) -> State:
            stand.send(name, payload)
            return stand.settle()

        assert after("stream/set", "ON")["stream"] == "ON"
        state = after("stream/set", "OFF")
        assert (state["stream"], state["phase"]) == ("OFF", "idle")
        for channel in ("sd", "auto", "hd"):
            assert after("channel/set", channel)["channel"] == channel
        state = after("server/set", "rtmps://[::1]:1936/app/instance")
        assert (state["server"], state["key_set"]) == ("rtmps://[::1]:1936/app/instance", False)
        assert after("key/set", "key-one?a=b&c=d")["key_set"] is True
        assert json.loads(stand.agent.intent_bytes() or b"")["key"] == "key-one?a=b&c=d"
        state = after("url/set", "rtmp://example.org/live/instance/key-two")
        assert (state["server"], state["key_set"]) == ("rtmp://example.org/live/instance", True)
        saved = json.loads(stand.agent.intent_bytes() or b"")
        assert (saved["key"], saved["stream"], saved["channel"]) == ("key-two", "OFF", "hd")
        assert not [m for m in stand.on("response") if json.loads(m.payload)["status"] == "error"]

        position = stand.listener.position
        stand.agent.restart()
        again = stand.agent.wait_until_online(stand.listener, after=position)
        assert {**again, "since": state["since"]} == state
        assert not any("rtsp://" in line for line in stand.launches())


def test_pressing_restart_leaves_failed(broker: Broker, tmp_path: Path) -> None:
    """Where the agent waits minutes for a person to mend something, PRESS has it try at once; ON survives `kill -9`."""
    missing = tmp_path / "missing-ffmpeg"
    with standing(tmp_path, broker.port, ffmpeg=missing) as stand:
        position = stand.listener.position
        stand.request(stream="ON", server="rtmp://127.0.0.1:1/live", key="key")
        state = stand.state(lambda state: state["phase"] == "failed", after=position)
        assert (state["reason"]["code"], set(state["reason"])) == ("ffmpeg_missing", REASON_KEYS)
        assert TIME.fullmatch(state["retry_at"])
        missing.symlink_to(tmp_path / "recording-ffmpeg")
        position = stand.send("restart/set", "PRESS")
        stand.state(lambda state: state["phase"] in ("starting", "backing_off"), after=position)
        stand.agent.wait_until(
            lambda: any("rtsp://" in line for line in stand.launches()), WAIT_TIMEOUT_S, "a start of ffmpeg"
        )
        position = stand.listener.position
        stand.agent.kill9()
        stand.agent.start()
        assert stand.agent.wait_until_online(stand.listener, after=position)["stream"] == "ON", "the wish has survived"
        position = stand.listener.position
        assert stand.request(stream="OFF")["state"]["stream"] == "OFF"
        stand.state(lambda state: state["phase"] == "idle" and state["reason"] is None, after=position)


def test_a_request_applies_all_of_it(idle: Stand) -> None:
    """Any subset is applied together and answered with the state it led to; the same again changes nothing."""
    everything = {"stream": "OFF", "server": "rtmp://127.0.0.1/all", "key": "second-key", "channel": "sd"}
    answer = idle.request(**everything)
    assert set(answer) == {"transaction", "status", "error", "state"}
    assert (answer["status"], answer["error"]) == ("ok", None)
    assert set(answer["state"]) == STATE_KEYS
    assert answer["state"]["server"] == "rtmp://127.0.0.1/all"
    assert json.loads(idle.agent.intent_bytes() or b"")["key"] == "second-key"
    states, saved = len(idle.on("state")), idle.agent.intent_file.stat()
    for field, value in everything.items():
        assert idle.request(**{field: value})["state"] == answer["state"]
    assert idle.request(**everything)["state"] == answer["state"]
    assert idle.request()["state"] == answer["state"]
    assert len(idle.on("state")) == states
    assert idle.agent.intent_file.stat() == saved, "not even written"
    assert idle.request(server="rtmp://127.0.0.1/one")["state"]["server"] == "rtmp://127.0.0.1/one"

    position = idle.send("request", "{}")
    assert idle.answer(lambda answer: answer["transaction"] is None, after=position)["status"] == "ok"
    response = idle.on("response", after=position)[0]
    assert (response.qos, response.retain) == (1, False)


def test_the_senders_own_topic_and_mark_are_honoured(idle: Stand, broker: Broker) -> None:
    """With MQTT 5 the answer also goes to the Response Topic, and carries the Correlation Data; a refusal too."""
    with Listener(broker.port, "reply/#") as own:
        for name, payload in (("request", '{"transaction":"five"}'), ("channel/set", "8k")):
            position = own.position
            answered = idle.send(name, payload, response_topic="reply/here", correlation_data=b"\x00\xff5")
            heard = own.wait_for_topic("reply/here", after=position)
            assert heard.properties["CorrelationData"] == b"\x00\xff5"
            answer = json.loads(heard.payload)
            assert answer.get("transaction", answer.get("command")) in ("five", "channel/set")
            assert idle.answer(lambda answer: True, after=answered) == answer


@pytest.mark.parametrize("name", ["state", "availability", "stream/set", "request"])
def test_no_answer_is_sent_to_the_agents_own_topics(idle: Stand, name: str) -> None:
    """A Response Topic below the device's root would falsify its state or command it: `response` alone is used."""
    position = idle.listener.position
    idle.send("request", '{"transaction":"loop"}', response_topic=idle.agent.topic(name), correlation_data=b"1")
    idle.answer(lambda answer: answer.get("transaction") == "loop", after=position)
    sent_to = {m.topic for m in idle.listener.messages[position:] if m.properties.get("CorrelationData") == b"1"}
    idle.settle()
    assert sent_to <= {idle.agent.topic("request"), idle.agent.topic("response")}
    assert not [m for m in idle.on(name, after=position) if b'"status"' in m.payload]


LONG_KEY = b"k" * 300
FIVE_MB = b"x" * 5_000_000
NO_SERVER = "must begin with rtmp:// or rtmps://"
BAD_COMMANDS: list[tuple[str, bytes, str, str]] = [
    ("nonsense/set", b"1", "unknown_command", "no such command"),
    ("streem/set", b"ON", "unknown_command", "did you mean stream/set?"),
    ("stream/set", b"on", "invalid_value", "must be ON or OFF; did you mean ON?"),
    ("stream/set", b"", "invalid_value", "must be ON or OFF"),
    ("stream/set", b"ON\n", "invalid_value", "must be ON or OFF"),
    ("stream/set", b"ON\x00", "invalid_value", "must be ON or OFF"),
    ("stream/set", b'{"stream":"ON"}', "invalid_value", "must be ON or OFF"),
    ("stream/set", b"\xff\xfeON", "not_utf8", "UTF-8"),
    ("stream/set", FIVE_MB, "too_large", "longer than 4096 bytes"),
    ("stream/set", b"ON" + b" " * 4095, "too_large", "longer than 4096 bytes"),
    ("key/set", FIVE_MB, "too_large", "longer than 4096 bytes"),
    ("key/set", LONG_KEY, "invalid_value", "longer than 255 characters"),
    ("key/set", b"two\nlines", "invalid_value", "one line"),
    ("key/set", b"nul\x00", "invalid_value", "control character"),
    ("key/set", b" blank", "invalid_value", "space"),
    ("key/set", b"", "invalid_value", "empty"),
    ("key/set", b"\xc3\x28", "not_utf8", "UTF-8"),
    ("server/set", b"http://127.0.0.1/live", "invalid_value", NO_SERVER),
    ("server/set", b"file:///etc/passwd", "invalid_value", NO_SERVER),
    ("server/set", b"-f", "invalid_value", NO_SERVER),
    ("server/set", b"-i rtmp://127.0.0.1/live", "invalid_value", NO_SERVER),
    ("server/set", b"", "invalid_value", NO_SERVER),
    ("server/set", b"tee:rtmp://127.0.0.1/live", "invalid_value", NO_SERVER),
    ("server/set", b"rtsp://127.0.0.1/live", "invalid_value", NO_SERVER),
    ("server/set", b"rtmp://", "invalid_value", "no host"),
    ("server/set", b"rtmp:///live", "invalid_value", "no host"),
    ("server/set", b"rtmp://host:99999/live", "invalid_value", "port"),
    ("server/set", b"rtmp://[::1/live", "invalid_value", "IPv6"),
    ("server/set", b"rtmp://-f/live", "invalid_value", "host name"),
    ("server/set", b"rtmp://host/li ve", "invalid_value", "space"),
    ("server/set", b"rtmp://host/live\n-f", "invalid_value", "line break"),
    ("server/set", b"rtmp://***@host/live", "invalid_value", "type it whole"),
    ("server/set", b"rtmp://host/" + b"a" * 300, "invalid_value", "longer than 255 characters"),
    ("url/set", b"http://127.0.0.1/live/key", "invalid_value", NO_SERVER),
    ("url/set", b"file:///etc/passwd", "invalid_value", NO_SERVER),
    ("url/set", b"-f", "invalid_value", "rtmp://host/app/key"),
    ("url/set", b"rtmp://host", "invalid_value", "rtmp://host/app/key"),
    ("url/set", b"rtmp://host/live/", "invalid_value", "no stream key"),
    ("url/set", b"rtmp://host/live/" + LONG_KEY, "invalid_value", "longer than 255 characters"),
    ("url/set", b"rtmp://host/live/two\nlines", "invalid_value", "line break"),
    ("channel/set", b"4k", "invalid_value", "must be sd or hd or auto"),
    ("channel/set", b"HD", "invalid_value", "did you mean hd?"),
    ("channel/set", b"hd", "not_available", "source.hd is not configured"),
    ("restart/set", b"", "invalid_value", "must be PRESS"),
    ("restart/set", b"press", "invalid_value", "did you mean PRESS?"),
    ("snapshot/set", b"now", "invalid_value", "must be PRESS"),
    ("snapshot/set", b"PRESS", "not_available", "pictures are off: set snapshot.enabled: true"),
]
BAD_REQUESTS: list[tuple[bytes, str, str]] = [
    (b"", "not_json", "not valid JSON"),
    (b"ON", "not_json", "not valid JSON"),
    (b'{"stream":"ON"', "not_json", "not valid JSON"),
    (b"[" * 4000, "not_json", "not valid JSON"),
    (b'["stream","ON"]', "not_json", "JSON object"),
    (b"null", "not_json", "JSON object"),
    (b'"ON"', "not_json", "JSON object"),
    (b'{"stream":"OFF","stream":"ON"}', "not_json", "twice"),
    (b'{"stream":"ON","key":"\xff"}', "not_utf8", "UTF-8"),
    (b'{"key":"' + FIVE_MB + b'"}', "too_large", "longer than 4096 bytes"),
    (b'{"transaction":"T","stream":true}', "invalid_value", "stream must be text"),
    (b'{"transaction":"T","stream":NaN}', "invalid_value", "stream must be text"),
    (b'{"transaction":"T","server":5}', "invalid_value", "server must be text"),
    (b'{"transaction":"T","key":null}', "invalid_value", "key must be text"),
    (b'{"transaction":"T","key":["k"]}', "invalid_value", "key must be text"),
    (b'{"transaction":"T","channel":{"hd":"hd"}}', "invalid_value", "channel must be text"),
    (b'{"transaction":"T","streem":"ON"}', "unknown_field", "did you mean stream?"),
    (b'{"transaction":"T","restart":"PRESS"}', "unknown_field", "unknown field"),
    (b'{"transaction":"T","stream":"ON","server":"http://127.0.0.1/"}', "invalid_value", f"the server URL {NO_SERVER}"),
    (b'{"transaction":"T","stream":"ON","server":"-f"}', "invalid_value", f"the server URL {NO_SERVER}"),
    (b'{"transaction":"T","stream":"ON","server":"file:///etc/passwd"}', "invalid_value", "server"),
    (b'{"transaction":"T","stream":"ON","key":"' + LONG_KEY + b'"}', "invalid_value", "longer than 255"),
    (b'{"transaction":"T","stream":"ON","key":"two\\nlines"}', "invalid_value", "one line"),
    (b'{"transaction":"T","stream":"ON","key":"\\ud800"}', "invalid_value", "key"),
    (b'{"transaction":"T","key":"new-key","channel":"hd"}', "not_available", "source.hd is not configured"),
    (b'{"transaction":"T","server":"rtmp://127.0.0.1/new","stream":"on"}', "invalid_value", "did you mean ON?"),
    (b'{"transaction":5,"stream":"ON"}', "invalid_value", "transaction"),
    (b'{"transaction":"\\ud800","stream":"ON"}', "invalid_value", "transaction"),
    (b'{"transaction":"' + b"t" * 129 + b'","stream":"ON"}', "invalid_value", "transaction"),
]


@contextmanager
def nothing_changes(stand: Stand) -> Iterator[int]:
    """What is sent within leaves state, intent file and processes as they are; gives the position to listen from."""
    before = stand.settle(), stand.agent.intent_bytes(), {child.pid for child in stand.agent.children()}
    position, launches = stand.listener.position, stand.launches()
    yield position
    after = stand.settle(), stand.agent.intent_bytes(), {child.pid for child in stand.agent.children()}
    assert after == before
    assert stand.launches() == launches
    assert not stand.on("state", after=position)


def _named(value: object) -> str | None:
    """A short test id for a long payload."""
    return f"{value[:30]!r}"[2:-1] if isinstance(value, bytes) else None


@pytest.mark.parametrize(("command", "payload", "code", "words"), BAD_COMMANDS, ids=_named)
def test_a_bad_command_is_refused_with_a_reason(
    idle: Stand, command: str, payload: bytes, code: str, words: str
) -> None:
    """What is not in the contract is answered with why, changes nothing and starts nothing."""
    with nothing_changes(idle) as position:
        idle.send(command, payload)
        answer = idle.answer(lambda answer: "command" in answer, after=position)
        assert set(answer) == {"command", "status", "error", "state"}
        assert (answer["command"], answer["status"], answer["error"]["code"]) == (command, "error", code)
        assert set(answer["error"]) == REASON_KEYS
        assert words in answer["error"]["message"]
        assert set(answer["state"]) == STATE_KEYS


@pytest.mark.parametrize(("payload", "code", "words"), BAD_REQUESTS, ids=_named)
def test_a_bad_request_is_refused_as_a_whole(idle: Stand, payload: bytes, code: str, words: str) -> None:
    """One bad field, and nothing of the request is applied; its mark comes back where it was legible."""
    with nothing_changes(idle) as position:
        idle.send("request", payload)
        answer = idle.answer(lambda answer: answer["status"] == "error", after=position)
        assert set(answer) == {"transaction", "status", "error", "state"}
        assert (answer["transaction"], answer["error"]["code"]) == ("T" if b'"T"' in payload else None, code)
        assert words in answer["error"]["message"]


def test_topics_that_are_no_commands_do_nothing(idle: Stand) -> None:
    """Other topics below the root, another device's and the agent's own are not listened to."""
    with nothing_changes(idle):
        other = idle.agent.topic("x").replace(idle.agent.config["device"]["id"], "other").removesuffix("/x")
        idle.listener.publish(f"{other}/stream/set", "ON")
        for name in ("stream", "set", "stream/set/now", "a/stream/set", "response"):
            idle.send(name, "ON")


def test_the_last_of_a_flood_of_commands_counts(idle: Stand) -> None:
    """However many commands come at once, the agent goes on, and its wish is the last one's."""
    for number in range(300):
        idle.listener.publish(idle.agent.topic("server/set"), f"rtmp://127.0.0.1/flood{number}", qos=0)
    idle.send("server/set", "rtmp://127.0.0.1/last")
    assert idle.settle()["server"] == "rtmp://127.0.0.1/last"


# Commands while it streams


@pytest.fixture(scope="module")
def live(
    broker: Broker, any_camera: LiveCamera, any_server: RtmpServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stand, RtmpServer]]:
    """An agent that streams a live camera to a server."""
    sources = {"sd": any_camera.sd_url, "hd": any_camera.hd_url}
    with standing(tmp_path_factory.mktemp("live"), broker.port, source=sources) as stand:
        stand.request(server=any_server.url(), key="mqtt-one", channel="sd", stream="ON")
        stand.state(lambda state: state["phase"] == "streaming")
        yield stand, any_server


def test_a_repeated_command_does_not_restart_the_stream(live: tuple[Stand, RtmpServer]) -> None:
    """What is so already is answered, and the same ffmpeg goes on."""
    stand, server = live
    launches, pids = stand.media_launches(), [child.pid for child in stand.agent.ffmpegs()]
    for name, payload in (
        *(("stream/set", "ON"), ("server/set", server.url()), ("key/set", "mqtt-one"), ("channel/set", "sd")),
        ("url/set", f"{server.url()}/mqtt-one"),
    ):
        stand.send(name, payload)
    answer = stand.request(stream="ON", server=server.url(), key="mqtt-one", channel="sd")
    assert (answer["status"], answer["state"]["phase"]) == ("ok", "streaming")
    assert len(pids) == 1
    assert (stand.media_launches(), [child.pid for child in stand.agent.ffmpegs()]) == (launches, pids)


def test_a_changed_target_restarts_the_stream_once(live: tuple[Stand, RtmpServer]) -> None:
    """A new server, key and channel at once, or one alone, mean one launch; the state tells it streams again."""
    stand, server = live
    for fields, app, key in (
        ({"key": "mqtt-two"}, "live", "mqtt-two"),
        ({"server": server.url("live/instance"), "key": "mqtt-three", "channel": "hd"}, "live/instance", "mqtt-three"),
    ):
        launches, position = stand.media_launches(), stand.listener.position
        stand.request(**fields)
        server.wait_for_stream(key, app, timeout_s=WAIT_TIMEOUT_S)
        stand.state(lambda state: state["phase"] not in ("streaming", "stalled"), after=position)
        again = next(
            n
            for n, m in enumerate(stand.listener.messages)
            if n >= position
            and m.topic == stand.agent.topic("state")
            and json.loads(m.payload)["phase"] not in ("streaming", "stalled")
        )
        stand.state(lambda state: state["phase"] == "streaming", after=again)
        assert stand.media_launches() == launches + 1
        assert len(stand.agent.ffmpegs()) == 1


def test_telemetry_measures_the_stream(live: tuple[Stand, RtmpServer]) -> None:
    """While media leaves, nothing of the stream is null, and its counters grow."""
    stand, _ = live
    position = stand.listener.position

    def measured(message: Message) -> bool:
        if message.topic != stand.agent.topic("telemetry"):
            return False
        sample = json.loads(message.payload)
        return sample["stream_kbps"] > 100 and all(sample[key] is not None for key in ("fps", "speed", "remux_rss_kb"))

    first = json.loads(stand.listener.wait_for(measured, WAIT_TIMEOUT_S, "a full sample", after=position).payload)
    assert {key: type(value) in TELEMETRY_TYPES[key] for key, value in first.items()} == dict.fromkeys(
        TELEMETRY_TYPES, True
    )
    stand.listener.wait_for(
        lambda message: measured(message) and json.loads(message.payload)["sent_bytes"] > first["sent_bytes"],
        WAIT_TIMEOUT_S,
        "more bytes",
        after=position,
    )


def test_nothing_runs_after_off(live: tuple[Stand, RtmpServer]) -> None:
    """OFF ends ffmpeg and the stream, with no reason left behind; the last test of this stream."""
    stand, server = live
    position = stand.listener.position
    assert stand.request(stream="OFF")["state"]["stream"] == "OFF"
    state = stand.state(lambda state: state["phase"] == "idle", after=position)
    assert (state["active_channel"], state["reason"], state["retry_at"]) == (None, None, None)
    assert stand.agent.ffmpegs() == []
    for key, app in (("mqtt-one", "live"), ("mqtt-two", "live"), ("mqtt-three", "live/instance")):
        server.wait_for_no_stream(key, app)


# Two agents where there should be one


def test_two_agents_with_one_device_id_say_so(broker: Broker, tmp_path: Path) -> None:
    """The broker puts the first one out; its log says what that means, and not merely that a connection was lost."""
    with standing(tmp_path / "first", broker.port) as first:
        other = {"device": first.agent.config["device"]}
        with AgentProcess(tmp_path / "second", broker_port=broker.port, config=other):
            first.agent.wait_for_log("is a second agent running with this device.id?", WAIT_TIMEOUT_S)


def test_an_agent_takes_over_from_the_one_before(broker: Broker, tmp_path: Path) -> None:
    """Started before the old one has ended, it waits for the state folder, and then goes on with the same wish."""
    with standing(tmp_path, broker.port) as stand:
        stand.request(channel="sd")
        config = {"device": stand.agent.config["device"], "state_dir": stand.agent.state_dir}
        second = AgentProcess(tmp_path / "second", broker_port=broker.port, config=config, waits=False)
        with second:
            second.wait_for_log("Waiting for the agent before this one")
            position = stand.listener.position
            assert stand.agent.end() == 0
            assert second.wait_until_online(stand.listener, after=position)["channel"] == "sd"
            assert second.end() == 0


class Impatient(AgentProcess):
    """One that waits for the state folder for a second instead of twelve."""

    def command(self) -> list[str]:
        python, _, _, *arguments = super().command()
        # The name is read first: a constant that is called otherwise one day ends it at once instead of being ignored.
        program = (
            "import yiagent.lock, yiagent.cli; yiagent.lock.WAIT_S; yiagent.lock.WAIT_S = 1.0;"
            "raise SystemExit(yiagent.cli.main())"
        )
        return [python, "-c", program, *arguments]


def test_two_agents_with_one_state_folder_do_not_run(broker: Broker, tmp_path: Path) -> None:
    """The second ends with status 1 and a sentence that says what to do; the first never notices."""
    with standing(tmp_path, broker.port) as stand:
        config = {"device": {"id": "another"}, "state_dir": stand.agent.state_dir}
        with Impatient(tmp_path / "second", broker_port=broker.port, config=config, waits=False) as second:
            assert second.wait_for_end() == 1
            assert f"Another yiagent runs with {stand.agent.state_dir}" in second.log_text
            assert "state_dir of its own" in second.log_text
            assert "Traceback" not in second.log_text
        assert stand.settle()["stream"] == "OFF"
        assert stand.agent.log_text.count("Connected to the MQTT broker") == 1
