"""The supervisor with children that misbehave: one child, ended in time, and the truth about it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from yiagent import memory
from yiagent.ffmpeg import Job
from yiagent.guard import Guard
from yiagent.installed import InstalledFfmpeg
from yiagent.machine import BETTER_NEEDS_KB, Limits
from yiagent.model import Audio, Channel, Level, Phase, ReasonCode, Transport
from yiagent.redact import Redactor, Secret
from yiagent.store import Journal
from yiagent.supervisor import Supervisor
from yiagent.tap import Tap
from yiagent.urls import parse_source

CHILDREN = Path(__file__).parent / "children"
# Each test waits for what happens; how long that may take on a machine that is busy with other tests is no matter here.
PATIENCE_S = 60.0
KEY = "made-up-key-0123456789"


def job(**changes: object) -> Job:
    plain = Job(
        channel=Channel.HD,
        source=parse_source("rtsp://127.0.0.1:1/ch0_0.h264"),
        username=None,
        password=None,
        transport=Transport.TCP,
        audio=Audio.COPY,
        server="rtmp://127.0.0.1:1/live",
        key=Secret(KEY),
        stall_timeout_s=2,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@contextmanager
def peers_that_answer() -> Iterator[dict[str, object]]:
    """A camera and a server that take a knock; what a pretended ffmpeg does has nothing to do with them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        yield {"source": parse_source(f"rtsp://{address}/ch0_0.h264"), "server": f"rtmp://{address}/live"}


class Stage:
    """A running supervisor with everything it says kept."""

    def __init__(
        self, child: str, *, start_timeout_s: float = 15, stall_timeout_s: float = 2, pictures: bool = False
    ) -> None:
        self.available_kb: int | None = None
        self.redactor = Redactor()
        self.redactor.learn(KEY)
        self.journal = Journal(self.redactor, level=Level.DEBUG, clock=time.time, monotonic=time.monotonic)
        self.guard = Guard()
        self.phases: list[Phase] = []
        self.reasons: list[ReasonCode] = []
        self.pids: list[int] = []
        self.news = asyncio.Event()
        self.supervisor = Supervisor(
            ffmpeg=InstalledFfmpeg(
                str(CHILDREN / child) if "/" not in child else child, self.journal, pictures=pictures
            ),
            limits=Limits(start_timeout_s, stall_timeout_s),
            journal=self.journal,
            redactor=self.redactor,
            guard=self.guard,
            on_change=self._note,
            open_tap=(lambda: Tap(self.news.set)) if pictures else None,
            available_kb=lambda: self.available_kb,
        )

    def _note(self) -> None:
        state = self.supervisor.state
        if not self.phases or self.phases[-1] is not state.phase:
            self.phases.append(state.phase)
        if state.reason is not None and (not self.reasons or self.reasons[-1] is not state.reason.code):
            self.reasons.append(state.reason.code)
        pid = self.supervisor.child_pid
        if pid is not None and pid not in self.pids:
            self.pids.append(pid)
        self.news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def until_phase(self, phase: Phase) -> None:
        await self.until(lambda: self.supervisor.state.phase is phase)

    def text(self) -> str:
        return "\n".join(line.message for line in self.journal.since(0))


def play(child: str, act: Callable[[Stage], Awaitable[None]], *, pictures: bool = False, **timeouts: float) -> Stage:
    """Run `act` on a stage and leave nothing behind, whatever happens."""

    async def whole() -> Stage:
        stage = Stage(child, pictures=pictures, **timeouts)
        stage.guard.start()
        running = asyncio.create_task(stage.supervisor.run())
        try:
            await act(stage)
            await asyncio.wait_for(stage.supervisor.stop(), PATIENCE_S)
        finally:
            stage.supervisor.kill()
            running.cancel()
            stage.guard.close()
        assert not [pid for pid in stage.pids if is_alive(pid)], "a child is left"
        return stage

    return asyncio.run(whole())


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_on_streams_and_off_ends() -> None:
    """ON leads through `starting` to `streaming`, OFF through `stopping` to `idle`."""

    async def act(stage: Stage) -> None:
        stage.supervisor.want(job())
        await stage.until_phase(Phase.STREAMING)
        assert stage.supervisor.active_channel is Channel.HD
        assert stage.supervisor.sent_bytes > 0
        stage.supervisor.want(None)
        await stage.until_phase(Phase.IDLE)

    stage = play("streams.py", act)
    assert stage.phases == [Phase.STARTING, Phase.STREAMING, Phase.STOPPING, Phase.IDLE]
    assert stage.reasons == []
    assert len(stage.pids) == 1


def test_a_changed_key_restarts_once() -> None:
    """One new child for a changed target, none for the same wish again."""

    async def act(stage: Stage) -> None:
        stage.supervisor.want(job())
        await stage.until_phase(Phase.STREAMING)
        stage.supervisor.want(job())
        stage.supervisor.want(job(key=Secret("another-key-42")))
        await stage.until(lambda: len(stage.pids) == 2)
        await stage.until_phase(Phase.STREAMING)

    stage = play("streams.py", act)
    assert len(stage.pids) == 2
    assert "failed" not in stage.text()


@pytest.mark.parametrize(("child", "least_s"), [("ends_at_the_second_term.py", 2.5), ("ignores_term.py", 5.5)])
def test_a_child_that_does_not_go_is_made_to(child: str, least_s: float) -> None:
    """TERM, TERM, KILL: a second TERM for a blocked ffmpeg, KILL for one that ignores that too."""

    async def act(stage: Stage) -> None:
        stage.supervisor.want(job())
        await stage.until_phase(Phase.STREAMING)
        began = time.monotonic()
        stage.supervisor.want(None)
        await stage.until_phase(Phase.STOPPING)
        await stage.until_phase(Phase.IDLE)
        assert time.monotonic() - began > least_s

    play(child, act)


def test_media_that_stands_still_is_a_stall() -> None:
    """Reports that go on with unchanged counters are no life: `stalled`, then a new child."""

    async def act(stage: Stage) -> None:
        with peers_that_answer() as there:
            stage.supervisor.want(job(**there))
            await stage.until(lambda: len(stage.pids) == 2)

    stage = play("stands_still.py", act)
    assert stage.phases[:5] == [Phase.STARTING, Phase.STREAMING, Phase.STALLED, Phase.STOPPING, Phase.BACKING_OFF]
    assert stage.reasons[0] is ReasonCode.STALLED


def test_a_child_that_was_stopped_is_named_and_replaced() -> None:
    """Neither camera nor server is to blame when somebody stopped ffmpeg; KILL ends what takes no TERM."""

    async def act(stage: Stage) -> None:
        with peers_that_answer() as there:
            stage.supervisor.want(job(**there))
            await stage.until_phase(Phase.STREAMING)
            os.kill(stage.pids[0], signal.SIGSTOP)
            await stage.until_phase(Phase.STALLED)
            assert stage.supervisor.state.reason is not None
            assert "SIGSTOP" in stage.supervisor.state.reason.message
            await stage.until(lambda: len(stage.pids) == 2)
            await stage.until_phase(Phase.STREAMING)

    play("streams.py", act)


def test_wishes_that_come_faster_than_they_are_carried_out() -> None:
    """Back and forth between two targets a hundred times at once: the last one runs, and an equal one is the same."""

    async def act(stage: Stage) -> None:
        first, second = job(), job(channel=Channel.SD)
        for _ in range(100):
            stage.supervisor.want(first, lesser=second)
            stage.supervisor.want(second)
        await stage.until_phase(Phase.STREAMING)
        assert stage.supervisor.active_channel is Channel.SD
        launched = len(stage.pids)
        stage.supervisor.want(replace(second))
        stage.supervisor.press()
        await stage.until(lambda: len(stage.pids) == launched + 1)
        await stage.until_phase(Phase.STREAMING)
        assert stage.supervisor.active_channel is Channel.SD

    play("streams.py", act)


def test_frames_alone_are_not_streaming() -> None:
    """A growing frame count with no byte leaving never becomes `streaming`."""

    async def act(stage: Stage) -> None:
        stage.supervisor.want(job())
        await stage.until_phase(Phase.BACKING_OFF)

    stage = play("counts_frames_only.py", act, start_timeout_s=1.5)
    assert Phase.STREAMING not in stage.phases


def test_a_start_that_never_ends_is_ended() -> None:
    """The agent's own deadline ends a child that hangs, and names what it waited for."""

    async def act(stage: Stage) -> None:
        stage.supervisor.want(job())
        await stage.until_phase(Phase.BACKING_OFF)

    stage = play("says_nothing.py", act, start_timeout_s=1)
    assert stage.reasons == [ReasonCode.SOURCE_UNREACHABLE]


def test_without_room_for_hd_sd_streams() -> None:
    """No HD is started only to be killed; the log says why, and when HD is tried again."""

    async def act(stage: Stage) -> None:
        stage.available_kb = BETTER_NEEDS_KB - 1
        stage.supervisor.want(job(), lesser=job(channel=Channel.SD))
        await stage.until_phase(Phase.STREAMING)
        assert stage.supervisor.active_channel is Channel.SD

    stage = play("streams.py", act)
    assert (len(stage.pids), stage.reasons) == (1, [ReasonCode.OUT_OF_MEMORY])
    assert "going on in SD, because this machine has not enough memory for HD" in stage.text()
    assert "tried again in 10 minutes" in stage.text()


def test_hd_by_the_owners_word_is_started_without_room() -> None:
    """`channel: hd` is taken at its word; that memory is short is told once, and again when it is so again."""
    warning = "HD is started with hardly any memory left"

    async def act(stage: Stage) -> None:
        for available_kb, told in ((BETTER_NEEDS_KB, 0), (0, 1), (0, 1), (None, 1), (0, 2)):
            stage.available_kb = available_kb
            stage.supervisor.want(job())
            await stage.until_phase(Phase.STREAMING)
            assert stage.supervisor.active_channel is Channel.HD
            assert stage.text().count(warning) == told
            stage.supervisor.want(None)
            await stage.until_phase(Phase.IDLE)
        stage.supervisor.want(job(channel=Channel.SD))
        await stage.until_phase(Phase.STREAMING)
        assert stage.text().count(warning) == 2

    play("streams.py", act)


def test_a_kill_that_no_kernel_counts_is_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 4.13 nothing tells why ffmpeg got SIGKILL: SD takes over."""
    monkeypatch.setattr(memory, "_VMSTAT", Path("/proc/no-such-file"))

    async def act(stage: Stage) -> None:
        stage.supervisor.want(job(), lesser=job(channel=Channel.SD))
        await stage.until_phase(Phase.STREAMING)
        channels = [stage.supervisor.active_channel]
        os.kill(stage.pids[0], signal.SIGKILL)
        await stage.until(lambda: len(stage.pids) == 2)
        await stage.until_phase(Phase.STREAMING)
        assert [*channels, stage.supervisor.active_channel] == [Channel.HD, Channel.SD]

    stage = play("streams.py", act)
    assert stage.reasons == [ReasonCode.OUT_OF_MEMORY]


@pytest.mark.parametrize(
    ("child", "code"),
    [
        ("crashes.py", ReasonCode.FFMPEG_CRASHED),
        ("ends_at_once.py", ReasonCode.FFMPEG_CRASHED),
        ("leaves_a_grandchild.py", ReasonCode.FFMPEG_CRASHED),
        ("/no/such/ffmpeg", ReasonCode.FFMPEG_MISSING),
        ("/dev/null", ReasonCode.FFMPEG_MISSING),
    ],
)
def test_every_end_has_its_reason(child: str, code: ReasonCode) -> None:
    """A child that dies, or cannot be started, gives a reason and another try."""

    async def act(stage: Stage) -> None:
        stage.supervisor.want(job())
        await stage.until(lambda: stage.supervisor.state.phase in (Phase.BACKING_OFF, Phase.FAILED))
        assert stage.supervisor.state.reason is not None
        assert stage.supervisor.state.reason.code is code
        assert stage.supervisor.retry_at is not None

    stage = play(child, act)
    assert [process for process in psutil.process_iter(["ppid", "cmdline"]) if is_grandchild(process, stage)] == []


def is_grandchild(process: psutil.Process, stage: Stage) -> bool:
    try:
        return os.getpgid(process.pid) in stage.pids and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def test_ffmpeg_that_appears_later_is_used(tmp_path: Path) -> None:
    """`ffmpeg_missing` needs a person; once it is installed, a press (or five minutes) is enough."""
    path = tmp_path / "ffmpeg"

    async def act(stage: Stage) -> None:
        stage.supervisor.want(job())
        await stage.until_phase(Phase.FAILED)
        path.symlink_to(CHILDREN / "streams.py")
        stage.supervisor.press()
        await stage.until_phase(Phase.STREAMING)

    play(str(path), act)


def test_a_child_that_never_stops_talking_delays_nothing() -> None:
    """Ten thousand lines a second: bounded in the journal, counted, and OFF still acts at once."""

    async def act(stage: Stage) -> None:
        stage.supervisor.want(job())
        await stage.until_phase(Phase.STREAMING)
        await stage.until(lambda: stage.journal.last_seq > 100)
        stage.supervisor.want(None)
        await stage.until_phase(Phase.IDLE)
        stage.journal.tick()

    stage = play("talks_without_end.py", act)
    assert stage.journal.last_seq < 2000


def test_what_ffmpeg_prints_of_a_secret_is_never_kept() -> None:
    """A child that prints its whole command line, whole, in a reason and cut within the key, shows no part of it."""

    async def act(stage: Stage) -> None:
        stage.supervisor.want(job())
        await stage.until(lambda: stage.supervisor.state.phase in (Phase.BACKING_OFF, Phase.FAILED))
        assert KEY not in repr(stage.supervisor.state)
        assert stage.supervisor.state.reason is not None
        assert "***" in stage.supervisor.state.reason.message

    stage = play("shows_its_key.py", act)
    assert "cannot do" in stage.text()
    for part in (KEY, KEY[:12], KEY[-12:]):
        assert part not in stage.text()


def test_on_and_off_in_one_breath_ends_idle() -> None:
    """Commands faster than ffmpeg: the last one counts, and never two children."""

    async def act(stage: Stage) -> None:
        for number in range(20):
            stage.supervisor.want(job(key=Secret(f"key-number-{number}")))
            stage.supervisor.want(None)
        await stage.supervisor.stop()

    stage = play("streams.py", act)
    assert stage.supervisor.state.phase is Phase.IDLE


def test_a_launch_leaves_no_descriptor() -> None:
    """The pipe for the keyframes is ffmpeg's for as long as it runs, and nobody's after that."""
    descriptors: list[int] = []

    async def act(stage: Stage) -> None:
        for _ in range(20):
            stage.supervisor.want(job())
            await stage.until_phase(Phase.STREAMING)
            assert stage.supervisor.tap is not None
            assert _holds_its_pipe(stage.supervisor.child_pid)
            stage.supervisor.want(None)
            await stage.until_phase(Phase.IDLE)
            assert stage.supervisor.tap is None
            descriptors.append(_count_descriptors())

    play("streams.py", act, pictures=True)
    assert len(set(descriptors)) == 1


def _holds_its_pipe(pid: int | None) -> bool:
    """Whether the descriptor that a child was told to write keyframes to is a pipe of its own."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    number = next(word for word in reversed(words) if word.startswith("pipe:")).removeprefix("pipe:")
    return int(number) > 2 and Path(f"/proc/{pid}/fd/{number}").readlink().name.startswith("pipe:")


def _count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
