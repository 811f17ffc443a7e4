"""How soon media is back after a fault: the agent beside ffmpeg in a shell loop, and go2rtc where it is installed.

All of them stream from one camera to one server at the same time, so that each fault hits all of them in one instant.
Time counts from the moment both peers answer again until media has come that did not stand in a connection before, by
the server's own count; of a stream that begins anew all is new. It includes the wait for the camera's next keyframe: up
to `GOP_S`, half of it in the median.

What takes a minute or more takes place in as many arenas at once as there are runs, each with a camera, a server, a
broker and contenders of its own, and is mended some seconds apart. Runs are as independent as one after the other; what
it costs is that each comes back while the others' loops still try in vain, an ffmpeg's start of 0.1 s of processor each
time: everybody's start is later by as much as the processor is busy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.arena import Arena, arena_in, peers_in
from tests.bench.faults import Fault, Peers, faults
from tests.bench.figures import Figure
from tests.bench.go2rtc import go2rtc_program
from tests.bench.options import Options
from tests.bench.outcome import AGENT, GIVE_UP_S, GOP_S, Outcome, in_words, recovery_figures
from tests.bench.subject import TOPIC
from tests.bench.wire import on_the_way, ports_of
from tests.peers.broker import Listener
from tests.peers.process import PeerError, wait_until
from tests.peers.rtmp import HEADERS_BYTES

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
class Run:
    """One run of a fault, `number` of `count`; `go2rtc`: the program, where there is one."""

    fault: Fault
    number: int
    count: int
    folder: Path
    go2rtc: str | None

    def between(self, peers: Peers) -> dict[str, Outcome]:
        """What becomes of everybody between these."""
        title = f"{self.fault.name}, {self.number} of {self.count}"
        try:
            outcome = self._once(peers, self.folder)
        except PeerError as error:
            # Half an hour is not thrown away for one mishap; a second one is no mishap.
            _tell(f"{title}, once more: {error}")
            peers.server.restart()
            peers.camera.restart()
            outcome = self._once(peers, self.folder / "again")
        _tell(f"{title}: {in_words(self.fault, outcome)}")
        return outcome

    def apart(self) -> dict[str, Outcome]:
        """The same, between peers of its own."""
        with peers_in(self.folder / "peers") as peers:
            return self.between(peers)

    def _once(self, peers: Peers, folder: Path) -> dict[str, Outcome]:
        fault = self.fault
        # Else it would come up with a keyframe that nobody is there for yet, each time.
        peers.camera.ahead_s = GOP_S * (self.number - 0.5) / self.count
        wait_until(lambda: not any(stream.publishing for stream in peers.server.streams()), STEADY_TIMEOUT_S, "silence")
        if fault.at_start:
            fault.apply(peers)
        try:
            with arena_in(folder, peers, self.go2rtc) as arena:
                if not fault.at_start:
                    wait_until(arena.is_steady, STEADY_TIMEOUT_S, "media of all", poll_s=POLL_S)
                return _measure(arena, fault, fault.hold_in(self.number, self.count))
        finally:
            for peer in (peers.server, peers.camera):
                peer.thaw()
                if not peer.alive:
                    peer.start()


def measure_recovery(folder: Path, options: Options) -> list[Figure]:
    """All the faults' figures."""
    figures: list[Figure] = []
    go2rtc = go2rtc_program()
    with peers_in(folder / "peers") as peers:
        for row, fault in enumerate(faults(long=options.long, quick=options.quick)):
            if options.rows not in fault.name:
                continue
            runs = [
                Run(fault, number, options.runs, folder / f"{row}-{number}", go2rtc)
                for number in range(1, options.runs + 1)
            ]
            if fault.side_by_side:
                # Each thread lives as long as what it starts, which would die with it.
                with ThreadPoolExecutor(len(runs)) as threads:
                    outcomes = list(threads.map(Run.apart, runs))
            else:
                outcomes = [run.between(peers) for run in runs]
            figures += recovery_figures(fault, outcomes)
    return figures


def _measure(arena: Arena, fault: Fault, hold_s: float) -> dict[str, Outcome]:
    running = {who: arena.senders(who) for who in arena.contenders}
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
        old = {who: on_the_way(ports[who] | ports_of(arena.senders(who))) for who in arena.contenders}
        growths = {who: Growth(before[who], old[who]) for who in arena.contenders}
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
    rivals = {who: Outcome(back.get(who), published.get(who), ended.get(who)) for who in arena.rivals}
    return {AGENT: agent, **rivals}


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
