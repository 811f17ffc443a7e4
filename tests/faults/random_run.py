"""Faults at random for as long as one likes, while an independent judge compares what is said with what arrives.

A seed gives the whole schedule: which faults, how long, and which two at a time. A lie, media that does not come back
in time once all is well, or an agent that ends by itself, ends the run with the seed and what led to it.
"""

from __future__ import annotations

import json
import random
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Final, Self

import psutil

from tests.faults.judge import STREAMING, Judge
from tests.faults.scene import END_WITHIN_S, MEDIA_BYTES, NotHeld, Scene
from tests.faults.witness import Witness
from tests.harness import AgentProcess
from tests.peers.camera import LiveCamera
from tests.peers.process import PeerError
from tests.peers.proxy import Proxy

SHORTEST_S: Final = 0.5
LONGEST_S: Final = 20.0
TWO_AT_A_TIME: Final = 0.35
SHORTEST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 8.0
# From the end of the last fault, or the press that ends `failed`, to media at the server and the word for it: what
# remains of the longest back-off (15 s and a quarter), a launch, a keyframe, and two of ffmpeg's reports.
ON_AIR_WITHIN_S: Final = 24.0
# The longest wait of the link to the broker after an absence of 20 s, and its connecting.
BACK_AT_THE_BROKER_WITHIN_S: Final = 45.0
# A frozen server is told in 13 s at 1 Mbit/s, most of which its kernel's buffers take; half the bit rate doubles it.
HD_KBPS: Final = 2000
SD_KBPS: Final = 1000
JUDGED_EVERY_S: Final = 0.1
MOST_EVENTS: Final = 30
# Media with no longer a break than this is being on air.
ON_AIR_BREAK_S: Final = 1.5
# When an agent has run for so long, or a tenth of the run, its figures are taken for the first time.
SETTLED_S: Final = 60.0

Act = Callable[[], object]
# Does the fault, by a number from 0 to 1 that says how badly, and gives what mends it.
Strike = Callable[["Stage", float], Act]


# --- what can happen ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of fault. Of one group there is never more than one at a time."""

    name: str
    group: str
    strike: Strike
    ends_agent: bool = False


@dataclass(frozen=True)
class Planned:
    """One fault of the schedule: seconds since its round's beginning, and how badly, from 0 to 1."""

    kind: Kind
    begins_s: float
    ends_s: float
    how: float


@dataclass(frozen=True)
class Round:
    """One or two faults, and the quiet after all is mended."""

    faults: tuple[Planned, ...]
    pause_s: float


def schedule(seed: int) -> Iterator[Round]:
    """Rounds for ever: the same for the same seed."""
    chance = random.Random(seed)
    while True:
        first = chance.choice(KINDS)
        faults = [_plan(chance, first, 0.0)]
        if chance.random() < TWO_AT_A_TIME:
            others = [kind for kind in KINDS if kind.group not in _excluded(first)]
            faults.append(_plan(chance, chance.choice(others), chance.uniform(0.0, faults[0].ends_s)))
        yield Round(tuple(faults), chance.uniform(SHORTEST_PAUSE_S, LONGEST_PAUSE_S))


def _plan(chance: random.Random, kind: Kind, begins_s: float) -> Planned:
    # Short ones are as likely as long ones: most races are between two short things.
    length_s = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** chance.random()
    return Planned(kind, begins_s, begins_s + length_s, chance.random())


def _excluded(kind: Kind) -> set[str]:
    # A command needs a broker to take it and an agent to hear it.
    needed = {"command": {"broker", "agent"}, "broker": {"command"}, "agent": {"command"}}
    return {kind.group, *needed.get(kind.group, ())}


def _nothing() -> None:
    """What is over in an instant needs no mending."""


def _server_killed(stage: Stage, how: float) -> Act:
    # With it, its way: a proxy that goes on accepting would be a server that answers.
    stage.proxy.stop()
    stage.scene.server.kill()

    def mend() -> None:
        stage.scene.server.start()
        stage.proxy.start()

    return mend


def _server_frozen(stage: Stage, how: float) -> Act:
    stage.scene.server.freeze()
    return stage.scene.server.thaw


def _publisher_dropped(stage: Stage, how: float) -> Act:
    with suppress(OSError, PeerError):
        for stream in stage.scene.server.streams():
            stage.scene.server.drop_publisher(stream.name, stream.app)
    return _nothing


def _uplink_slow(stage: Stage, how: float) -> Act:
    # From a fifth of SD to nearly HD.
    stage.proxy.limit((0.2 * SD_KBPS + how * (HD_KBPS - 0.2 * SD_KBPS)) * 1000 / 8)
    return lambda: stage.proxy.limit(0)


def _server_refuses(stage: Stage, how: float) -> Act:
    stage.proxy.refuse()
    stage.proxy.cut()
    return stage.proxy.accept


def _way_frozen(stage: Stage, how: float) -> Act:
    stage.proxy.freeze()
    return stage.proxy.thaw


def _camera_killed(stage: Stage, how: float) -> Act:
    stage.scene.camera.kill()
    return stage.scene.camera.start


def _camera_frozen(stage: Stage, how: float) -> Act:
    stage.scene.camera.freeze()
    return stage.scene.camera.thaw


def _camera_silent(stage: Stage, how: float) -> Act:
    stage.scene.camera.freeze_media()
    return stage.scene.camera.thaw_media


def _camera_drops(stage: Stage, how: float) -> Act:
    stage.scene.camera.drop_clients()
    return _nothing


def _camera_refuses(stage: Stage, how: float) -> Act:
    stage.scene.camera.refuse_clients()
    stage.scene.camera.drop_clients()
    return stage.scene.camera.accept_clients


def _camera_audio(stage: Stage, how: float) -> Act:
    stage.scene.camera.set_audio("pcma" if how < 0.5 else "none")
    stage.scene.camera.drop_clients()
    return lambda: stage.scene.camera.set_audio("aac")


def _camera_login(stage: Stage, how: float) -> Act:
    stage.scene.camera.set_login("viewer:another-password")
    stage.scene.camera.drop_clients()
    return lambda: stage.scene.camera.set_login(stage.scene.camera_login)


def _broker_killed(stage: Stage, how: float) -> Act:
    stage.hearing.lose(forget=True)
    stage.scene.broker.kill()

    def mend() -> None:
        stage.scene.broker.start()
        stage.scene.listener.wait_until_subscribed()
        stage.hearing.regain()

    return mend


def _broker_frozen(stage: Stage, how: float) -> Act:
    stage.hearing.lose(forget=False)
    stage.scene.broker.freeze()

    def mend() -> None:
        stage.scene.broker.thaw()
        stage.hearing.regain()

    return mend


def _ffmpeg_gets(number: signal.Signals) -> Strike:
    def strike(stage: Stage, how: float) -> Act:
        struck = stage.ffmpegs()
        for ffmpeg in struck:
            with suppress(psutil.Error):
                ffmpeg.send_signal(number)

        def mend() -> None:
            for ffmpeg in struck:
                with suppress(psutil.Error):
                    ffmpeg.resume()

        return mend if number is signal.SIGSTOP else _nothing

    return strike


def _agent_killed(stage: Stage, how: float) -> Act:
    stage.end_agent(signal.SIGKILL)
    return stage.begin_agent


def _agent_terminated(stage: Stage, how: float) -> Act:
    stage.end_agent(signal.SIGTERM)
    return stage.begin_agent


def _off_and_on(stage: Stage, how: float) -> Act:
    stage.want(on=False)
    return lambda: stage.want(on=True)


def _channel(stage: Stage, how: float) -> Act:
    stage.scene.publish("channel/set", "sd" if how < 0.5 else "hd")
    return lambda: stage.scene.publish("channel/set", "auto")


def _other_key(stage: Stage, how: float) -> Act:
    stage.keys.rotate()
    stage.scene.publish("key/set", stage.keys[0])
    return _nothing


def _restart(stage: Stage, how: float) -> Act:
    stage.scene.publish("restart/set", "PRESS")
    return _nothing


KINDS: Final = (
    Kind("server killed", "server", _server_killed),
    Kind("server frozen", "server", _server_frozen),
    Kind("publisher dropped", "server", _publisher_dropped),
    Kind("uplink slow", "server", _uplink_slow),
    Kind("server refuses", "server", _server_refuses),
    Kind("way to the server frozen", "server", _way_frozen),
    Kind("camera killed", "camera", _camera_killed),
    Kind("camera frozen", "camera", _camera_frozen),
    Kind("camera sends nothing", "camera", _camera_silent),
    Kind("camera drops its clients", "camera", _camera_drops),
    Kind("camera refuses", "camera", _camera_refuses),
    Kind("camera with another sound", "camera", _camera_audio),
    Kind("camera with another login", "camera", _camera_login),
    Kind("broker killed", "broker", _broker_killed),
    Kind("broker frozen", "broker", _broker_frozen),
    Kind("ffmpeg gets TERM", "ffmpeg", _ffmpeg_gets(signal.SIGTERM)),
    Kind("ffmpeg gets KILL", "ffmpeg", _ffmpeg_gets(signal.SIGKILL)),
    Kind("ffmpeg gets STOP", "ffmpeg", _ffmpeg_gets(signal.SIGSTOP)),
    Kind("ffmpeg gets SEGV", "ffmpeg", _ffmpeg_gets(signal.SIGSEGV)),
    Kind("agent killed", "agent", _agent_killed, ends_agent=True),
    Kind("agent terminated", "agent", _agent_terminated, ends_agent=True),
    Kind("OFF", "command", _off_and_on),
    Kind("channel", "command", _channel),
    Kind("another key", "command", _other_key),
    Kind("restart", "command", _restart),
)


# --- what is seen of it ---------------------------------------------------------------------------------------------


class Broken(Exception):
    """The agent lied, did not come back in time, or ended by itself."""


class Hearing:
    """Hears the agent and watches the server, on a thread of its own, and has the judge decide.

    While the broker is away, and while no agent runs, the last word is not counted as said now.
    """

    def __init__(self, scene: Scene, witnesses: list[Witness], say: Callable[[str], None]) -> None:
        self._scene = scene
        self._witnesses = witnesses
        self._say = say
        self._judge = Judge()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._position = 0
        self._is_online = False
        self._is_deaf = False
        self._state: dict[str, Any] | None = None
        self._looks = 0
        self._looks_on_air = 0
        self._last_media_at = 0.0
        self.lie: str | None = None

    @property
    def phase(self) -> str | None:
        """The phase that is said now; None where nothing is."""
        with self._lock:
            return self._said_phase()

    @property
    def received(self) -> int:
        """Bytes of media that the server received."""
        return sum(witness.received for witness in self._witnesses)

    @property
    def share_on_air(self) -> float:
        """The part of the time in which media came."""
        return self._looks_on_air / max(1, self._looks)

    def lose(self, *, forget: bool) -> None:
        """The broker is about to go. `forget`: and with it what it was told."""
        with self._lock:
            self._is_deaf = True
            self._is_online = self._is_online and not forget
            self._tell_judge(time.monotonic())

    def regain(self) -> None:
        """The broker is there again."""
        with self._lock:
            self._is_deaf = False
            self._tell_judge(time.monotonic())

    def agent_ends(self) -> None:
        """What the agent said last holds no longer."""
        with self._lock:
            self._is_online = False
            self._state = None
            self._tell_judge(time.monotonic())

    def wants(self, *, on: bool) -> None:
        """What the owner has just commanded."""
        with self._lock:
            self._judge.wants(time.monotonic(), on=on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        last_received = 0
        while not self._ended.wait(JUDGED_EVERY_S):
            received = self.received
            with self._lock:
                self._hear()
                now = time.monotonic()
                self._judge.receives(now, received)
                self.lie = self.lie or self._judge.lie(now)
                if received > last_received:
                    self._last_media_at = now
                last_received = received
                self._looks += 1
                self._looks_on_air += now - self._last_media_at <= ON_AIR_BREAK_S

    def _hear(self) -> None:
        agent = self._scene.agent
        heard = self._scene.listener.messages[self._position :]
        self._position += len(heard)
        for message in heard:
            # What is retained counts: the broker forgets all when it is killed, so it was said since.
            if message.topic == agent.topic("availability"):
                self._is_online = message.payload == b"online"
                # What is so is said anew after it.
                self._state = None
                self._say(f"  heard: {message.text}")
            elif message.topic == agent.topic("state") and message.payload:
                self._state = json.loads(message.payload)
                self._say(f"  heard: {_in_short(json.loads(message.payload))}")
            else:
                continue
            self._tell_judge(message.at_s)

    def _tell_judge(self, at: float) -> None:
        self._judge.says(at, self._said_phase())

    def _said_phase(self) -> str | None:
        is_said = self._is_online and not self._is_deaf and self._state is not None
        return str(self._state["phase"]) if is_said and self._state is not None else None


def _in_short(state: dict[str, Any]) -> str:
    code = state["reason"]["code"] if state["reason"] is not None else "no reason"
    return f"{state['stream']} {state['phase']}, {code}, {state['active_channel']}, attempt {state['attempt']}"


@dataclass(frozen=True)
class Figures:
    """What an agent took when all was well."""

    at_s: float
    rss_mb: float
    descriptors: int
    threads: int
    children: int

    @classmethod
    def of(cls, agent: AgentProcess, at_s: float) -> Self:
        """Those of one that runs."""
        process = psutil.Process(agent.pid)
        return cls(
            at_s,
            process.memory_info().rss / 1e6,
            process.num_fds(),
            process.num_threads(),
            len(process.children(recursive=True)),
        )

    def __str__(self) -> str:
        return (
            f"at {self.at_s:.0f} s: {self.rss_mb:.1f} MB Rss, {self.descriptors} descriptors, "
            f"{self.threads} threads, {self.children} children"
        )


@dataclass
class Life:
    """One agent process, from its start on."""

    began_s: float
    first: Figures | None = None
    last: Figures | None = None


class Keys(deque[str]):
    """The stream keys that are used in turn; the first one is the current one."""


# --- the run --------------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """The long-lived scene of a run, with what faults need of it."""

    scene: Scene
    proxy: Proxy
    keys: Keys
    hearing: Hearing
    seconds: float
    slack: float
    say: Callable[[str], None]
    began: float = field(default_factory=time.monotonic)
    is_ended: bool = False
    """No agent runs, by our own doing."""
    lives: list[Life] = field(default_factory=list)
    faults: int = 0
    presses: int = 0
    returns_s: list[float] = field(default_factory=list)
    """How long each return took."""

    @property
    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def ffmpegs(self) -> list[psutil.Process]:
        """Those of the agent's that run, none without an agent."""
        with suppress(PeerError):
            return self.scene.agent.ffmpegs()
        return []

    def end_agent(self, number: signal.Signals) -> None:
        """End it by a signal; SIGTERM must be obeyed in time, with status 0."""
        self.is_ended = True
        began = time.monotonic()
        if number is signal.SIGKILL:
            # Before, or the last word of the dead would stand for an instant.
            self.hearing.agent_ends()
        status = self.scene.agent.end(number)
        self.hearing.agent_ends()
        took_s = time.monotonic() - began
        if number is signal.SIGTERM and (status != 0 or took_s > END_WITHIN_S * self.slack):
            raise Broken(f"SIGTERM: it ended with {status}, after {took_s:.1f} s")

    def begin_agent(self) -> None:
        """Start it again, and wait for nothing."""
        self.scene.agent.begin()
        self.is_ended = False
        self.lives.append(Life(self.now_s))

    def want(self, *, on: bool) -> None:
        """ON or OFF."""
        self.hearing.wants(on=on)
        self.scene.publish("stream/set", "ON" if on else "OFF")

    # --- the course of a run ---

    def play(self, rounds: Iterator[Round]) -> None:
        """Rounds until the time is over, then quiet."""
        self.lives.append(Life(0.0))
        self.come_on_air()
        while self.now_s < self.seconds:
            one = next(rounds)
            self._play_round(one)
            self.come_on_air()
            self._measure()
            self.wait(one.pause_s)
        self.say("the time is over")
        self.wait(LONGEST_PAUSE_S)
        self.come_on_air()
        self._measure(is_last=True)

    def come_on_air(self) -> None:
        """All is well: media must come in time, and its word. A person presses where one is asked for."""
        wished = moment = time.monotonic()
        received = self.hearing.received
        is_pressed = False
        # Both: media alone may be what a slow way still held of the connection before.
        while self.hearing.received < received + MEDIA_BYTES or self.hearing.phase not in (STREAMING, None):
            self.wait(JUDGED_EVERY_S)
            if self.hearing.phase == "failed" and not is_pressed:
                self.say("pressed")
                self.scene.publish("restart/set", "PRESS")
                self.presses += 1
                is_pressed = True
                wished = time.monotonic()
            if time.monotonic() - wished > ON_AIR_WITHIN_S * self.slack:
                raise Broken(f"not on air {ON_AIR_WITHIN_S:g} s after all was well; said is “{self.hearing.phase}”")
        self.returns_s.append(time.monotonic() - moment)
        rss_mb = psutil.Process(self.scene.agent.pid).memory_info().rss / 1e6
        self.say(f"on air {self.returns_s[-1]:.1f} s after all was well; {rss_mb:.1f} MB Rss")
        while self.hearing.phase != STREAMING:
            self.wait(JUDGED_EVERY_S)
            if time.monotonic() - moment > BACK_AT_THE_BROKER_WITHIN_S * self.slack:
                raise Broken(f"not heard {BACK_AT_THE_BROKER_WITHIN_S:g} s after all was well: {self.hearing.phase}")

    def wait(self, seconds: float) -> None:
        """Let time go by, and see that nothing is wrong meanwhile."""
        ends = time.monotonic() + seconds
        while True:
            if self.hearing.lie is not None:
                raise Broken(f"a lie: {self.hearing.lie}")
            if not self.is_ended and not self.scene.agent.alive:
                raise Broken("the agent ended by itself")
            left_s = ends - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, JUDGED_EVERY_S))

    def _play_round(self, one: Round) -> None:
        # The longest life of an agent is the second half: its figures tell whether anything grows.
        faults = [fault for fault in one.faults if not fault.kind.ends_agent or self.now_s < self.seconds / 2]
        began = time.monotonic()
        due: list[tuple[float, Planned]] = sorted(
            ((fault.begins_s, fault) for fault in faults), key=lambda entry: entry[0]
        )
        mends: dict[Planned, Act] = {}
        while due:
            at_s, fault = due.pop(0)
            self.wait(max(0.0, began + at_s - time.monotonic()))
            if fault in mends:
                self.say(f"mended: {fault.kind.name}")
                mends.pop(fault)()
                continue
            self.say(f"{fault.kind.name} ({fault.how:.2f}), for {fault.ends_s - fault.begins_s:.1f} s")
            mends[fault] = fault.kind.strike(self, fault.how)
            self.faults += 1
            due = sorted([*due, (fault.ends_s, fault)], key=lambda entry: entry[0])

    def _measure(self, *, is_last: bool = False) -> None:
        """Take the agent's figures, now that it is on air and nothing is wrong."""
        life = self.lives[-1]
        figures = Figures.of(self.scene.agent, self.now_s)
        if life.first is not None:
            life.last = figures
        elif self.now_s - life.began_s >= min(SETTLED_S, self.seconds / 10) or is_last:
            life.first = figures


def random_run(seconds: float, seed: int, *, slack: float = 1.0) -> int:
    """Run for so long; print what happens, and at the end the figures. 1 where something was broken."""
    began = time.monotonic()
    events: deque[str] = deque(maxlen=MOST_EVENTS)

    def say(text: str) -> None:
        events.append(f"{time.monotonic() - began:8.1f} s  {text}")
        print(events[-1], flush=True)

    print(f"seed {seed}, {seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="yiagent-faults-", ignore_cleanup_errors=True) as folder:
        scene = Scene(Path(folder), slack=slack)
        try:
            with scene:
                _run(scene, seconds, seed, slack, say)
        except (Broken, NotHeld, PeerError) as error:
            print(f"\nBROKEN with seed {seed}: {error}\n\nthe last events:", *events, sep="\n")
            print("\nthe agent's last words:", *scene.agent.full_log_text.splitlines()[-60:], sep="\n")
            return 1
    return 0


def _run(scene: Scene, seconds: float, seed: int, slack: float, say: Callable[[str], None]) -> None:
    scene.camera = scene.use(
        LiveCamera(scene.folder / "camera", gop_s=1, login=scene.camera_login, hd_kbps=HD_KBPS, sd_kbps=SD_KBPS)
    )
    proxy = Proxy(scene.server.port).start()
    scene.at_end(proxy.stop)
    keys = Keys([scene.key, f"{scene.key}-2"])
    scene.config["source"] = {"hd": scene.camera.hd_url}
    scene.config["destination"] = {"server": f"rtmp://127.0.0.1:{proxy.port}/live", "key": keys[0]}
    scene.config["telemetry"] = {"interval_s": 5}
    # Made here: they belong to the thread that lives as long as the run.
    _ = scene.listener, scene.agent
    with (
        Witness(scene.server, keys[1]) as other,
        Hearing(scene, [scene.witness, other], say) as hearing,
    ):
        scene.start_agent()
        stage = Stage(scene, proxy, keys, hearing, seconds, slack, say)
        stage.play(schedule(seed))
        report(stage, seed)
    scene.finish()
    print("nothing left behind, no secret said")


def report(stage: Stage, seed: int) -> None:
    """The figures of a run in which nothing was broken."""
    launches = stage.scene.agent.full_log_text.count(" agent: Starting: ")
    print(
        f"\nseed {seed}: {stage.now_s:.0f} s, {stage.faults} faults, {launches} launches, {stage.presses} presses, "
        f"{stage.hearing.received / 1e6:.1f} MB of media, on air {stage.hearing.share_on_air:.0%} of the time, "
        f"back after {median(stage.returns_s):.1f} s (median), {max(stage.returns_s):.1f} s (longest), no lie"
    )
    for life in stage.lives:
        for name, figures in (("first", life.first), ("last", life.last)):
            if figures is not None:
                print(f"agent of {life.began_s:.0f} s, {name}: {figures}")
