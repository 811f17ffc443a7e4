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
from enum import Enum
from typing import Final

from yiagent.events import (
    Effects,
    Event,
    Exited,
    Flowing,
    Knocked,
    Launch,
    Pressed,
    Send,
    Signal,
    TimedOut,
    Unsuited,
    Uplink,
    Wanted,
)
from yiagent.model import Failure, Phase, Reason, ReasonCode

# A blocked ffmpeg ignores one SIGTERM and ends at the second; what ignores that too is killed. Each gets this long.
KILL_STEP_S: Final = 3.0
# One that is blocked for certain needs no time to say good-bye to a server that takes nothing.
BLOCKED_STEP_S: Final = 1.0
# A run this long proves the line: its end is the server's or the network's whim, and the next try begins at once.
HEALTHY_RUN_S: Final = 60.0
# And one this long, counted from the launch, does not lengthen the back-off: either it was carried for a while, or it
# waited for a peer that takes connections and is silent, and that may answer any moment.
LONG_RUN_S: Final = 5.0
LEAST_WAIT_S: Final = 0.5
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 15.0
# What ends by itself any moment is tried at least every four seconds.
PASSING_DOUBLINGS: Final = 2
# What only a person can mend is still tried now and then: keys get re-enabled, cameras rebooted.
FAILED_RETRY_S: Final = 300.0
# While a peer does not answer a knock, a launch would be doomed; it is still tried now and then: the knock may err.
AWAY_RETRY_S: Final = 300.0
# How long the first knock may take to find out: a peer that swallows packets is known by nobody's answering.
VERDICT_S: Final = 5.0
# After these a peer may be away. Whatever else failed is not mended by anybody's answering.
PEER_MAY_BE_AWAY: Final = frozenset(
    {
        ReasonCode.SOURCE_UNREACHABLE,
        ReasonCode.SINK_UNREACHABLE,
        ReasonCode.SINK_DNS,
        ReasonCode.SINK_CLOSED,
        ReasonCode.STALLED,
    }
)
# Media that has not moved for this long is told as stalled, while ffmpeg keeps its chance until `stall_timeout_s`.
STALL_NOTICE_S: Final = 5.0

# A camera that shows other codecs at every look would otherwise be relaunched for ever without a wait.
MOST_RELAUNCHES: Final = 3

# `channel: auto`. A frozen server is slow too, for the seconds until it is known to be frozen: that is no matter of bit
# rate, so what is slow must have gone on carrying a part of it for this long.
STEP_DOWN_AFTER_S: Final = 7.0
# How long the lesser job runs before the better one is tried again: an uplink may be busy for a minute; memory that ran
# out will do so again, and at the worst another process is killed for it. Doubled by each try in vain, so often.
FIRST_STEP_UP_S: Final = 60.0
FIRST_STEP_UP_AFTER_OOM_S: Final = 600.0
MOST_DOUBLINGS: Final = 6
# The better of two jobs is launched where so much memory can be had. ffmpeg takes 2 to 3 MB while it copies 720p (0.8
# of them its own, the rest its program, read from the card), the kernel up to 1 MB for its sockets; the last 2 MB hold
# what runs already, which would else be read from the card again and again. A camera at rest has about 13 MB. While
# the lesser job runs, what it holds comes on top: so it takes a little more to return to HD than to begin with it.
BETTER_NEEDS_KB: Final = 6 * 1024
# The better job has proved itself when it has run for this long without a break; then the wait is the first one again.
HELD_S: Final = 600.0

UPLINK_SLOW: Final = Reason(
    ReasonCode.UPLINK_SLOW,
    "The connection to the server does not carry the camera's bit rate: what it sends queues up here."
    " The SD channel needs less.",
)
NOT_CARRIED: Final = Reason(
    ReasonCode.UPLINK_SLOW, "The connection to the server does not carry HD. Changing to the SD channel."
)
NO_ROOM: Final = Reason(
    ReasonCode.OUT_OF_MEMORY, "This machine has not enough memory left to start HD. The SD channel needs less."
)
STALLED: Final = Reason(ReasonCode.STALLED, "No more video reached the server, though nothing had reported an error.")


# --- state ----------------------------------------------------------------------------------------------------------


class After(Enum):
    """What follows once a stopping child is gone."""

    IDLE = "idle"
    LAUNCH = "launch"
    RETRY = "retry"


class Knock(Enum):
    """What is known of the peers while the next try is waited for."""

    NONE = "nobody is knocked at"
    PENDING = "no answer yet"
    OVERDUE = "no answer yet, and the wait for the next try is over"
    ANSWERED = "both answer"
    AWAY = "one does not"


@dataclass(frozen=True, slots=True)
class Limits:
    """The configured time-outs, and what the supervisor finds out anew for every event.

    `jitter`: a factor. `available_kb`: the memory that can be had; None: not known, or of no matter (`heeds_memory`).
    """

    start_timeout_s: float
    stall_timeout_s: float
    jitter: float = 1.0
    available_kb: int | None = None

    @property
    def has_room(self) -> bool:
        """Whether there is memory for the better of two jobs, as far as anybody knows."""
        return self.available_kb is None or self.available_kb >= BETTER_NEEDS_KB

    @property
    def stall_notice_s(self) -> float:
        """How long media may stand still and still be called streaming."""
        return min(STALL_NOTICE_S, self.stall_timeout_s / 2)


@dataclass(frozen=True, slots=True)
class State:
    """Where the machine stands.

    `job` is what is wanted, `lesser` what does instead, `running` what the child was launched for (None: there is no
    child). Times are monotonic seconds. `flowing_since`: when this child's media began to flow; `slow_since`: since
    when it queues up. `failure`: the last one. `failed_launches`: in a row, although the peers answered.

    `stepped_down`: the lesser job is launched, until `better_at`; `trying`: the better one is on trial; `in_vain`: how
    often it was not carried since it last proved itself.
    """

    phase: Phase = Phase.IDLE
    job: int | None = None
    running: int | None = None
    deadline: float | None = None
    attempt: int = 0
    failure: Failure | None = None
    launched_at: float = 0.0
    failed_launches: int = 0
    flowing_since: float | None = None
    slow_since: float | None = None
    signals_sent: int = 0
    relaunches: int = 0
    knock: Knock = Knock.NONE
    after: After = After.IDLE
    lesser: int | None = None
    stepped_down: bool = False
    better_at: float = 0.0
    trying: bool = False
    in_vain: int = 0

    @property
    def target(self) -> int | None:
        """The job that the next launch is for."""
        return self.lesser if self.stepped_down else self.job

    @property
    def away(self) -> bool:
        """Whether a peer is known not to answer: then the next try is when it does."""
        return self.knock is Knock.AWAY

    @property
    def slow(self) -> bool:
        """Whether the way to the server does not carry what is sent."""
        return self.slow_since is not None

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


def heeds_memory(state: State, event: Event, now: float) -> bool:
    """Whether what follows may hang on the memory there is: media that flows, twice a second, asks for it rarely."""
    return not isinstance(event, Flowing) or _is_better_due(state, now)


# --- what happens ---------------------------------------------------------------------------------------------------


def _ignore(state: State, event: Event, now: float, limits: Limits) -> Step:
    return state, ()


def _launch(state: State, now: float, limits: Limits) -> Step:
    fitting = _fitting(state, now, limits)
    if fitting is not state:
        state = replace(fitting, failure=Failure(NO_ROOM))
    job = state.target
    assert job is not None
    state = replace(
        state,
        phase=Phase.STARTING,
        running=job,
        deadline=now + limits.start_timeout_s,
        launched_at=now,
        flowing_since=None,
        slow_since=None,
        signals_sent=0,
        knock=Knock.NONE,
    )
    return state, (Launch(job),)


def _idle(state: State) -> Step:
    return State(), ()


def _stop(state: State, now: float, after: After, failure: Failure | None, *, blocked: bool = False) -> Step:
    deadline = now + (BLOCKED_STEP_S if blocked else KILL_STEP_S)
    state = replace(state, phase=Phase.STOPPING, deadline=deadline, signals_sent=1, after=after, failure=failure)
    return state, (Send(Signal.TERM),)


def _fail(state: State, failure: Failure, now: float, limits: Limits) -> Step:
    """No child is left, and it was not by wish: wait, then try again."""
    exponent = min(state.failed_launches, PASSING_DOUBLINGS if failure.passes else 16)
    state = replace(
        state,
        running=None,
        failure=failure,
        flowing_since=None,
        slow_since=None,
        relaunches=0,
        attempt=state.attempt + 1,
        failed_launches=state.failed_launches + 1,
    )
    if failure.needs_person:
        return replace(state, phase=Phase.FAILED, deadline=now + FAILED_RETRY_S * limits.jitter), ()
    # From launch to launch, not from the end of the one.
    due = state.launched_at + min(FIRST_BACKOFF_S * 2.0**exponent, LONGEST_BACKOFF_S) * limits.jitter
    due = max(due, now + LEAST_WAIT_S * limits.jitter)
    knock = Knock.PENDING if failure.reason.code in PEER_MAY_BE_AWAY else Knock.NONE
    return replace(state, phase=Phase.BACKING_OFF, deadline=due, knock=knock), ()


def _retry(state: State, failure: Failure, now: float, limits: Limits) -> Step:
    """A child ended by itself or had to be ended: at once again after a healthy run, else on the back-off."""
    if now - state.launched_at >= LONG_RUN_S:
        state = replace(state, failed_launches=0)
    was_healthy = state.flowing_since is not None and now - state.flowing_since >= HEALTHY_RUN_S
    was_trying = state.trying
    if was_trying:
        state = _step_down(state, FIRST_STEP_UP_S, now)
    if not (was_trying or was_healthy):
        return _fail(state, failure, now, limits)
    state = replace(
        state, running=None, attempt=state.attempt + 1, failure=failure, flowing_since=None, slow_since=None
    )
    if failure.reason.code not in PEER_MAY_BE_AWAY:
        return _launch(state, now, limits)
    # At once, but for the milliseconds of a knock: into a peer that is gone, a launch would be a doomed one.
    return replace(state, phase=Phase.BACKING_OFF, deadline=now + VERDICT_S, knock=Knock.OVERDUE, relaunches=0), ()


def _wish(state: State, event: Wanted) -> State:
    """The wish taken over; a new target starts with a clean record, since the old failures were the old target's."""
    if _is_same(state, event):
        return state
    return replace(
        state,
        job=event.job,
        lesser=event.lesser,
        attempt=0,
        failed_launches=0,
        relaunches=0,
        stepped_down=False,
        trying=False,
        in_vain=0,
    )


def _is_same(state: State, event: Wanted) -> bool:
    return (event.job, event.lesser) == (state.job, state.lesser)


def _step_down(state: State, first_wait_s: float, now: float) -> State:
    """From now on the lesser job, and the better one again after a time that grows with each try in vain."""
    wait_s = first_wait_s * 2.0 ** min(state.in_vain, MOST_DOUBLINGS)
    return replace(state, stepped_down=True, trying=False, better_at=now + wait_s, in_vain=state.in_vain + 1)


def _can_step_down(state: State) -> bool:
    return state.lesser is not None and not state.stepped_down


def _is_better_due(state: State, now: float) -> bool:
    return state.stepped_down and now >= state.better_at


def _fitting(state: State, now: float, limits: Limits) -> State:
    """With the lesser job, if there is one, for a target where the better one has no room."""
    return _wait_for_room(state, now) if _can_step_down(state) and not limits.has_room else state


def _wait_for_room(state: State, now: float) -> State:
    # Nothing was tried and nobody was hurt: no wait grows for it.
    return replace(state, stepped_down=True, trying=False, better_at=now + FIRST_STEP_UP_AFTER_OOM_S)


def _obstructed(state: State, obstacle: Reason, now: float, limits: Limits) -> Step:
    return _fail(state, Failure(obstacle, needs_person=True), now, limits)


def _wanted_without_child(state: State, event: Event, now: float, limits: Limits) -> Step:
    assert isinstance(event, Wanted)
    if event.obstacle is not None:
        return _obstructed(_wish(state, event), event.obstacle, now, limits)
    if event.job is None:
        return _idle(state)
    if _is_same(state, event) and state.phase is Phase.BACKING_OFF:
        return state, ()
    # In `failed` any command is worth a try: the owner may just have mended what was wrong.
    return _launch(_wish(state, event), now, limits)


def _wanted_with_child(state: State, event: Event, now: float, limits: Limits) -> Step:
    assert isinstance(event, Wanted)
    obstacle = Failure(event.obstacle, needs_person=True) if event.obstacle is not None else None
    state = _fitting(_wish(state, event), now, limits) if not _is_same(state, event) else state
    if obstacle is not None:
        return _stop(state, now, After.RETRY, obstacle)
    if event.job is None:
        return _stop(state, now, After.IDLE, None)
    return (state, ()) if state.target == state.running else _stop(state, now, After.LAUNCH, None)


def _wanted_while_stopping(state: State, event: Event, now: float, limits: Limits) -> Step:
    """The child is on its way out and stays so; the wish only decides what follows."""
    assert isinstance(event, Wanted)
    changed = not _is_same(state, event)
    state = _wish(state, event)
    if event.obstacle is not None:
        return replace(state, failure=Failure(event.obstacle, needs_person=True), after=After.RETRY), ()
    if event.job is None:
        return replace(state, failure=None, after=After.IDLE), ()
    return (replace(state, after=After.LAUNCH, failure=None) if changed else state), ()


def _pressed_with_child(state: State, event: Event, now: float, limits: Limits) -> Step:
    return _stop(_afresh(state), now, After.LAUNCH, None)


def _pressed_while_stopping(state: State, event: Event, now: float, limits: Limits) -> Step:
    return (replace(_afresh(state), after=After.LAUNCH, failure=None) if state.job is not None else state), ()


def _afresh(state: State) -> State:
    """The owner wants it tried now: what failed before counts no more, and the better job has its chance again."""
    return replace(state, attempt=0, failed_launches=0, stepped_down=False, trying=False, in_vain=0)


def _knocked(state: State, event: Event, now: float, limits: Limits) -> Step:
    """A peer that does not answer is waited for; the moment both do, the wait is over."""
    assert isinstance(event, Knocked)
    if event.job != state.job:
        return state, ()
    if event.failure is None:
        if state.knock in (Knock.AWAY, Knock.OVERDUE):
            return _launch(state, now, limits)
        # Without an absence before, the launch failed although both answered: that is what the back-off is for.
        return replace(state, knock=Knock.ANSWERED), ()
    deadline = state.deadline if state.away else now + AWAY_RETRY_S * limits.jitter
    # The launch before failed because of that: it does not lengthen the next wait.
    return replace(state, knock=Knock.AWAY, failure=event.failure, deadline=deadline, failed_launches=0), ()


def _uplink(state: State, event: Event, now: float, limits: Limits) -> Step:
    """Slow is told, and the stream goes on: an uplink that carries a part of it is better than none."""
    assert isinstance(event, Uplink)
    slow_since = (state.slow_since if state.slow else now) if event.slow else None
    return replace(state, slow_since=slow_since), ()


def _replace_unsuited(state: State, event: Event, now: float, limits: Limits) -> Step:
    if state.relaunches >= MOST_RELAUNCHES:
        return state, ()
    return _stop(replace(state, relaunches=state.relaunches + 1), now, After.LAUNCH, None)


def _try_now(state: State, event: Event, now: float, limits: Limits) -> Step:
    """The wait is over, or was cut short. Without a job (nothing is configured) it only begins anew."""
    if state.job is None:
        assert state.failure is not None
        return _fail(state, state.failure, now, limits)
    if isinstance(event, Pressed):
        state = _afresh(state)
    elif state.knock is Knock.PENDING:
        # A launch before the knock has told would be a doomed one where the peer swallows packets.
        return replace(state, knock=Knock.OVERDUE, deadline=now + VERDICT_S), ()
    return _launch(state, now, limits)


def _flowing(state: State, event: Event, now: float, limits: Limits) -> Step:
    since = state.flowing_since if state.flowing_since is not None else now
    ran_s = now - since
    healthy = ran_s >= HEALTHY_RUN_S
    state = replace(
        state,
        phase=Phase.STREAMING,
        deadline=now + limits.stall_notice_s,
        flowing_since=since,
        attempt=0 if healthy else state.attempt,
        relaunches=0 if healthy else state.relaunches,
        trying=state.trying and not healthy,
        in_vain=0 if ran_s >= HELD_S and not state.stepped_down else state.in_vain,
        failure=None,
    )
    if state.slow_since is not None:
        if _can_step_down(state) and now - state.slow_since >= STEP_DOWN_AFTER_S:
            state = _step_down(state, FIRST_STEP_UP_S, now)
            return _stop(state, now, After.LAUNCH, Failure(NOT_CARRIED), blocked=True)
    elif _is_better_due(state, now):
        if not limits.has_room:
            # The lesser one goes on: ending it to find that out would cost the viewers a break.
            return _wait_for_room(state, now), ()
        return _stop(replace(state, stepped_down=False, trying=True), now, After.LAUNCH, None)
    return state, ()


def _start_timed_out(state: State, event: Event, now: float, limits: Limits) -> Step:
    assert isinstance(event, TimedOut)
    return _stop(state, now, After.RETRY, event.failure or Failure(STALLED), blocked=True)


def _stall_noticed(state: State, event: Event, now: float, limits: Limits) -> Step:
    assert isinstance(event, TimedOut)
    deadline = now + limits.stall_timeout_s - limits.stall_notice_s
    return replace(state, phase=Phase.STALLED, deadline=deadline, failure=event.failure or Failure(STALLED)), ()


def _stall_timed_out(state: State, event: Event, now: float, limits: Limits) -> Step:
    return _stop(state, now, After.RETRY, state.failure, blocked=True)


def _kill_step(state: State, event: Event, now: float, limits: Limits) -> Step:
    signal = Signal.TERM if state.signals_sent < 2 else Signal.KILL
    return replace(state, signals_sent=state.signals_sent + 1, deadline=now + KILL_STEP_S), (Send(signal),)


def _exited(state: State, event: Event, now: float, limits: Limits) -> Step:
    assert isinstance(event, Exited)
    if event.relaunch and state.relaunches < MOST_RELAUNCHES:
        return _launch(replace(state, running=None, relaunches=state.relaunches + 1), now, limits)
    if event.failure.reason.code is ReasonCode.OUT_OF_MEMORY and _can_step_down(state):
        state = _step_down(state, FIRST_STEP_UP_AFTER_OOM_S, now)
        return _launch(replace(state, attempt=state.attempt + 1, failure=event.failure), now, limits)
    return _retry(state, event.failure, now, limits)


def _stopped(state: State, event: Event, now: float, limits: Limits) -> Step:
    """What the dying child said does not count: it was told to go, for a reason already noted."""
    if state.job is None:
        return _idle(state) if state.failure is None else _fail(state, state.failure, now, limits)
    if state.after is After.LAUNCH:
        return _launch(replace(state, running=None), now, limits)
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
    (Phase.STARTING, Uplink): _uplink,
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
