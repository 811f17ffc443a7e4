"""Owns the one ffmpeg child: performs what the transition table says, and tells the table what happens.

One inbox, one consumer. A child's reader posts `Exited` last, so no event outlives its child. A bug here ends the
process, on purpose: the service manager starts it again, and the stream resumes from the intent on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from yiagent import machine
from yiagent.child import Child, run_to_end
from yiagent.diagnosis import Diagnosis, is_expected
from yiagent.ffmpeg import (
    Capabilities,
    Job,
    Plan,
    capabilities_arguments,
    look_arguments,
    missing_message,
    needs_look,
    parse_capabilities,
    remux_arguments,
)
from yiagent.guard import Guard
from yiagent.knock import knock
from yiagent.machine import (
    Event,
    Exited,
    Flowing,
    Knocked,
    Launch,
    Limits,
    Pressed,
    State,
    TimedOut,
    Unsuited,
    Uplink,
    Wanted,
)
from yiagent.memory import REMUX_OOM_SCORE, offer_to_oom_killer, oom_kills
from yiagent.model import Audio, Channel, Failure, Flow, Level, Origin, Phase, Progress, Reason, ReasonCode
from yiagent.network import port_of
from yiagent.progress import parse_message
from yiagent.redact import Redactor
from yiagent.sendqueue import SendQueue
from yiagent.store import Journal
from yiagent.threads import in_daemon_thread
from yiagent.urls import Url, parse_server

# ffmpeg tells what it can do within a second even on a camera; what takes longer is no ffmpeg.
CAPABILITIES_TIMEOUT_S: Final = 5.0
CAPABILITIES_BYTES: Final = 1 << 20
JITTER: Final = 0.25
# Metadata and the codecs' headers: 250 to 720 bytes were measured (ffmpeg 5.1 to 9.0).
HEADER_BYTES: Final = 1000
# ffmpeg counts FLV, the queue counts RTMP, which takes 2.7 % less (measured): so much seems taken by a server that
# takes nothing. An uplink that carries a tenth of the bit rate is still seen to move.
COUNTING_ERROR: Final = 0.08
# How often the send queue is looked at: as often as ffmpeg reports.
LOOK_PERIOD_S: Final = 0.5
# Healthy, the queue is empty in 99 of 100 looks; one that was never empty for this long is an uplink too slow.
SLOW_AFTER_S: Final = 3.0
# And one that was empty at so many looks in a row is none any more.
FAST_AFTER_LOOKS: Final = 4
# How often absent peers are knocked at: on the local network, and beyond it, where it is somebody else's server.
KNOCK_PERIOD_S: Final = 1.0
FAR_KNOCK_PERIOD_S: Final = 5.0
# After these a peer may be away. Whatever else failed is not mended by anybody's answering.
PEER_MAY_BE_AWAY: Final = frozenset(
    {ReasonCode.SOURCE_UNREACHABLE, ReasonCode.SINK_UNREACHABLE, ReasonCode.SINK_DNS, ReasonCode.SINK_CLOSED}
)
# A key the server took before is more likely held by the connection that just broke than refused.
REJECTIONS_OF_A_KNOWN_KEY: Final = 6
_SIGNALS: Final = {machine.Signal.TERM: signal.SIGTERM, machine.Signal.KILL: signal.SIGKILL}


class FfmpegUnusable(Exception):
    """ffmpeg cannot be run; `failure` says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(Reason(ReasonCode.FFMPEG_MISSING, message), needs_person=True)


@dataclass(slots=True)
class _Run:
    """One launched child with what is known of it."""

    launch: int
    job: Job
    plan: Plan
    looking: bool
    diagnosis: Diagnosis
    oom_kills: int | None
    child: Child | None = None
    flow: Flow | None = None
    flowed: bool = False
    queue: SendQueue | None = None
    queued: int | None = None
    taken: int = 0
    written: int = 0
    frames: int = 0
    queued_since: float | None = None
    empty_looks: int = 0
    slow: bool = False
    unsuited: bool = False


class Supervisor:
    """Holds what the owner wants against what the one child does. `on_change` is called after what counts.

    `on_turn` is called at every turn of the loop, which takes at the most `turn_s`: the sign of life for a watchdog.
    """

    def __init__(
        self,
        *,
        ffmpeg: str,
        limits: Limits,
        journal: Journal,
        redactor: Redactor,
        guard: Guard,
        on_change: Callable[[], None],
        on_turn: Callable[[], None] = lambda: None,
        turn_s: float | None = None,
    ) -> None:
        self._ffmpeg = ffmpeg
        self._limits = limits
        self._journal = journal
        self._redactor = redactor
        self._guard = guard
        self._on_change = on_change
        self._on_turn = on_turn
        self._turn_s = turn_s
        self._inbox: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        self._state = State()
        self._since = time.time()
        self._retry_at: float | None = None
        self._job: Job | None = None
        self._job_number = 0
        self._jobs: dict[int, Job] = {}
        self._accepted_job = 0
        self._run: _Run | None = None
        self._waiter: asyncio.Task[None] | None = None
        self._looker: asyncio.Task[None] | None = None
        self._knocker: asyncio.Task[None] | None = None
        self._launches = 0
        self._plans: dict[Url, Plan] = {}
        self._capabilities: Capabilities | None = None
        self._capabilities_of: object = None
        self._sent_before = 0
        self._same_failures = 0
        self._told: Reason | None = None
        self._failed_at: float | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    # --- what the agent reads ---

    @property
    def state(self) -> State:
        """Where the transition table stands."""
        return self._state

    @property
    def since(self) -> float:
        """When the phase was entered, wall-clock seconds."""
        return self._since

    @property
    def retry_at(self) -> float | None:
        """When the next try is due, wall-clock seconds; None where none is."""
        return self._retry_at

    @property
    def active_channel(self) -> Channel | None:
        """Which of the camera's streams the child is for."""
        running = self._state.running
        return self._jobs[running].channel if running is not None else None

    @property
    def flow(self) -> Flow | None:
        """The last report of the child that streams; None where none does."""
        return self._run.flow if self._run is not None else None

    @property
    def sent_bytes(self) -> int:
        """Bytes handed to the server since the agent started, over all launches."""
        flow = self.flow
        return self._sent_before + (flow.progress.total_bytes if flow is not None else 0)

    @property
    def child_pid(self) -> int | None:
        """The remux's process id; None where none runs."""
        child = self._run.child if self._run is not None else None
        return child.pid if child is not None else None

    @property
    def ffmpeg_version(self) -> str | None:
        """The installed ffmpeg's version; None while none could be run."""
        return self._capabilities.version if self._capabilities is not None else None

    # --- what the agent says ---

    def want(self, job: Job | None, obstacle: Reason | None = None) -> None:
        """What is to run from now on; None with an `obstacle`: the owner wants something that cannot be run."""
        if job is not None and job != self._job:
            self._job_number += 1
            self._jobs[self._job_number] = job
        self._job = job
        if job is not None or obstacle is not None:
            self._idle.clear()
        self._inbox.put_nowait(Wanted(self._job_number if job is not None else None, obstacle))

    def press(self) -> None:
        """Restart the child now, or cut a wait short."""
        self._inbox.put_nowait(Pressed())

    async def run(self) -> None:
        """Consume the inbox for ever. Ends only by cancellation or by a bug."""
        while True:
            self._on_turn()
            event = await self._next_event()
            if isinstance(event, BaseException):
                raise event
            if event is not None:
                await self._handle(event)

    async def stop(self) -> None:
        """End the child, by force if it does not go, and return when it is gone. `run` must still be running."""
        self.want(None)
        await self._idle.wait()

    def kill(self) -> None:
        """End the child at once; the last resort on the way out."""
        self._send(signal.SIGKILL)

    async def look_at_ffmpeg(self) -> None:
        """Ask ffmpeg what it can do, so that the first start need not wait for it."""
        with contextlib.suppress(FfmpegUnusable):
            await self._ask_capabilities()

    # --- the consumer ---

    async def _next_event(self) -> Event | BaseException | None:
        """What happens next; None where nothing did for as long as a turn may last."""
        deadline = self._state.deadline
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        is_turn = self._turn_s is not None and (left_s is None or self._turn_s < left_s)
        try:
            async with asyncio.timeout(self._turn_s if is_turn else left_s):
                return await self._inbox.get()
        except TimeoutError:
            return None if is_turn else TimedOut(self._what_is_late())

    def _what_is_late(self) -> Failure | None:
        run = self._run
        if run is None:
            return None
        if self._state.phase in (Phase.STREAMING, Phase.STALLED):
            return Failure(_SERVER_TAKES_NOTHING if run.queued else _CAMERA_SENDS_NOTHING)
        return self._clean(run.diagnosis.late())

    async def _handle(self, event: Event) -> None:
        before = self._state
        if isinstance(event, Exited):
            event = Exited(self._clean(event.failure), event.relaunch)
            self._forget_run()
        # Not a secret: agents of one household must not all come back in the same instant.
        jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        limits = replace(self._limits, jitter=jitter)
        self._state, effects = machine.step(before, event, time.monotonic(), limits)
        if self._state.phase is not before.phase:
            self._since = time.time()
        self._retry_at = self._next_try()
        self._tell(before, event)
        if isinstance(event, Flowing) and self._state.phase is Phase.STREAMING:
            self._accepted_job = self._state.running or 0
        self._knock_or_not(before)
        for effect in effects:
            if isinstance(effect, Launch):
                await self._launch(self._jobs[effect.job])
            else:
                self._send(_SIGNALS[effect.signal])
        if self._state.phase is Phase.IDLE and self._inbox.empty():
            self._idle.set()
        if self._state != before or effects:
            self._on_change()

    # --- the peers ---

    def _knock_or_not(self, before: State) -> None:
        state = self._state
        if state.phase is before.phase and state.job == before.job:
            return
        if self._knocker is not None:
            self._knocker.cancel()
            self._knocker = None
        if state.phase is not Phase.BACKING_OFF or state.job is None or state.reason is None:
            return
        if state.reason.code in PEER_MAY_BE_AWAY:
            self._knocker = asyncio.create_task(self._knock_until_answered(state.job, self._jobs[state.job]))

    async def _knock_until_answered(self, number: int, job: Job) -> None:
        try:
            server = parse_server(job.server)
            while True:
                result = await in_daemon_thread(lambda: knock(job.source, server))
                self._inbox.put_nowait(Knocked(number, result.failure))
                if result.failure is None:
                    return
                period = FAR_KNOCK_PERIOD_S if result.far else KNOCK_PERIOD_S
                await asyncio.sleep(period * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
        except Exception as error:
            self._inbox.put_nowait(error)

    # --- the child ---

    async def _launch(self, job: Job) -> None:
        assert self._run is None, "two children"
        self._jobs = {number: other for number, other in self._jobs.items() if number >= (self._state.running or 0)}
        try:
            capabilities = await self._ask_capabilities()
            plan = self._plans.get(job.source, Plan(None))
            looking = needs_look(job, plan)
            arguments = (look_arguments if looking else remux_arguments)(job, plan, capabilities)
            self._launches += 1
            diagnosis = Diagnosis(encrypted=job.server.lower().startswith("rtmps:"))
            # Known before it is started: what it says first must find its place.
            run = self._run = _Run(self._launches, job, plan, looking, diagnosis, oom_kills())
            child = await Child.start([self._ffmpeg, *arguments], self._heard, self._progressed)
        except FfmpegUnusable as error:
            self._inbox.put_nowait(Exited(error.failure))
        except OSError as error:
            self._inbox.put_nowait(Exited(_cannot_start(self._ffmpeg, error).failure))
        else:
            run.child = child
            self._guard.watch([child.pid])
            offer_to_oom_killer(child.pid, REMUX_OOM_SCORE)
            run.queue = SendQueue(child.pid, port_of(parse_server(job.server)))
            self._waiter = asyncio.create_task(self._wait(run, child))
            self._looker = asyncio.create_task(self._look_on(run))

    def _send(self, number: signal.Signals) -> None:
        if self._run is not None and self._run.child is not None:
            self._run.child.send(number)

    async def _wait(self, run: _Run, child: Child) -> None:
        try:
            status = await child.wait()
            self._inbox.put_nowait(self._ending(run, status))
        except Exception as error:
            # A child nobody waits for any more would leave the phase a lie for ever: let the consumer fail instead.
            self._inbox.put_nowait(error)

    def _ending(self, run: _Run, status: int) -> Exited:
        """What the end of a child means, learning from it what the next launch needs."""
        diagnosis = run.diagnosis
        failure = diagnosis.ended(
            status, flowed=run.flowed, killed_for_memory=lambda: _was_killed_for_memory(run.oom_kills)
        )
        learned = self._learn(run)
        relaunch = learned if run.looking else learned and not run.flowed
        if (
            failure.reason.code is ReasonCode.SINK_REJECTED
            and self._accepted_job == self._state.running
            and self._state.attempt < REJECTIONS_OF_A_KNOWN_KEY
        ):
            failure = Failure(failure.reason)
        return Exited(failure, relaunch=relaunch)

    def _learn(self, run: _Run) -> bool:
        """Keep what the child told of the camera; whether another command line follows from it."""
        diagnosis = run.diagnosis
        if not diagnosis.input_open:
            return False
        plan = run.plan
        if run.job.audio is Audio.AUTO and diagnosis.audio_codec is not None:
            plan = replace(plan, audio_codec=diagnosis.audio_codec)
        if diagnosis.wants_patience:
            plan = replace(plan, patient=True)
        self._plans[run.job.source] = plan
        return plan != run.plan

    def _forget_run(self) -> None:
        if self._run is not None and self._run.flow is not None:
            self._sent_before += self._run.flow.progress.total_bytes
        self._run = None
        self._waiter = None
        if self._looker is not None:
            self._looker.cancel()
            self._looker = None
        self._guard.watch([])

    def _heard(self, line: str, cut: bool) -> None:
        message = parse_message(line)
        run = self._run
        level = message.level
        if run is not None:
            run.diagnosis.hear(message)
            if is_expected(message):
                level = Level.DEBUG
            if message.text.startswith("Output #0") and not run.unsuited:
                codec = run.diagnosis.audio_codec
                if run.job.audio is Audio.AUTO and codec != run.plan.audio_codec and self._learn(run):
                    run.unsuited = True
                    self._inbox.put_nowait(Unsuited())
        if self._same_failures > 1:
            # Told once; the repeats of a failing launch are for those who look for them.
            level = Level.DEBUG
        self._journal.add(level, Origin.FFMPEG, message.line, cut=cut)

    def _progressed(self, progress: Progress) -> None:
        run = self._run
        if run is None:
            return
        run.flow = Flow(run.launch, time.monotonic(), progress)
        self._look(run)

    async def _look_on(self, run: _Run) -> None:
        """Look again while ffmpeg says nothing: one that is blocked stops reporting, and media may still be leaving."""
        try:
            while self._run is run:
                await asyncio.sleep(LOOK_PERIOD_S)
                if run.flow is not None and time.monotonic() - run.flow.at > LOOK_PERIOD_S:
                    self._look(run)
        except Exception as error:
            self._inbox.put_nowait(error)

    def _look(self, run: _Run) -> None:
        """Whether media has left since the last look: what ffmpeg wrote, less what stands in the kernel's queue.

        A server that will refuse the stream has taken its header as well, and frames are counted without a byte leaving
        (ffmpeg 7): only what grows beyond the header counts. With an empty queue frames must have come too, or the
        camera is frozen under a generated sound track; with a full one they only wait their turn.
        """
        assert run.flow is not None
        progress = run.flow.progress
        run.queued = run.queue.read() if run.queue is not None else None
        written = progress.total_bytes
        taken = written - (run.queued or 0)
        gained = taken - run.taken
        is_moving = gained > max(0, written - run.written) * COUNTING_ERROR
        if taken > HEADER_BYTES and is_moving and (run.queued or progress.frames > run.frames):
            # The first time is only a mark to measure from.
            is_first = run.taken == 0
            run.taken, run.written, run.frames = taken, written, progress.frames
            if not is_first:
                run.flowed = True
                self._inbox.put_nowait(Flowing())
        self._judge_uplink(run)

    def _judge_uplink(self, run: _Run) -> None:
        now = time.monotonic()
        if run.queued:
            run.empty_looks = 0
            run.queued_since = run.queued_since or now
        else:
            run.empty_looks += 1
            run.queued_since = None
        if not run.slow and run.queued_since is not None and now - run.queued_since >= SLOW_AFTER_S:
            run.slow = True
            self._inbox.put_nowait(Uplink(slow=True))
        elif run.slow and run.empty_looks >= FAST_AFTER_LOOKS:
            run.slow = False
            self._inbox.put_nowait(Uplink(slow=False))

    async def _ask_capabilities(self) -> Capabilities:
        path = shutil.which(self._ffmpeg)
        if path is None:
            self._capabilities = None
            raise FfmpegUnusable(missing_message(self._ffmpeg))
        try:
            status = os.stat(path)  # noqa: PTH116 - Path.stat() is refused here as slow, which stat(2) is not
            identity = (path, status.st_mtime_ns, status.st_size, status.st_ino)
            if self._capabilities is not None and identity == self._capabilities_of:
                return self._capabilities
            _, output = await run_to_end(
                [path, *capabilities_arguments()], timeout_s=CAPABILITIES_TIMEOUT_S, most_bytes=CAPABILITIES_BYTES
            )
        except OSError as error:
            self._capabilities = None
            raise _cannot_start(path, error) from None
        capabilities = parse_capabilities(output)
        if capabilities is None:
            self._journal.warning(f"{path} did not say which version it is; going on as with a current ffmpeg")
            capabilities = Capabilities("unknown", "timeout")
        self._capabilities, self._capabilities_of = capabilities, identity
        self._on_change()
        return capabilities

    def _next_try(self) -> float | None:
        state = self._state
        if state.phase not in (Phase.BACKING_OFF, Phase.FAILED) or state.job is None or state.deadline is None:
            return None
        if state.away:
            # The moment they answer, whenever that is.
            return None
        return time.time() + state.deadline - time.monotonic()

    # --- what is told ---

    def _clean(self, failure: Failure) -> Failure:
        """A server's own words can hold anything, the key included."""
        reason = failure.reason
        return replace(failure, reason=Reason(reason.code, self._redactor.redact(reason.message)))

    def _tell(self, before: State, event: Event) -> None:
        state = self._state
        if isinstance(event, Uplink) and state.slow is not before.slow and state.phase is Phase.STREAMING:
            if state.slow:
                self._journal.warning(f"uplink_slow: {machine.UPLINK_SLOW.message}")
            else:
                self._journal.info("The connection to the server carries the bit rate again")
        if state.phase is before.phase and state.failure == before.failure:
            return
        if state.phase is Phase.STREAMING:
            self._tell_streaming(before)
        elif state.phase is Phase.STARTING and state.running is not None:
            job = self._jobs[state.running]
            what = f"Starting: {job.channel} to {parse_server(job.server).masked}"
            (self._journal.debug if self._same_failures else self._journal.info)(what)
        elif state.phase is Phase.IDLE:
            self._journal.info("Stopped")
        elif state.phase is Phase.STOPPING:
            self._journal.debug("Ending ffmpeg")
        if state.failure is not None and (state.failure != before.failure or isinstance(event, Exited)):
            self._tell_failure(state.failure, is_try=isinstance(event, Exited))
        if state.phase is Phase.IDLE:
            self._same_failures, self._told, self._failed_at = 0, None, None

    def _tell_streaming(self, before: State) -> None:
        channel = self.active_channel
        if before.phase is Phase.STALLED:
            self._journal.info("Video flows again")
        elif self._failed_at is not None:
            seconds = round(time.monotonic() - self._failed_at)
            tries = f"{self._same_failures} failed {'try' if self._same_failures == 1 else 'tries'}"
            self._journal.info(f"On air again ({channel}), {seconds} s and {tries} later")
        else:
            self._journal.info(f"On air ({channel})")
        self._same_failures, self._told, self._failed_at = 0, None, None

    def _tell_failure(self, failure: Failure, *, is_try: bool) -> None:
        if self._failed_at is None:
            self._failed_at = time.monotonic()
        if is_try and self._state.phase in (Phase.BACKING_OFF, Phase.FAILED):
            self._same_failures += 1
        reason = failure.reason
        if reason == self._told:
            self._journal.debug(f"{reason.code}: still, after {self._same_failures} tries")
            return
        self._told = reason
        self._same_failures = min(self._same_failures, 1)
        say = self._journal.error if failure.needs_person else self._journal.warning
        say(f"{reason.code}: {reason.message}")


_SERVER_TAKES_NOTHING: Final = Reason(
    ReasonCode.STALLED, "The server takes no more video, though the connection to it stands."
)
_CAMERA_SENDS_NOTHING: Final = Reason(
    ReasonCode.STALLED, "No more video comes from the camera, though the connection to it stands."
)


def _cannot_start(path: str, error: OSError) -> FfmpegUnusable:
    if isinstance(error, FileNotFoundError):
        return FfmpegUnusable(missing_message(path))
    return FfmpegUnusable(f"{path} cannot be started: {error.strerror}.")


def _was_killed_for_memory(kills_at_start: int | None) -> bool:
    """Whether the kernel ended something for want of memory since. A kernel that does not count gets the benefit:

    on a small machine SIGKILL from outside has hardly another cause.
    """
    kills = oom_kills()
    return kills is None or kills_at_start is None or kills > kills_at_start
