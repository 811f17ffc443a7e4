"""The phases' transition table: `step(state, event, now, limits)` gives the next state and what is to be done.

Everything that affects transitions is in this file; nothing else is. Pure: `now` is monotonic seconds and comes in, and
what is to be done goes out as effects, so a test can put it through any history without sleeping.

Each phase has at most one deadline, so one timer and one event, `TimedOut`, serve start-up, stall, kill escalation and
back-off alike. Every phase but `idle` has a deadline: there is none without a way out.

    idle ── wanted ──> starting ── media leaves ──> streaming <──> stalled
      ^                   │  ^                          │             │
      │                   │  └── retry_at ── backing_off / failed     │
      │                   v                      ^                    │
      └──────────────── stopping (TERM, TERM, KILL) <─────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Final

from yiagent.model import Failure, Phase, Reason, ReasonCode

# A blocked ffmpeg ignores one SIGTERM and ends at the second; what ignores that too is killed. Each gets this long.
KILL_STEP_S: Final = 3.0
# A run this long proves the line: its end is the server's or the network's whim, and the next try begins at once.
HEALTHY_RUN_S: Final = 60.0
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 15.0
# What only a person can mend is still tried now and then: keys get re-enabled, cameras rebooted.
FAILED_RETRY_S: Final = 300.0
# While a peer does not answer a knock, a launch would be doomed; it is still tried now and then: the knock may err.
AWAY_RETRY_S: Final = 300.0
# Media that has not moved for this long is told as stalled, while ffmpeg keeps its chance until `stall_timeout_s`.
STALL_NOTICE_S: Final = 5.0

# A camera that shows other codecs at every look would otherwise be relaunched for ever without a wait.
MOST_RELAUNCHES: Final = 3

UPLINK_SLOW: Final = Reason(
    ReasonCode.UPLINK_SLOW,
    "The connection to the server does not carry the camera's bit rate: what it sends queues up here."
    " The SD channel needs less.",
)
STALLED: Final = Reason(ReasonCode.STALLED, "No more video reached the server, though nothing had reported an error.")


class Signal(StrEnum):
    """What a child's process group is sent."""

    TERM = "TERM"
    KILL = "KILL"


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """The owner's wish as it now is.

    `job` tells one target (server, key, channel) from the next by a number; None: nothing is to run. `obstacle`: why
    nothing can be run although the owner wants it (no server is set, say); then `job` is None.
    """

    job: int | None
    obstacle: Reason | None = None


@dataclass(frozen=True, slots=True)
class Pressed:
    """The owner asked for a restart, now."""


@dataclass(frozen=True, slots=True)
class Flowing:
    """The child reported that media left since its last report."""


@dataclass(frozen=True, slots=True)
class Knocked:
    """Camera and server were knocked at, for this job. `failure`: who did not answer; None: both did."""

    job: int
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Uplink:
    """Whether the way to the server has begun, or ceased, to be too slow for what is sent."""

    slow: bool


@dataclass(frozen=True, slots=True)
class Unsuited:
    """The running child was launched for other codecs than the camera turns out to send."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The child is gone, or could not be started. `failure`: why it could not go on.

    `relaunch`: it has only looked what the camera sends, and the remux proper is to follow; that is no failure.
    """

    failure: Failure
    relaunch: bool = False


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The deadline has passed. `failure`: what the child was waiting for, as far as its messages tell."""

    failure: Failure | None = None


Event = Wanted | Pressed | Flowing | Knocked | Uplink | Unsuited | Exited | TimedOut

# --- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a child for this job."""

    job: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send this signal to the child's process group."""

    signal: Signal


Effect = Launch | Send
Effects = tuple[Effect, ...]

# --- state ----------------------------------------------------------------------------------------------------------


class After(Enum):
    """What follows once a stopping child is gone."""

    IDLE = "idle"
    LAUNCH = "launch"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Limits:
    """The configured time-outs, and `jitter`: a factor the supervisor draws anew for every event."""

    start_timeout_s: float
    stall_timeout_s: float
    jitter: float = 1.0

    @property
    def stall_notice_s(self) -> float:
        """How long media may stand still and still be called streaming."""
        return min(STALL_NOTICE_S, self.stall_timeout_s / 2)


@dataclass(frozen=True, slots=True)
class State:
    """Where the machine stands.

    `job` is what is wanted, `running` what the child was launched for (None: there is no child). `deadline` is
    monotonic seconds. `flowing_since`: when this child's media began to flow. `failure`: the last one.
    """

    phase: Phase = Phase.IDLE
    job: int | None = None
    running: int | None = None
    deadline: float | None = None
    attempt: int = 0
    failure: Failure | None = None
    flowing_since: float | None = None
    signals_sent: int = 0
    relaunches: int = 0
    slow: bool = False
    away: bool = False
    after: After = After.IDLE

    @property
    def reason(self) -> Reason | None:
        """What stands in the snapshot."""
        if self.failure is not None:
            return self.failure.reason
        return UPLINK_SLOW if self.slow and self.phase is Phase.STREAMING else None


Step = tuple[State, Effects]


def step(state: State, event: Event, now: float, limits: Limits) -> Step:
    """The state after `event`, and what is to be done, in order. Defined for every phase and event; never raises."""
    return TABLE[state.phase, type(event)](state, event, now, limits)


# --- what happens ---------------------------------------------------------------------------------------------------


def _ignore(state: State, event: Event, now: float, limits: Limits) -> Step:
    return state, ()


def _launch(state: State, now: float, limits: Limits) -> Step:
    job = state.job
    assert job is not None
    state = replace(
        state,
        phase=Phase.STARTING,
        running=job,
        deadline=now + limits.start_timeout_s,
        flowing_since=None,
        signals_sent=0,
        slow=False,
        away=False,
    )
    return state, (Launch(job),)


def _idle(state: State) -> Step:
    return State(), ()


def _stop(state: State, now: float, after: After) -> Step:
    state = replace(state, phase=Phase.STOPPING, deadline=now + KILL_STEP_S, signals_sent=1, after=after)
    return state, (Send(Signal.TERM),)


def _fail(state: State, failure: Failure, now: float, limits: Limits) -> Step:
    """No child is left, and it was not by wish: wait, then try again."""
    exponent = min(state.attempt, 16)
    attempt = state.attempt + 1
    state = replace(state, running=None, failure=failure, flowing_since=None, relaunches=0, slow=False, attempt=attempt)
    if failure.needs_person:
        return replace(state, phase=Phase.FAILED, deadline=now + FAILED_RETRY_S * limits.jitter), ()
    wait_s = min(FIRST_BACKOFF_S * 2.0**exponent, LONGEST_BACKOFF_S) * limits.jitter
    return replace(state, phase=Phase.BACKING_OFF, deadline=now + wait_s), ()


def _retry(state: State, failure: Failure, now: float, limits: Limits) -> Step:
    """A child ended by itself or had to be ended: at once again after a healthy run, else on the back-off."""
    healthy = state.flowing_since is not None and now - state.flowing_since >= HEALTHY_RUN_S
    if not healthy:
        return _fail(state, failure, now, limits)
    return _launch(replace(state, running=None, attempt=0, failure=failure), now, limits)


def _wish(state: State, event: Wanted) -> State:
    """The wish taken over; a new target starts with a clean record, since the old failures were the old target's."""
    if event.job == state.job:
        return state
    return replace(state, job=event.job, attempt=0, relaunches=0)


def _obstructed(state: State, obstacle: Reason, now: float, limits: Limits) -> Step:
    return _fail(state, Failure(obstacle, needs_person=True), now, limits)


def _wanted_without_child(state: State, event: Event, now: float, limits: Limits) -> Step:
    assert isinstance(event, Wanted)
    if event.obstacle is not None:
        return _obstructed(_wish(state, event), event.obstacle, now, limits)
    if event.job is None:
        return _idle(state)
    if event.job == state.job and state.phase is Phase.BACKING_OFF:
        return state, ()
    # In `failed` any command is worth a try: the owner may just have mended what was wrong.
    return _launch(_wish(state, event), now, limits)


def _wanted_with_child(state: State, event: Event, now: float, limits: Limits) -> Step:
    assert isinstance(event, Wanted)
    obstacle = Failure(event.obstacle, needs_person=True) if event.obstacle is not None else None
    unchanged = event.job == state.running
    state = _wish(state, event)
    if obstacle is not None:
        return _stop(replace(state, failure=obstacle), now, After.RETRY)
    if event.job is None:
        return _stop(replace(state, failure=None), now, After.IDLE)
    return (state, ()) if unchanged else _stop(state, now, After.LAUNCH)


def _wanted_while_stopping(state: State, event: Event, now: float, limits: Limits) -> Step:
    """The child is on its way out and stays so; the wish only decides what follows."""
    assert isinstance(event, Wanted)
    changed = event.job != state.job
    state = _wish(state, event)
    if event.obstacle is not None:
        return replace(state, failure=Failure(event.obstacle, needs_person=True), after=After.RETRY), ()
    if event.job is None:
        return replace(state, failure=None, after=After.IDLE), ()
    return (replace(state, after=After.LAUNCH) if changed else state), ()


def _pressed_with_child(state: State, event: Event, now: float, limits: Limits) -> Step:
    return _stop(replace(state, attempt=0), now, After.LAUNCH)


def _pressed_while_stopping(state: State, event: Event, now: float, limits: Limits) -> Step:
    return (replace(state, attempt=0, after=After.LAUNCH) if state.job is not None else state), ()


def _knocked(state: State, event: Event, now: float, limits: Limits) -> Step:
    """A peer that does not answer is waited for; the moment both do, the wait is over."""
    assert isinstance(event, Knocked)
    if event.job != state.job:
        return state, ()
    if event.failure is None:
        # Without an absence before, the launch failed although both answered: that is what the back-off is for.
        return _launch(state, now, limits) if state.away else (state, ())
    deadline = state.deadline if state.away else now + AWAY_RETRY_S * limits.jitter
    return replace(state, away=True, failure=event.failure, deadline=deadline), ()


def _uplink(state: State, event: Event, now: float, limits: Limits) -> Step:
    """Slow is told, and the stream goes on: an uplink that carries a part of it is better than none."""
    assert isinstance(event, Uplink)
    return replace(state, slow=event.slow), ()


def _replace_unsuited(state: State, event: Event, now: float, limits: Limits) -> Step:
    if state.relaunches >= MOST_RELAUNCHES:
        return state, ()
    return _stop(replace(state, relaunches=state.relaunches + 1), now, After.LAUNCH)


def _try_now(state: State, event: Event, now: float, limits: Limits) -> Step:
    """The wait is over, or was cut short. Without a job (nothing is configured) it only begins anew."""
    if state.job is None:
        assert state.failure is not None
        return _fail(state, state.failure, now, limits)
    if isinstance(event, Pressed):
        state = replace(state, attempt=0)
    return _launch(state, now, limits)


def _flowing(state: State, event: Event, now: float, limits: Limits) -> Step:
    since = state.flowing_since if state.flowing_since is not None else now
    healthy = now - since >= HEALTHY_RUN_S
    return replace(
        state,
        phase=Phase.STREAMING,
        deadline=now + limits.stall_notice_s,
        flowing_since=since,
        attempt=0 if healthy else state.attempt,
        relaunches=0 if healthy else state.relaunches,
        failure=None,
    ), ()


def _start_timed_out(state: State, event: Event, now: float, limits: Limits) -> Step:
    assert isinstance(event, TimedOut)
    return _stop(replace(state, failure=event.failure or Failure(STALLED)), now, After.RETRY)


def _stall_noticed(state: State, event: Event, now: float, limits: Limits) -> Step:
    assert isinstance(event, TimedOut)
    deadline = now + limits.stall_timeout_s - limits.stall_notice_s
    return replace(state, phase=Phase.STALLED, deadline=deadline, failure=event.failure or Failure(STALLED)), ()


def _stall_timed_out(state: State, event: Event, now: float, limits: Limits) -> Step:
    return _stop(state, now, After.RETRY)


def _kill_step(state: State, event: Event, now: float, limits: Limits) -> Step:
    signal = Signal.TERM if state.signals_sent < 2 else Signal.KILL
    return replace(state, signals_sent=state.signals_sent + 1, deadline=now + KILL_STEP_S), (Send(signal),)


def _exited(state: State, event: Event, now: float, limits: Limits) -> Step:
    assert isinstance(event, Exited)
    if event.relaunch and state.relaunches < MOST_RELAUNCHES:
        return _launch(replace(state, running=None, relaunches=state.relaunches + 1), now, limits)
    return _retry(state, event.failure, now, limits)


def _stopped(state: State, event: Event, now: float, limits: Limits) -> Step:
    """What the dying child said does not count: it was told to go, for a reason already noted."""
    if state.job is None:
        return _idle(state) if state.failure is None else _fail(state, state.failure, now, limits)
    if state.after is After.LAUNCH:
        return _launch(replace(state, running=None, failure=None), now, limits)
    return _retry(state, state.failure or Failure(STALLED), now, limits)


Handler = Callable[[State, Event, float, Limits], Step]

TABLE: Final[dict[tuple[Phase, type], Handler]] = {
    (Phase.IDLE, Wanted): _wanted_without_child,
    (Phase.IDLE, Pressed): _ignore,
    (Phase.IDLE, Flowing): _ignore,
    (Phase.IDLE, Knocked): _ignore,
    (Phase.IDLE, Uplink): _ignore,
    (Phase.IDLE, Unsuited): _ignore,
    (Phase.IDLE, Exited): _ignore,
    (Phase.IDLE, TimedOut): _ignore,
    (Phase.STARTING, Wanted): _wanted_with_child,
    (Phase.STARTING, Pressed): _pressed_with_child,
    (Phase.STARTING, Flowing): _flowing,
    (Phase.STARTING, Knocked): _ignore,
    (Phase.STARTING, Uplink): _ignore,
    (Phase.STARTING, Unsuited): _replace_unsuited,
    (Phase.STARTING, Exited): _exited,
    (Phase.STARTING, TimedOut): _start_timed_out,
    (Phase.STREAMING, Wanted): _wanted_with_child,
    (Phase.STREAMING, Pressed): _pressed_with_child,
    (Phase.STREAMING, Flowing): _flowing,
    (Phase.STREAMING, Knocked): _ignore,
    (Phase.STREAMING, Uplink): _uplink,
    (Phase.STREAMING, Unsuited): _replace_unsuited,
    (Phase.STREAMING, Exited): _exited,
    (Phase.STREAMING, TimedOut): _stall_noticed,
    (Phase.STALLED, Wanted): _wanted_with_child,
    (Phase.STALLED, Pressed): _pressed_with_child,
    (Phase.STALLED, Flowing): _flowing,
    (Phase.STALLED, Knocked): _ignore,
    (Phase.STALLED, Uplink): _uplink,
    (Phase.STALLED, Unsuited): _replace_unsuited,
    (Phase.STALLED, Exited): _exited,
    (Phase.STALLED, TimedOut): _stall_timed_out,
    (Phase.STOPPING, Wanted): _wanted_while_stopping,
    (Phase.STOPPING, Pressed): _pressed_while_stopping,
    (Phase.STOPPING, Flowing): _ignore,
    (Phase.STOPPING, Knocked): _ignore,
    (Phase.STOPPING, Uplink): _ignore,
    (Phase.STOPPING, Unsuited): _ignore,
    (Phase.STOPPING, Exited): _stopped,
    (Phase.STOPPING, TimedOut): _kill_step,
    (Phase.BACKING_OFF, Wanted): _wanted_without_child,
    (Phase.BACKING_OFF, Pressed): _try_now,
    (Phase.BACKING_OFF, Flowing): _ignore,
    (Phase.BACKING_OFF, Knocked): _knocked,
    (Phase.BACKING_OFF, Uplink): _ignore,
    (Phase.BACKING_OFF, Unsuited): _ignore,
    (Phase.BACKING_OFF, Exited): _ignore,
    (Phase.BACKING_OFF, TimedOut): _try_now,
    (Phase.FAILED, Wanted): _wanted_without_child,
    (Phase.FAILED, Pressed): _try_now,
    (Phase.FAILED, Flowing): _ignore,
    (Phase.FAILED, Knocked): _ignore,
    (Phase.FAILED, Uplink): _ignore,
    (Phase.FAILED, Unsuited): _ignore,
    (Phase.FAILED, Exited): _ignore,
    (Phase.FAILED, TimedOut): _try_now,
}
