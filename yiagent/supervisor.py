"""Owns the one ffmpeg child: performs what the transition table says, and tells the table what happens.

One inbox, one consumer. A child's reader posts `Exited` last, so no event outlives its child. A bug here ends the
process, on purpose: the service manager starts it again, and the stream resumes from the intent on disk.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from yiagent import knock, machine
from yiagent.chance import between
from yiagent.child import Child, is_stopped
from yiagent.diagnosis import Diagnosis, is_expected
from yiagent.events import Event, Exited, Flowing, Knocked, Launch, Pressed, Signal, TimedOut, Unsuited, Uplink, Wanted
from yiagent.ffmpeg import Capabilities, Job, Plan, look_arguments, needs_look, remux_arguments
from yiagent.flow import FlowMeter
from yiagent.guard import Guard
from yiagent.installed import FfmpegUnusable, InstalledFfmpeg, cannot_start
from yiagent.knock import JITTER, Knocker
from yiagent.machine import Knock, Limits, State
from yiagent.memory import (
    REMUX_OOM_SCORE,
    memory_available_kb,
    offer_to_oom_killer,
    oom_kills,
    was_killed_for_memory,
)
from yiagent.model import Audio, Channel, Failure, Flow, Level, Origin, Phase, Progress, Reason, ReasonCode
from yiagent.moment import Moment
from yiagent.narrator import Narrator
from yiagent.network import port_of
from yiagent.progress import parse_message
from yiagent.redact import Redactor, Secret
from yiagent.sendqueue import SendQueue
from yiagent.store import Journal
from yiagent.urls import Url, parse_server

if TYPE_CHECKING:
    from yiagent.tap import Tap

# How often the send queue is looked at: as often as ffmpeg reports.
LOOK_PERIOD_S: Final = 0.5
# ffmpeg reports with a frame, so a frame late; one that has said nothing for so long is looked at without a report.
REPORT_OVERDUE_S: Final = 0.75
# A key that the server took before is more likely held by the connection that just broke than refused: nginx-rtmp, as
# it comes, holds one whose network went away for 60 to 90 s.
KEY_MAY_BE_HELD_S: Final = 180.0
_SIGNALS: Final = {Signal.TERM: signal.SIGTERM, Signal.KILL: signal.SIGKILL}


@dataclass(slots=True)
class _Run:
    """One launched child with what is known of it."""

    launch: int
    job: Job
    plan: Plan
    looking: bool
    diagnosis: Diagnosis
    oom_kills: int | None
    tap: Tap | None
    child: Child | None = None
    queue: SendQueue | None = None
    looker: asyncio.TimerHandle | None = None
    flow: Flow | None = None
    meter: FlowMeter = field(default_factory=FlowMeter)
    unsuited: bool = False


class Supervisor:
    """Holds what the owner wants against what the one child does. `on_change` is called after what counts.

    `on_turn` is called at every turn of the loop, which takes at the most `turn_s`: the sign of life for a watchdog.
    `open_tap`: makes the pipe for the keyframes of a launch; None where nobody wants them. `available_kb`: how much
    memory can be had; None where that is not known.
    """

    def __init__(
        self,
        *,
        ffmpeg: InstalledFfmpeg,
        limits: Limits,
        journal: Journal,
        redactor: Redactor,
        guard: Guard,
        on_change: Callable[[], None],
        on_turn: Callable[[], None] = lambda: None,
        turn_s: float | None = None,
        open_tap: Callable[[], Tap] | None = None,
        available_kb: Callable[[], int | None] = memory_available_kb,
    ) -> None:
        self._ffmpeg = ffmpeg
        self._limits = limits
        self._journal = journal
        self._redactor = redactor
        self._guard = guard
        self._narrator = Narrator(journal)
        self._on_change = on_change
        self._on_turn = on_turn
        self._turn_s = turn_s
        self._open_tap = open_tap
        self._available_kb = available_kb
        self._inbox: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        self._state = State()
        self._since = Moment(time.monotonic())
        self._retry_at: Moment | None = None
        self._job_number = 0
        self._jobs: dict[int, Job] = {}
        self._accepted: tuple[str, Secret] | None = None
        self._rejected_at: float | None = None
        self._run: _Run | None = None
        self._waiter: asyncio.Task[None] | None = None
        self._knocker = Knocker(self._knocked, self._inbox.put_nowait)
        self._launches = 0
        self._plans: dict[Url, Plan] = {}
        self._sent_before = 0
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
        return self._since.wall

    @property
    def retry_at(self) -> float | None:
        """When the next try is due, wall-clock seconds; None where none is."""
        return self._retry_at.wall if self._retry_at is not None else None

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
    def tap(self) -> Tap | None:
        """Where the running remux hands on its keyframes; None where none does."""
        return self._run.tap if self._run is not None else None

    # --- what the agent says ---

    def want(self, job: Job | None, obstacle: Reason | None = None, *, lesser: Job | None = None) -> None:
        """What is to run from now on; None with an `obstacle`: the owner wants something that cannot be run.

        `lesser` runs instead for as long as uplink or memory do not carry `job`.
        """
        if job is not None or obstacle is not None:
            self._idle.clear()
        self._inbox.put_nowait(Wanted(self._number_of(job), obstacle, self._number_of(lesser)))

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

    def _number_of(self, job: Job | None) -> int | None:
        """Equal jobs have one number, so that nothing is restarted for a wish that comes to the same."""
        if job is None:
            return None
        number = next((number for number, other in self._jobs.items() if other == job), None)
        if number is None:
            self._job_number += 1
            number = self._job_number
            self._jobs[number] = job
        return number

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
            if run.child is not None and is_stopped(run.child.pid):
                return Failure(_FFMPEG_STANDS_STILL)
            return Failure(_SERVER_TAKES_NOTHING if run.meter.is_queueing else _CAMERA_SENDS_NOTHING)
        return self._clean(run.diagnosis.late())

    async def _handle(self, event: Event) -> None:
        before = self._state
        if isinstance(event, Exited):
            event = Exited(self._clean(event.failure), event.relaunch)
            self._forget_run()
        # Not a secret: agents of one household must not all come back in the same instant.
        jitter = between(1 - JITTER, 1 + JITTER)
        now = time.monotonic()
        available_kb = self._available_kb() if machine.heeds_memory(before, event, now) else None
        limits = replace(self._limits, jitter=jitter, available_kb=available_kb)
        self._state, effects = machine.step(before, event, now, limits)
        if self._state.phase is not before.phase:
            self._since = Moment(time.monotonic())
        if self._state.deadline != before.deadline or self._state.phase is not before.phase:
            self._retry_at = self._next_try()
        self._narrator.tell(before, event, self._state, self._jobs.get(self._state.running or 0))
        if isinstance(event, Flowing) and self._run is not None:
            self._accepted = (self._run.job.server, self._run.job.key)
            self._rejected_at = None
        self._knock_or_not(before)
        for effect in effects:
            if isinstance(effect, Launch):
                if self._jobs[effect.job].channel is Channel.HD:
                    self._narrator.tell_room(has_room=limits.has_room)
                await self._launch(self._jobs[effect.job])
            else:
                self._send(_SIGNALS[effect.signal])
        if self._inbox.empty():
            # No wish is waiting that could need another.
            needed = (self._state.job, self._state.lesser, self._state.running)
            self._jobs = {number: job for number, job in self._jobs.items() if number in needed}
            if self._state.phase is Phase.IDLE:
                self._idle.set()
        if self._state != before or effects:
            self._on_change()

    # --- the peers ---

    def _knock_or_not(self, before: State) -> None:
        state = self._state
        if state.phase is before.phase and state.job == before.job:
            return
        self._knocker.end()
        if state.knock in (Knock.PENDING, Knock.OVERDUE) and state.target is not None:
            job = self._jobs[state.target]
            self._knocker.begin(job.source, parse_server(job.server))

    def _knocked(self, result: knock.Knock) -> None:
        job = self._state.job
        if job is not None:
            self._inbox.put_nowait(Knocked(job, result.failure))

    # --- the child ---

    async def _launch(self, job: Job) -> None:
        assert self._run is None, "two children"
        try:
            capabilities = await self._ffmpeg.capabilities()
            plan = self._plans.get(job.source, Plan(None))
            looking = needs_look(job, plan)
            can_tap = capabilities.picks_keyframes and not looking
            tap = self._open_tap() if self._open_tap is not None and can_tap else None
            self._launches += 1
            diagnosis = Diagnosis(encrypted=job.server.lower().startswith("rtmps:"), redactor=self._redactor)
            # Known before it is started: what it says first must find its place.
            run = self._run = _Run(self._launches, job, plan, looking, diagnosis, oom_kills(), tap)
            child = await self._start(run, capabilities)
        except FfmpegUnusable as error:
            self._inbox.put_nowait(Exited(error.failure))
        except OSError as error:
            self._inbox.put_nowait(Exited(cannot_start(self._ffmpeg.program, error).failure))
        else:
            run.child = child
            self._guard.watch([child.pid])
            offer_to_oom_killer(child.pid, REMUX_OOM_SCORE)
            run.queue = SendQueue(child.pid, port_of(parse_server(job.server)))
            self._waiter = asyncio.create_task(self._wait(run, child))

    async def _start(self, run: _Run, capabilities: Capabilities) -> Child:
        job, plan, tap = run.job, run.plan, run.tap
        if run.looking:
            arguments = look_arguments(job, plan, capabilities)
        else:
            keyframes_to = tap.writer if tap is not None else None
            arguments = remux_arguments(job, plan, capabilities, keyframes_to=keyframes_to)
        command = [self._ffmpeg.program, *arguments]
        try:
            pass_fds = (tap.writer,) if tap is not None else ()
            # For whoever has to make room for HD, and sees processes only: the keeper on a camera.
            channel = {"YIAGENT_CHANNEL": str(job.channel)}
            return await Child.start(
                command,
                self._heard,
                self._progressed,
                pass_fds=pass_fds,
                environment=channel,
                on_left_out=self._journal.left_out,
            )
        finally:
            if tap is not None:
                tap.handed_over()

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
            status, flowed=run.meter.flowed, killed_for_memory=lambda: was_killed_for_memory(run.oom_kills)
        )
        learned = self._learn(run)
        relaunch = learned if run.looking else learned and not run.meter.flowed
        if failure.reason.code is ReasonCode.SINK_REJECTED and self._accepted == (run.job.server, run.job.key):
            now = time.monotonic()
            if self._rejected_at is None:
                self._rejected_at = now
            if now - self._rejected_at < KEY_MAY_BE_HELD_S:
                failure = Failure(failure.reason, passes=True)
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
        if self._run is not None and self._run.tap is not None:
            self._run.tap.close()
        if self._run is not None and self._run.looker is not None:
            self._run.looker.cancel()
        self._run = None
        self._waiter = None
        self._guard.watch([])

    def _heard(self, line: str, cut: bool) -> None:
        message = parse_message(line)
        run = self._run
        level = message.level
        if run is not None:
            run.diagnosis.hear(message, cut=cut)
            if is_expected(message) or self._state.phase is Phase.STOPPING:
                # What it says of being ended, it was told to.
                level = Level.DEBUG
            if message.text.startswith("Output #0") and not run.unsuited:
                codec = run.diagnosis.audio_codec
                if run.job.audio is Audio.AUTO and codec != run.plan.audio_codec and self._learn(run):
                    run.unsuited = True
                    self._inbox.put_nowait(Unsuited())
        self._journal.add(self._narrator.heard(level), Origin.FFMPEG, message.line, cut=cut)

    def _progressed(self, progress: Progress) -> None:
        run = self._run
        if run is None:
            return
        run.flow = Flow(run.launch, time.monotonic(), progress)
        self._look(run)
        self._look_again_in(run, REPORT_OVERDUE_S)

    def _look_again_in(self, run: _Run, wait_s: float) -> None:
        """Unless a report comes first. A timer that is put off costs nothing; a task that sleeps wakes the machine."""
        if run.looker is not None:
            run.looker.cancel()
        run.looker = asyncio.get_running_loop().call_later(wait_s, self._look_on, run)

    def _look_on(self, run: _Run) -> None:
        """Look while ffmpeg says nothing: one that is blocked stops reporting, and media may still be leaving."""
        try:
            self._look(run)
        except Exception as error:
            self._inbox.put_nowait(error)
        else:
            self._look_again_in(run, LOOK_PERIOD_S)

    def _look(self, run: _Run) -> None:
        assert run.flow is not None
        was_slow = run.meter.is_slow
        queued = run.queue.read() if run.queue is not None else None
        if run.meter.look(run.flow.progress, queued, time.monotonic()):
            self._inbox.put_nowait(Flowing())
        if run.meter.is_slow is not was_slow:
            self._inbox.put_nowait(Uplink(slow=run.meter.is_slow))

    def _next_try(self) -> Moment | None:
        state = self._state
        if state.phase not in (Phase.BACKING_OFF, Phase.FAILED) or state.job is None or state.deadline is None:
            return None
        if state.away:
            # The moment they answer, whenever that is.
            return None
        return Moment(state.deadline)

    def _clean(self, failure: Failure) -> Failure:
        """A server's own words can hold anything, the key included."""
        reason = failure.reason
        return replace(failure, reason=Reason(reason.code, self._redactor.redact(reason.message)))


_SERVER_TAKES_NOTHING: Final = Reason(
    ReasonCode.STALLED, "The server takes no more video, though the connection to it stands."
)
_CAMERA_SENDS_NOTHING: Final = Reason(
    ReasonCode.STALLED, "No more video comes from the camera, though the connection to it stands."
)
_FFMPEG_STANDS_STILL: Final = Reason(
    ReasonCode.STALLED, "ffmpeg was stopped by something on this machine (SIGSTOP). It is replaced."
)
