"""Ten thousand lines a second from a mad ffmpeg that streams: the agent beside `ffmpeg | mosquitto_pub -l`."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.bench.process import memory_of, processor_s
from tests.bench.subject import PATIENCE_S, TOPIC, agent_on
from tests.bench.talker import Kind, Talker
from tests.harness import wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.process import find_program
from tests.peers.rtmp import RtmpServer

LINES_PER_S = 10_000
# How long each is.
FLOODS_S = {Kind.NEW: 10.0, Kind.SAME: 5.0}
QUIET_S = 5.0
PIPED_S = 3.0
QUICK_S = 3.0
# After a flood, until what it left behind is counted.
SETTLE_S = 1.0
ASKED_PER_S = 5
ANSWER_AIM_MS = 50.0
# The journal's 500 lines, once full, are part of it.
GROWTH_AIM_MB = 1.0
SHELL = "ffmpeg 2>&1 | mosquitto_pub -l"
CALM = "yiagent without the flood"
FLOODS = {Kind.NEW: "different", Kind.SAME: "equal"}


@dataclass(frozen=True)
class Flood:
    """What one flood, or a silence, did to the agent.

    `lines_per_s`: what ffmpeg got rid of. `heard_per_s`: of that, what came to the broker. `per_s`: seconds of
    processor a second. `highest_mb`: Rss. `media_per_s`: bytes at the server. `answers_ms`: from a request to its
    answer.
    """

    lines_per_s: float
    heard_per_s: float
    per_s: float
    highest_mb: float
    media_per_s: float
    answers_ms: list[float]


@dataclass(frozen=True)
class Piped:
    """The flood of different lines into `mosquitto_pub -l`, which publishes each: `per_s` as above."""

    lines_per_s: float
    per_s: float


def measure_flood(
    folder: Path, broker: Broker, camera: LiveCamera, server: RtmpServer, options: Options
) -> list[Figure]:
    """A fresh agent each time: silence, a flood of different lines, one of equal ones, silence."""
    quiet: list[Flood] = []
    floods: dict[Kind, list[Flood]] = {kind: [] for kind in FLOODS}
    kept_mb: list[float | None] = []
    piped: list[Piped] = []
    with (
        Listener(broker.port, f"{TOPIC}/#") as listener,
        # Who hears all is sent the request as well, and the answer 40 ms later: so long Nagle's algorithm holds it back
        # at the broker, until the listener has acknowledged the request.
        Listener(broker.port, f"{TOPIC}/response") as asker,
    ):
        for number in range(options.runs):
            own = folder / f"flood-{number}"
            talker = Talker(own)
            with agent_on(own, broker, listener, camera, talker.program) as agent, streaming(listener, server):
                subject = _Subject(agent.pid, talker, listener, asker, server)
                quiet.append(subject.watch(Kind.NEW, 0, QUIET_S))
                for kind, found in floods.items():
                    found.append(subject.watch(kind, LINES_PER_S, QUICK_S if options.quick else FLOODS_S[kind]))
                    time.sleep(SETTLE_S)
                kept_mb.append(memory_of(agent.pid).rss_mb - quiet[-1].highest_mb)
            piped.append(_piped(folder, broker, PIPED_S))
    figures = []
    for kind in FLOODS:
        figures += _figures(f"{LINES_PER_S:,} {FLOODS[kind]} lines a second", quiet, floods[kind])
        if kind is Kind.NEW:
            figures += _piped_figures(f"{LINES_PER_S:,} {FLOODS[kind]} lines a second", piped)
    return [*figures, Figure(f"memory kept of both floods, {SETTLE_S:g} s later", "MB", kept_mb, aim=GROWTH_AIM_MB)]


def _figures(what: str, quiet: list[Flood], floods: list[Flood]) -> list[Figure]:
    grown_mb: list[float | None] = [
        flood.highest_mb - before.highest_mb for before, flood in zip(quiet, floods, strict=True)
    ]
    slowest, usual = f"{what}: a command answered, the slowest", f"{what}: a command answered, median"
    return [
        Figure(f"{what}: what ffmpeg gets rid of", "lines/s", [flood.lines_per_s for flood in floods]),
        Figure(f"{what}: of that to the broker", "lines/s", [flood.heard_per_s for flood in floods]),
        Figure(_processor(what), "ms/s", [flood.per_s * 1000 for flood in floods]),
        Figure(_processor(what), "ms/s", [calm.per_s * 1000 for calm in quiet], CALM),
        Figure(f"{what}: memory that it adds", "MB", grown_mb, aim=GROWTH_AIM_MB),
        Figure(slowest, "ms", [max(flood.answers_ms) for flood in floods], aim=ANSWER_AIM_MS),
        Figure(slowest, "ms", [max(calm.answers_ms) for calm in quiet], CALM),
        Figure(usual, "ms", [statistics.median(flood.answers_ms) for flood in floods]),
        Figure(usual, "ms", [statistics.median(calm.answers_ms) for calm in quiet], CALM),
        Figure(f"{what}: media at the server", "kB/s", [flood.media_per_s / 1000 for flood in floods]),
        Figure(f"{what}: media at the server", "kB/s", [calm.media_per_s / 1000 for calm in quiet], CALM),
    ]


def _processor(what: str) -> str:
    # The agent's, which is asked all the while; mosquitto_pub is asked nothing.
    return f"{what}: processor of who reads them"


def _piped_figures(what: str, piped: list[Piped]) -> list[Figure]:
    return [
        Figure(f"{what}: what ffmpeg gets rid of", "lines/s", [pipe.lines_per_s for pipe in piped], SHELL),
        Figure(f"{what}: of that to the broker", "lines/s", [pipe.lines_per_s for pipe in piped], SHELL),
        Figure(_processor(what), "ms/s", [pipe.per_s * 1000 for pipe in piped], SHELL),
    ]


@contextmanager
def streaming(listener: Listener, server: RtmpServer) -> Iterator[None]:
    """The agent is on air in between, and off it afterwards."""
    after = listener.position
    listener.publish(f"{TOPIC}/url/set", f"{server.url()}/bench")
    listener.publish(f"{TOPIC}/stream/set", "ON")
    wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=after)
    server.wait_for_stream("bench", more_than_bytes=20_000)
    try:
        yield
    finally:
        after = listener.position
        listener.publish(f"{TOPIC}/stream/set", "OFF")
        wait_for_state(listener, lambda state: bool(state["phase"] == "idle"), PATIENCE_S, after=after)
        server.wait_for_no_stream("bench")


class _Subject:
    """A streaming agent whose ffmpeg talks."""

    def __init__(self, pid: int, talker: Talker, listener: Listener, asker: Listener, server: RtmpServer) -> None:
        self._pid = pid
        self._talker = talker
        self._listener = listener
        self._asker = asker
        self._server = server
        self._asked = 0

    def watch(self, kind: Kind, lines_per_s: int, span_s: float) -> Flood:
        """Let it talk so long, asking the agent something all the while."""
        talker, listener = self._talker, self._listener
        talker.talk(kind, lines_per_s)
        began, position = time.monotonic(), listener.position
        written, used_s, media = talker.written, processor_s(self._pid), self._media()
        highest_mb = 0.0
        answers_ms = []
        for number in range(round(span_s * ASKED_PER_S)):
            time.sleep(max(0.0, began + (number + 0.5) / ASKED_PER_S - time.monotonic()))
            answers_ms.append(self._ask())
            highest_mb = max(highest_mb, memory_of(self._pid).rss_mb)
        time.sleep(max(0.0, began + span_s - time.monotonic()))
        took_s = time.monotonic() - began
        flood = Flood(
            lines_per_s=(talker.written - written) / took_s,
            heard_per_s=sum(m.topic == f"{TOPIC}/log" for m in listener.messages[position:]) / took_s,
            per_s=(processor_s(self._pid) - used_s) / took_s,
            highest_mb=highest_mb,
            media_per_s=(self._media() - media) / took_s,
            answers_ms=answers_ms,
        )
        talker.talk(kind, 0)
        return flood

    def _ask(self) -> float:
        """Milliseconds from a request until its answer is heard; it asks for what is so already."""
        self._asked += 1
        transaction = f"{self._pid}-{self._asked}"
        position = self._asker.position
        began = time.monotonic()
        self._asker.publish(f"{TOPIC}/request", json.dumps({"transaction": transaction, "stream": "ON"}), qos=0)
        answer = self._asker.wait_for(
            lambda message: transaction in message.text, PATIENCE_S, "the answer", after=position
        )
        return (answer.at_s - began) * 1000

    def _media(self) -> int:
        stream = self._server.stream("bench")
        return stream.bytes_in if stream is not None else 0


def _piped(folder: Path, broker: Broker, span_s: float) -> Piped:
    talker = Talker(folder / "piped")
    # Nobody listens to this topic: what all those messages would cost a subscriber is not counted.
    with piped_to_broker(talker, broker.port, "piped/log") as publisher:
        talker.talk(Kind.NEW, LINES_PER_S)
        began, written, used_s = time.monotonic(), talker.written, processor_s(publisher)
        time.sleep(span_s)
        took_s = time.monotonic() - began
        return Piped((talker.written - written) / took_s, (processor_s(publisher) - used_s) / took_s)


@contextmanager
def piped_to_broker(talker: Talker, port: int, topic: str) -> Iterator[int]:
    """`ffmpeg 2>&1 | mosquitto_pub -l`, where ffmpeg only talks; gives the process id of mosquitto_pub."""
    with subprocess.Popen(talker.alone, stderr=subprocess.PIPE) as source:
        command = [find_program("mosquitto_pub"), "-p", f"{port}", "-t", topic, "-l"]
        try:
            with subprocess.Popen(command, stdin=source.stderr) as publisher:
                try:
                    yield publisher.pid
                finally:
                    publisher.kill()
        finally:
            source.kill()
