"""One connection to the broker, its bounds, and what decides about it: what must be told, and in which version."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import threading
import time
from collections.abc import Callable

import paho.mqtt.client as paho
import psutil
import pytest

from tests.peers.broken_servers import BrokenServer
from yiagent import mqttclient
from yiagent.broker import Closed, Connected, Connection, Ended, Event
from yiagent.mqtt import STEADY_S, failures_after, pause_s
from yiagent.notice import REFUSED_AGAIN_S, Notice
from yiagent.protocol import Version
from yiagent.settings import DiscoveryConfig, MqttConfig

WAIT_TIMEOUT_S = 20.0


# What the broker must know


class Talk:
    """A notice, what is so, and what was said of it."""

    def __init__(self) -> None:
        self.value = "a"
        self.takes = True
        self.said: list[str] = []
        self.notice = Notice(lambda: self.value, self._say)

    def _say(self, value: str) -> bool:
        if self.takes:
            self.said.append(value)
        return self.takes


def test_the_latest_alone_waits_while_one_is_on_its_way() -> None:
    """However much changes before the answer, one is said after it: what is so then; and nothing is said twice."""
    talk = Talk()
    assert not talk.notice.tell(0.0)
    for value in "bcdb":
        talk.value = value
        assert not talk.notice.tell(1.0)
    assert talk.said == ["a"]
    talk.notice.answered(2.0, allowed=True)
    assert not talk.notice.tell(2.0), "not known before it is acknowledged"
    talk.notice.answered(3.0, allowed=True)
    assert talk.notice.tell(1e9)
    assert talk.said == ["a", "b"]


def test_what_could_not_be_said_is_not_told() -> None:
    """Where the queue is full it is tried at the next turn, and what is so by then is said."""
    talk = Talk()
    talk.takes = False
    assert not talk.notice.tell(0.0)
    talk.takes, talk.value = True, "b"
    assert not talk.notice.tell(0.0)
    assert talk.said == ["b"]


def test_what_was_refused_is_said_again_now_and_then() -> None:
    """The same after half a minute, and something else at once, until it is taken."""
    talk = Talk()
    talk.notice.tell(0.0)
    talk.notice.answered(1.0, allowed=False)
    assert not talk.notice.tell(REFUSED_AGAIN_S)
    assert talk.said == ["a"]
    assert not talk.notice.tell(1.0 + REFUSED_AGAIN_S)
    assert talk.said == ["a", "a"]
    talk.notice.answered(40.0, allowed=False)
    talk.value = "b"
    assert not talk.notice.tell(40.0)
    talk.notice.answered(41.0, allowed=True)
    assert talk.notice.tell(1e9)
    assert talk.said == ["a", "a", "b"]


def test_what_is_known_is_said_once_more_on_request() -> None:
    """Somebody has come who does not know it: once, by its latest, and not beside what is on its way already."""
    talk = Talk()
    talk.notice.tell(0.0)
    talk.notice.answered(0.0, allowed=True)
    assert talk.notice.tell(0.0)
    talk.notice.say_again()
    talk.notice.say_again()
    assert not talk.notice.tell(1.0)
    talk.notice.say_again()
    assert not talk.notice.tell(1.0)
    assert talk.said == ["a", "a"]
    talk.value = "b"
    talk.notice.answered(2.0, allowed=True)
    assert not talk.notice.tell(2.0)
    talk.notice.answered(3.0, allowed=True)
    assert talk.notice.tell(3.0)
    assert talk.said == ["a", "a", "b"]


def test_saying_again_waits_until_it_can_be_said() -> None:
    """What could not be handed on is still owed."""
    talk = Talk()
    talk.notice.tell(0.0)
    talk.notice.answered(0.0, allowed=True)
    talk.takes = False
    talk.notice.say_again()
    assert not talk.notice.tell(1.0)
    talk.takes = True
    assert not talk.notice.tell(2.0)
    assert talk.said == ["a", "a"]


def test_known_is_what_the_broker_has_taken() -> None:
    """Not what was never said, is on its way, or was refused."""
    talk = Talk()
    assert not talk.notice.is_known
    talk.notice.tell(0.0)
    assert not talk.notice.is_known
    talk.notice.answered(0.0, allowed=False)
    assert not talk.notice.is_known
    talk.notice.tell(REFUSED_AGAIN_S)
    talk.notice.answered(REFUSED_AGAIN_S, allowed=True)
    assert talk.notice.is_known
    talk.notice.say_again()
    talk.notice.tell(REFUSED_AGAIN_S)
    assert not talk.notice.is_known
    talk.notice.answered(REFUSED_AGAIN_S, allowed=True)
    assert talk.notice.is_known


def test_a_missing_answer_is_seen() -> None:
    """Counted from when it was said; an answer that nobody asked for changes nothing."""
    talk = Talk()
    talk.notice.answered(0.0, allowed=False)
    assert talk.notice.unanswered_s(5.0) == 0
    talk.notice.tell(5.0)
    assert talk.notice.unanswered_s(9.0) == 4
    talk.notice.answered(9.0, allowed=True)
    assert talk.notice.unanswered_s(9.0) == 0


# The version

OLD, HUNG_UP, LOST, IN = Ended.OLD_PROTOCOL, Ended.HUNG_UP, Ended.LOST, None


@pytest.mark.parametrize(
    ("ends", "spoken"),
    [
        pytest.param([IN, IN], "5 5 5", id="it speaks 5"),
        pytest.param([LOST, LOST], "5 5 5", id="away"),
        pytest.param([OLD, IN], "5 3 5", id="it says that it is old; upgraded meanwhile, it is spoken to in 5"),
        pytest.param([OLD, IN, OLD, IN], "5 3 5 3 5", id="it is old for ever"),
        pytest.param([HUNG_UP, HUNG_UP], "5 3? 5", id="it hangs up on everyone"),
        pytest.param([HUNG_UP, LOST, HUNG_UP], "5 3? 5 3?", id="frozen"),
        pytest.param([HUNG_UP, IN, IN], "5 3? 5 5", id="it was starting"),
        pytest.param([HUNG_UP, IN, HUNG_UP, IN], "5 3? 5 3 5", id="it hangs up on 5, as it has proved"),
        pytest.param([HUNG_UP, IN, LOST, HUNG_UP], "5 3? 5 5 3?", id="half a proof does not last"),
        pytest.param([HUNG_UP, IN, HUNG_UP, HUNG_UP, HUNG_UP], "5 3? 5 3 5 3?", id="a proof does not outlive it"),
    ],
)
def test_the_version_follows_how_connections_end(ends: list[Ended | None], spoken: str) -> None:
    """3.1.1 is used where 5 is certainly not spoken; `?`: where it is only tried whether it is let in."""
    version = Version()
    heard = []
    for how in [*ends, LOST]:
        heard.append(("5" if version.mqtt5 else "3") + ("?" if version.is_doubtful else ""))
        version.try_another(how or Ended.LOST, accepted=how is IN)
    assert " ".join(heard) == spoken


def test_only_another_version_is_tried_at_once() -> None:
    """Every try in vain but those is followed by a wait, or a broker that hangs up would be asked without end."""
    version = Version()
    for how, accepted, at_once in (
        (HUNG_UP, False, True),
        (HUNG_UP, False, False),
        (OLD, False, True),
        (LOST, True, False),
        (HUNG_UP, False, True),
        (LOST, True, True),
        (HUNG_UP, False, True),
        (HUNG_UP, False, False),
    ):
        assert version.try_another(how, accepted=accepted) is at_once


# One connection


def _config(port: int) -> MqttConfig:
    return MqttConfig(
        host="127.0.0.1",
        port=port,
        username=None,
        password=None,
        tls=None,
        prefix="yiagent",
        keepalive_s=30,
        discovery=DiscoveryConfig(enabled=False, prefix="homeassistant"),
    )


def _connection(port: int, post: Callable[[Event], None], *, mqtt5: bool = True) -> Connection:
    loop = asyncio.get_running_loop()
    return Connection(_config(port), client_id="x", mqtt5=mqtt5, will=None, loop=loop, post=post)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - the conditions are seen on other threads and in the kernel
            await asyncio.sleep(0.01)


ACCEPTED = {True: bytes.fromhex("2003000000"), False: bytes.fromhex("20020000")}


class EndlessMessageServer(BrokenServer):
    """Accepts a client of one version, and then sends one message of 268 million bytes; counts what is read."""

    def __init__(self, *, mqtt5: bool) -> None:
        super().__init__()
        self._mqtt5 = mqtt5
        self.sent = 0

    def serve(self, client: socket.socket) -> None:
        """Send for as long as the client reads."""
        client.recv(1024)
        client.sendall(ACCEPTED[self._mqtt5] + bytes.fromhex("30ffffff7f"))
        while True:
            self.sent += client.send(bytes(65536))


@pytest.mark.parametrize("mqtt5", [True, False])
def test_a_message_without_end_is_not_read(mqtt5: bool) -> None:
    """What announces more than this machine takes ends the connection before it is read, in either version."""

    async def talk() -> tuple[list[Event], int]:
        events: list[Event] = []
        with EndlessMessageServer(mqtt5=mqtt5) as server:
            connection = _connection(server.port, events.append, mqtt5=mqtt5)
            await connection.open()
            await _until(lambda: any(isinstance(event, Closed) for event in events))
            await connection.close(say_goodbye=False)
            return events, server.sent

    (connected, closed), sent = asyncio.run(talk())
    assert isinstance(connected, Connected)
    most_kb = mqttclient.longest_packet_bytes() >> 10
    assert closed == Closed(Ended.LOST, f"it sends a message of more than {most_kb} kB, which is not taken")
    # All of it stood in the kernel's buffers.
    assert sent < 32_000_000


def test_paho_still_reads_as_the_limit_supposes() -> None:
    """The limit stands on a private name of paho's; where that is gone, this says why the test above fails."""
    assert list(inspect.signature(paho.Client._sock_recv).parameters) == ["self", "bufsize"]
    assert "_sock_recv" in vars(mqttclient.Client)


def test_the_limit_fits_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixty-fourth of the memory, 16 MB at the most; where the memory cannot be read, that of a small machine."""

    class Memory:
        total = 64 << 20

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    assert mqttclient.longest_packet_bytes() == 1 << 20
    Memory.total = 64 << 30
    assert mqttclient.longest_packet_bytes() == 16 << 20

    def unreadable() -> None:
        raise OSError

    monkeypatch.setattr(psutil, "virtual_memory", unreadable)
    assert mqttclient.longest_packet_bytes() == 256 << 10


class DeafServer(BrokenServer):
    """Accepts an MQTT 5 client and then reads nothing; its kernel has little room for what is not read."""

    RECEIVE_BUFFER_BYTES = 4096

    def __init__(self) -> None:
        super().__init__()
        self._ends = threading.Event()

    def start(self) -> DeafServer:
        """Listen."""
        super().start()
        assert self._listening is not None
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.RECEIVE_BUFFER_BYTES)
        return self

    def stop(self) -> None:
        """Let go of the clients."""
        self._ends.set()
        super().stop()

    def serve(self, client: socket.socket) -> None:
        """Wait for the end."""
        client.recv(1024)
        client.sendall(ACCEPTED[True])
        self._ends.wait()


def test_what_may_be_lost_waits_on_this_side() -> None:
    """Towards a broker that does not read there is room for little: the kernel's buffers do not age what is said."""

    async def talk() -> tuple[int, float]:
        events: list[Event] = []
        with DeafServer() as server:
            connection = _connection(server.port, events.append)
            await connection.open()
            await _until(lambda: bool(events))
            given = 0
            full_since = time.monotonic()
            while time.monotonic() - full_since < 1:
                if connection.has_room:
                    connection.publish_loosely("yiagent/x/telemetry", "x" * 400)
                    given += 400
                    full_since = time.monotonic()
                await asyncio.sleep(0.001)
            began = time.monotonic()
            await connection.close(say_goodbye=True)
            return given, time.monotonic() - began

    given, closing_s = asyncio.run(talk())
    # What the server's kernel has taken is not on this side any more.
    assert 1_000 < given < 20_000
    assert closing_s < 5, "nor does such a broker hold up the end"


def test_connections_leave_nothing_behind() -> None:
    """After two hundred of them there is no thread and no open file more than before."""

    class HangUpOnceIn(BrokenServer):
        def serve(self, client: socket.socket) -> None:
            client.recv(1024)
            client.sendall(ACCEPTED[True])

    async def talk() -> None:
        def count() -> tuple[int, int]:
            return threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, no paths wanted

        with HangUpOnceIn() as server:

            async def connect() -> None:
                events: list[Event] = []
                connection = _connection(server.port, events.append)
                await connection.open()
                await _until(lambda: any(isinstance(event, Closed) for event in events))
                await connection.close(say_goodbye=False)

            await connect()
            threads, files = count()
            for _ in range(200):
                await connect()
            # The server's own threads and sockets take a moment.
            await _until(lambda: count()[0] <= threads and count()[1] <= files)

    asyncio.run(talk())


def test_the_waits_between_connections_grow_and_are_spread() -> None:
    """Twice as long after each failure, a minute at the most; spread over more than half of it, for a fleet's sake."""
    for failures, longest_s in ((0, 1.0), (1, 2.0), (3, 8.0), (5, 32.0), (6, 60.0), (5000, 60.0)):
        waits_s = [pause_s(failures) for _ in range(500)]
        assert 0.3 * longest_s <= min(waits_s) < 0.36 * longest_s
        assert 0.94 * longest_s < max(waits_s) <= longest_s


def test_only_a_connection_that_held_begins_anew() -> None:
    """Let in and thrown out again, or not let in for ever so long, is one failure more."""
    assert failures_after(4, accepted=True, lasted_s=STEADY_S) == 0
    assert failures_after(4, accepted=True, lasted_s=STEADY_S - 1) == 5
    assert failures_after(4, accepted=False, lasted_s=STEADY_S) == 5
