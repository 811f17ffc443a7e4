"""How soon media is back after a fault: the agent beside ffmpeg in a shell loop.

All three stream from one camera to one server at the same time, so that each fault hits all of them in one instant.
Time counts from the moment both peers answer again until media has come that did not stand in a connection before, by
the server's own count; of a stream that begins anew all is new. It includes the wait for the camera's next keyframe: up
to `GOP_S`, half of it in the median.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.bench.faults import Fault, Peers, faults
from tests.bench.figures import Figure
from tests.bench.loops import FfmpegLoop, plain_command, tuned_command
from tests.bench.options import Options
from tests.bench.outcome import AGENT, CONTENDERS, GIVE_UP_S, GOP_S, PLAIN, TUNED, Outcome, in_words, recovery_figures
from tests.bench.subject import DEVICE, TOPIC
from tests.bench.wire import on_the_way, ports_of
from tests.harness import AgentProcess
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.process import PeerError, wait_until
from tests.peers.rtmp import HEADERS_BYTES, RtmpServer

STEADY_BYTES = 200_000
STEADY_TIMEOUT_S = 40.0
POLL_S = 0.03
# Beyond the headers: a keyframe of this camera takes more, and no picture is counted that did not come.
MEDIA_BYTES = HEADERS_BYTES + 4000


@dataclass
class Growth:
    """Tells whether new media has come, from the server's count of one stream; `old` is what was under way before."""

    seen: int
    old: int = 0
    _mark: int = field(init=False)

    def __post_init__(self) -> None:
        self._mark = self.seen + self.old + MEDIA_BYTES

    def look(self, count: int) -> bool:
        """Whether this count, 0 for no stream, holds new media."""
        if count < self.seen or self.seen == 0:
            # Another stream under the same name: all of it is new.
            self._mark = MEDIA_BYTES
        self.seen = count
        return count >= self._mark


@dataclass(frozen=True)
class Arena:
    """The peers, and who streams between them now."""

    peers: Peers
    agent: AgentProcess
    loops: dict[str, FfmpegLoop]

    def ffmpegs(self, who: str) -> list[psutil.Process]:
        """The contender's ffmpeg, if one runs."""
        return self.agent.ffmpegs() if who == AGENT else self.loops[who].ffmpegs()

    def counts(self) -> dict[str, int]:
        """What has come of each, by the server's statistics; 0 where there is no stream, or no server."""
        try:
            streams = {stream.name: stream.bytes_in for stream in self.peers.server.streams() if stream.publishing}
        except OSError:
            streams = {}
        return {who: streams.get(who, 0) for who in CONTENDERS}

    def is_steady(self) -> bool:
        """Whether media of all three has come for a while."""
        return all(count > STEADY_BYTES for count in self.counts().values())


def measure_recovery(folder: Path, options: Options) -> list[Figure]:
    """All the faults' figures."""
    figures: list[Figure] = []
    with (
        Broker(folder / "broker") as broker,
        LiveCamera(folder / "camera", gop_s=GOP_S) as camera,
        RtmpServer(folder / "server") as server,
        Listener(broker.port, f"{TOPIC}/#") as listener,
    ):
        peers = Peers(camera, server, broker, listener)
        for fault in faults(long=options.long):
            if options.rows not in fault.name:
                continue
            outcomes = []
            count = min(options.runs, fault.runs)
            for number in range(1, count + 1):
                place = folder / f"{len(figures)}-{number}"
                hold_s = fault.hold_in(number, count)
                try:
                    outcome = _run(place, peers, fault, hold_s)
                except PeerError as error:
                    # Half an hour is not thrown away for one mishap; a second one is no mishap.
                    _tell(f"{fault.name}, {number} of {count}, once more: {error}")
                    server.restart()
                    camera.restart()
                    outcome = _run(place / "again", peers, fault, hold_s)
                outcomes.append(outcome)
                _tell(f"{fault.name}, {number} of {count}: {in_words(fault, outcome)}")
            figures += recovery_figures(fault, outcomes)
    return figures


@contextmanager
def _arena(folder: Path, peers: Peers) -> Iterator[Arena]:
    camera_url, server_url = peers.camera.hd_url, peers.server.url()
    config = {
        "device": {"id": DEVICE},
        "source": {"hd": camera_url, "sd": None},
        "destination": {"server": server_url, "key": AGENT},
        "stream": {"autostart": True},
        "telemetry": {"interval_s": 5},
    }
    with (
        AgentProcess(folder / AGENT, broker_port=peers.broker.port, config=config) as agent,
        FfmpegLoop(PLAIN, folder / PLAIN, plain_command(camera_url, f"{server_url}/{PLAIN}")) as plain,
        FfmpegLoop(TUNED, folder / TUNED, tuned_command(camera_url, f"{server_url}/{TUNED}")) as tuned,
    ):
        yield Arena(peers, agent, {PLAIN: plain, TUNED: tuned})


def _run(folder: Path, peers: Peers, fault: Fault, hold_s: float) -> dict[str, Outcome]:
    for who in CONTENDERS:
        peers.server.wait_for_no_stream(who)
    if fault.at_start:
        fault.apply(peers)
    try:
        with _arena(folder, peers) as arena:
            if not fault.at_start:
                wait_until(arena.is_steady, STEADY_TIMEOUT_S, "media of all three", poll_s=POLL_S)
            return _measure(arena, fault, hold_s)
    finally:
        for peer in (peers.server, peers.camera):
            peer.thaw()
            if not peer.alive:
                peer.start()


def _measure(arena: Arena, fault: Fault, hold_s: float) -> dict[str, Outcome]:
    running = {who: arena.ffmpegs(who) for who in CONTENDERS}
    ports = {who: ports_of(processes) for who, processes in running.items()}
    position = arena.peers.listener.position
    # The last thing before the fault: what comes in between would be taken for new.
    before = arena.counts()
    broke = time.monotonic()
    if not fault.at_start:
        fault.apply(arena.peers)
    ended: dict[str, float] = {}
    while (now := time.monotonic()) < broke + hold_s:
        for who, processes in running.items():
            if processes and who not in ended and not any(process.is_running() for process in processes):
                ended[who] = now - broke
        time.sleep(POLL_S)
    if fault.freezes_server:
        # What it had not read, nor its clients sent, is no new media. The kernel counts RTMP's packaging with it, which
        # the server does not: three per mille, or a tenth of a second of media.
        old = {who: on_the_way(ports[who] | ports_of(arena.ffmpegs(who))) for who in CONTENDERS}
        growths = {who: Growth(before[who], old[who]) for who in CONTENDERS}
    else:
        growths = {who: Growth(count) for who, count in arena.counts().items()}
    fault.mend(arena.peers)
    mended = time.monotonic()
    back, published = _until_back(arena.counts, growths, mended)
    states = _states(arena.peers.listener, position)
    told = [(at_s - broke, phase) for at_s, phase, reason in states if at_s < mended and (reason or phase == "stalled")]
    agent = Outcome(
        back.get(AGENT),
        published.get(AGENT),
        next((after_s for after_s, _ in told), None),
        next((after_s for after_s, phase in told if phase == "stalled"), None),
        ", ".join(f"{at_s - mended:+.2f} {phase}{f' {reason}' if reason else ''}" for at_s, phase, reason in states),
    )
    loops = {who: Outcome(back.get(who), published.get(who), ended.get(who)) for who in (PLAIN, TUNED)}
    return {AGENT: agent, **loops}


Moments = dict[str, float]


def _until_back(
    counts: Callable[[], dict[str, int]], growths: dict[str, Growth], mended: float
) -> tuple[Moments, Moments]:
    """When each was back, and when it had a new stream, after the mending; whoever was not in time is missing."""
    back: Moments = {}
    published: Moments = {}
    while len(back) < len(growths) and time.monotonic() < mended + GIVE_UP_S:
        count = counts()
        after_s = time.monotonic() - mended
        for who, growth in growths.items():
            is_new = count[who] > 0 and (growth.seen == 0 or count[who] < growth.seen)
            if who not in back and is_new:
                published[who] = after_s
            if who not in back and growth.look(count[who]):
                back[who] = after_s
        time.sleep(POLL_S)
    return back, published


def _states(listener: Listener, position: int) -> list[tuple[float, str, str]]:
    """When the agent said what: monotonic seconds, phase, reason."""
    found = []
    for message in listener.messages[position:]:
        if message.topic == f"{TOPIC}/state" and message.payload:
            state = json.loads(message.payload)
            found.append((message.at_s, state["phase"], (state["reason"] or {}).get("code", "")))
    return found


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
