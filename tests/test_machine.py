"""The transition table: what follows what, and what can never happen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from yiagent.machine import (
    AWAY_RETRY_S,
    BETTER_NEEDS_KB,
    BLOCKED_STEP_S,
    FAILED_RETRY_S,
    FIRST_STEP_UP_AFTER_OOM_S,
    FIRST_STEP_UP_S,
    HEALTHY_RUN_S,
    HELD_S,
    KILL_STEP_S,
    LEAST_WAIT_S,
    LONG_RUN_S,
    LONGEST_BACKOFF_S,
    MOST_DOUBLINGS,
    MOST_RELAUNCHES,
    NO_ROOM,
    NOT_CARRIED,
    STALL_NOTICE_S,
    STEP_DOWN_AFTER_S,
    TABLE,
    UPLINK_SLOW,
    VERDICT_S,
    Limits,
    State,
    heeds_memory,
    step,
)
from yiagent.model import Failure, Phase, Reason, ReasonCode

LIMITS = Limits(start_timeout_s=30, stall_timeout_s=10)
CLOSED = Failure(Reason(ReasonCode.SINK_CLOSED, "The server closed the connection."))
REFUSED = Failure(Reason(ReasonCode.SINK_REJECTED, "The server refused the stream."), needs_person=True)
CRASHED = Failure(Reason(ReasonCode.FFMPEG_CRASHED, "ffmpeg crashed."))
OUT_OF_MEMORY = Failure(Reason(ReasonCode.OUT_OF_MEMORY, "This machine ran out of memory."))
NO_KEY = Reason(ReasonCode.NOT_CONFIGURED, "No stream key is set.")
EVENTS = (Wanted, Pressed, Flowing, Knocked, Uplink, Unsuited, Exited, TimedOut)
WITH_CHILD = {Phase.STARTING, Phase.STREAMING, Phase.STALLED, Phase.STOPPING}


@dataclass
class Bench:
    """A machine with its clock, put through a history."""

    state: State = field(default_factory=State)
    now: float = 1000.0
    effects: Effects = ()
    available_kb: int | None = None

    def feed(self, *events: Event) -> Bench:
        for event in events:
            available_kb = self.available_kb if heeds_memory(self.state, event, self.now) else None
            limits = replace(LIMITS, available_kb=available_kb)
            self.state, self.effects = step(self.state, event, self.now, limits)
        return self

    def after(self, seconds: float) -> Bench:
        self.now += seconds
        return self

    def time_out(self, event: TimedOut | None = None) -> Bench:
        assert self.state.deadline is not None
        self.now = max(self.now, self.state.deadline)
        return self.feed(event or TimedOut())

    def wait_for_peers(self) -> Bench:
        """The next try, both peers having answered meanwhile."""
        assert self.state.job is not None
        return self.feed(Knocked(self.state.job, None)).time_out()

    @property
    def wait_s(self) -> float:
        assert self.state.deadline is not None
        return self.state.deadline - self.now


def streaming(seconds: float = 1.0) -> Bench:
    return Bench().feed(Wanted(1), Flowing()).after(seconds).feed(Flowing())


def test_the_table_is_complete() -> None:
    """Every phase says what every event does to it."""
    assert set(TABLE) == {(phase, event) for phase in Phase for event in EVENTS}


def test_a_wish_starts_a_child_and_media_makes_it_streaming() -> None:
    """`starting` until media leaves, then `streaming`."""
    bench = Bench().feed(Wanted(1))
    assert (bench.state.phase, bench.effects) == (Phase.STARTING, (Launch(1),))
    assert bench.wait_s == LIMITS.start_timeout_s
    assert bench.feed(Flowing()).state.phase is Phase.STREAMING


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.STREAMING, Phase.STALLED, Phase.BACKING_OFF])
def test_the_same_wish_again_changes_nothing(phase: Phase) -> None:
    """ON while on is idempotent: no restart, no shorter wait."""
    bench = {
        Phase.STARTING: Bench().feed(Wanted(1)),
        Phase.STREAMING: streaming(),
        Phase.STALLED: streaming().time_out(),
        Phase.BACKING_OFF: streaming().feed(Exited(CLOSED)),
    }[phase]
    before = bench.state
    assert before.phase is phase
    bench.feed(Wanted(1))
    assert (bench.state, bench.effects) == (before, ())


def test_any_command_in_failed_is_worth_a_try() -> None:
    """The owner may just have mended what was wrong, so `failed` does not make a command wait five minutes."""
    bench = Bench().feed(Wanted(1), Exited(REFUSED))
    assert bench.state.phase is Phase.FAILED
    assert bench.wait_s == FAILED_RETRY_S
    assert bench.feed(Wanted(1)).effects == (Launch(1),)


def test_a_changed_target_restarts_once() -> None:
    """The old child is ended first; the new one starts when it is gone."""
    bench = streaming().feed(Wanted(2))
    assert (bench.state.phase, bench.effects) == (Phase.STOPPING, (Send(Signal.TERM),))
    assert bench.feed(Wanted(2)).effects == ()
    bench.feed(Exited(CLOSED))
    assert (bench.state.phase, bench.effects, bench.state.reason) == (Phase.STARTING, (Launch(2),), None)


def test_off_ends_the_child_and_is_idle_only_when_it_is_gone() -> None:
    """While ffmpeg still holds the camera, `idle` would be a lie."""
    bench = streaming().feed(Wanted(None))
    assert bench.state.phase is Phase.STOPPING
    assert bench.feed(Exited(CLOSED)).state == State()


def test_off_and_on_again_while_stopping_starts_a_new_child() -> None:
    """The last wish counts, whatever the dying child is doing."""
    bench = streaming().feed(Wanted(None), Wanted(1), Exited(CLOSED))
    assert bench.effects == (Launch(1),)


def test_kill_escalation() -> None:
    """TERM, TERM, KILL, three seconds apart, and KILL again until it is gone."""
    bench = streaming().feed(Wanted(None))
    sent = [bench.effects]
    for _ in range(3):
        assert bench.wait_s == KILL_STEP_S
        sent.append(bench.time_out().effects)
    signals = [Signal.TERM, Signal.TERM, Signal.KILL, Signal.KILL]
    assert sent == [(Send(signal),) for signal in signals]


def test_back_off_grows_to_its_bound_and_never_ends() -> None:
    """1, 2, 4, 8, 15, 15, … seconds; `attempt` counts."""
    bench = Bench().feed(Wanted(1))
    waits = []
    for attempt in range(1, 8):
        bench.feed(Exited(CLOSED))
        assert bench.state.phase is Phase.BACKING_OFF
        assert bench.state.attempt == attempt
        waits.append(bench.wait_s)
        assert bench.wait_for_peers().effects == (Launch(1),)
    assert waits == [1, 2, 4, 8, LONGEST_BACKOFF_S, LONGEST_BACKOFF_S, LONGEST_BACKOFF_S]


def test_the_back_off_is_from_launch_to_launch() -> None:
    """A launch that hung was wait enough: the peer may be back, so the next one follows at once."""
    bench = Bench().feed(Wanted(1))
    for _ in range(5):
        bench.time_out(TimedOut(CLOSED)).feed(Exited(CLOSED))
        assert (bench.state.phase, bench.wait_s) == (Phase.BACKING_OFF, LEAST_WAIT_S)
        bench.wait_for_peers()
    bench.feed(Exited(CLOSED))
    assert bench.wait_s == 2


def test_a_run_of_some_seconds_does_not_lengthen_the_back_off() -> None:
    """A server that closes every twenty seconds has each launch answered: no wait grows."""
    bench = Bench().feed(Wanted(1))
    for attempt in range(1, 8):
        bench.feed(Flowing()).after(LONG_RUN_S).feed(Exited(CLOSED))
        assert (bench.state.phase, bench.state.attempt, bench.wait_s) == (Phase.BACKING_OFF, attempt, LEAST_WAIT_S)
        bench.wait_for_peers()


def test_what_passes_by_itself_is_tried_every_few_seconds() -> None:
    """A key that the old connection still holds is free any moment."""
    bench = Bench().feed(Wanted(1))
    waits = []
    for _ in range(6):
        waits.append(bench.feed(Exited(Failure(REFUSED.reason, passes=True))).wait_s)
        bench.time_out()
    assert waits == [1, 2, 4, 4, 4, 4]


def test_a_launch_waits_for_the_knock_to_tell() -> None:
    """A peer that swallows packets takes seconds to be known as away: no launch is wasted on it meanwhile."""
    late = Bench().feed(Wanted(1), Exited(CLOSED)).time_out()
    assert (late.state.phase, late.effects, late.wait_s) == (Phase.BACKING_OFF, (), VERDICT_S)
    assert replace_bench(late).feed(Knocked(1, None)).effects == (Launch(1),)
    assert replace_bench(late).feed(Knocked(1, CLOSED)).state.away
    assert replace_bench(late).time_out().effects == (Launch(1),), "the knock itself hangs"
    assert Bench().feed(Wanted(1), Exited(CRASHED)).time_out().effects == (Launch(1),), "no peer's business"


def replace_bench(bench: Bench) -> Bench:
    return Bench(bench.state, bench.now)


def test_an_absence_does_not_lengthen_the_back_off() -> None:
    """The launches that found a peer away were doomed; when it is back the first wait is the shortest again."""
    bench = Bench().feed(Wanted(1))
    for _ in range(3):
        bench.feed(Exited(CLOSED)).wait_for_peers()
    bench.feed(Exited(CLOSED), Knocked(1, CLOSED), Knocked(1, None), Exited(CLOSED))
    assert bench.wait_s == 1


def test_an_absent_peer_is_waited_for_and_no_launch_is_wasted() -> None:
    """While a knock fails nothing is launched; the moment both answer, it is."""
    bench = Bench().feed(Wanted(1), Exited(CLOSED), Knocked(1, CLOSED))
    assert (bench.state.phase, bench.state.away, bench.effects) == (Phase.BACKING_OFF, True, ())
    assert bench.wait_s == AWAY_RETRY_S
    bench.after(60).feed(Knocked(1, CLOSED))
    assert bench.wait_s == AWAY_RETRY_S - 60
    assert bench.feed(Knocked(2, None)).effects == (), "an answer for another job"
    bench.feed(Knocked(1, None))
    assert (bench.state.phase, bench.state.away, bench.effects) == (Phase.STARTING, False, (Launch(1),))


def test_a_launch_that_failed_although_both_answered_waits_its_time() -> None:
    """The back-off is for those: an answer to a knock does not cut it short."""
    bench = Bench().feed(Wanted(1), Exited(CLOSED))
    wait_s = bench.wait_s
    bench.feed(Knocked(1, None))
    assert (bench.state.phase, bench.effects, bench.wait_s) == (Phase.BACKING_OFF, (), wait_s)
    assert bench.time_out().effects == (Launch(1),)


def test_after_a_healthy_minute_the_next_try_is_at_once() -> None:
    """The end of a long run is the server's whim: no wait, and the count begins anew."""
    bench = Bench().feed(Wanted(1), Exited(CLOSED)).wait_for_peers()
    bench.feed(Flowing()).after(HEALTHY_RUN_S).feed(Flowing())
    assert bench.state.attempt == 0
    bench.feed(Exited(CLOSED))
    assert bench.state.reason == CLOSED.reason
    assert replace_bench(bench).feed(Knocked(1, None)).effects == (Launch(1),), "as soon as the peers have answered"
    assert replace_bench(bench).feed(Knocked(1, CLOSED)).state.away
    bench = streaming(HEALTHY_RUN_S).feed(Exited(CRASHED))
    assert (bench.state.phase, bench.effects) == (Phase.STARTING, (Launch(1),)), "no peer's business"


def test_a_stall_is_told_first_and_ended_at_the_limit() -> None:
    """Media that stands still is `stalled` after a few seconds; ffmpeg is replaced at `stall_timeout_s`."""
    bench = streaming()
    assert bench.wait_s == STALL_NOTICE_S
    bench.time_out()
    assert (bench.state.phase, bench.effects) == (Phase.STALLED, ())
    assert bench.state.reason is not None
    assert bench.state.reason.code is ReasonCode.STALLED
    assert bench.wait_s == LIMITS.stall_timeout_s - STALL_NOTICE_S
    bench.time_out()
    assert (bench.state.phase, bench.effects) == (Phase.STOPPING, (Send(Signal.TERM),))
    assert bench.wait_s == BLOCKED_STEP_S, "it is blocked: no time for a good-bye that nobody takes"
    bench.feed(Exited(CLOSED))
    assert bench.state.phase is Phase.BACKING_OFF
    assert bench.state.reason is not None
    assert bench.state.reason.code is ReasonCode.STALLED


def test_media_that_flows_again_ends_a_stall() -> None:
    """A hiccup costs nothing."""
    bench = streaming().time_out().feed(Flowing())
    assert (bench.state.phase, bench.state.reason) == (Phase.STREAMING, None)


def test_a_start_that_takes_too_long_names_what_it_waits_for() -> None:
    """The start deadline carries the diagnosis into the reason."""
    bench = Bench().feed(Wanted(1)).time_out(TimedOut(CLOSED))
    assert bench.state.phase is Phase.STOPPING
    assert bench.feed(Exited(REFUSED)).state.reason == CLOSED.reason


def test_a_press_cuts_a_wait_short_and_leaves_failed() -> None:
    """`restart/set` acts now, in every phase but `idle`."""
    for failure in (CLOSED, REFUSED):
        bench = Bench().feed(Wanted(1), Exited(failure), Pressed())
        assert bench.effects == (Launch(1),)
        assert bench.state.attempt == 0
    assert streaming().feed(Pressed()).effects == (Send(Signal.TERM),)
    assert streaming().feed(Pressed(), Exited(CLOSED)).effects == (Launch(1),)
    assert Bench().feed(Pressed()).state == State()


def test_without_configuration_nothing_starts_and_the_reason_says_so() -> None:
    """ON without a key is `failed` with `not_configured`, until the key is there."""
    bench = Bench().feed(Wanted(None, NO_KEY))
    assert (bench.state.phase, bench.state.reason, bench.effects) == (Phase.FAILED, NO_KEY, ())
    bench.time_out().feed(Pressed())
    assert (bench.state.phase, bench.effects) == (Phase.FAILED, ())
    assert bench.feed(Wanted(1)).effects == (Launch(1),)


def test_a_look_at_the_camera_is_no_failure() -> None:
    """The child that only looks is followed by the remux at once; a camera that changes its mind for ever is not."""
    bench = Bench().feed(Wanted(1))
    for _ in range(MOST_RELAUNCHES):
        bench.feed(Exited(CLOSED, relaunch=True))
        assert (bench.state.phase, bench.state.attempt, bench.effects) == (Phase.STARTING, 0, (Launch(1),))
    assert bench.feed(Exited(CLOSED, relaunch=True)).state.phase is Phase.BACKING_OFF


def test_an_unsuited_child_is_replaced() -> None:
    """A camera that came back with other codecs gets another command line, without a wait."""
    bench = streaming().feed(Unsuited())
    assert bench.effects == (Send(Signal.TERM),)
    assert bench.feed(Exited(CLOSED)).effects == (Launch(1),)


# --- channel: auto: job 1 is HD, job 2 is SD --------------------------------------------------------------------------

AUTO = Wanted(1, lesser=2)


def flow(bench: Bench, seconds: float) -> Bench:
    """Media for so long, reported as often as it takes for nothing to be called a stall."""
    for _ in range(int(seconds)):
        bench.after(1).feed(Flowing())
        if bench.state.phase is not Phase.STREAMING:
            break
    return bench


def stepped_down() -> Bench:
    """HD was not carried, SD flows."""
    bench = flow(Bench().feed(AUTO, Flowing()), 5).feed(Uplink(slow=True))
    flow(bench, STEP_DOWN_AFTER_S)
    return bench.feed(Exited(CLOSED), Flowing())


def test_an_uplink_that_does_not_carry_hd_gets_sd() -> None:
    """Ten seconds of a slow uplink that still takes a part of it; the reason stays until SD flows."""
    bench = flow(Bench().feed(AUTO, Flowing()), 5).feed(Uplink(slow=True))
    assert bench.state.running == 1
    flow(bench, STEP_DOWN_AFTER_S - 1)
    assert (bench.state.phase, bench.state.reason) == (Phase.STREAMING, UPLINK_SLOW)
    flow(bench, 1)
    assert (bench.state.phase, bench.state.reason, bench.effects) == (
        Phase.STOPPING,
        NOT_CARRIED,
        (Send(Signal.TERM),),
    )
    bench.feed(Exited(CLOSED))
    assert (bench.state.phase, bench.state.reason, bench.effects) == (Phase.STARTING, NOT_CARRIED, (Launch(2),))
    bench.feed(Flowing())
    assert (bench.state.phase, bench.state.reason) == (Phase.STREAMING, None)


def test_a_frozen_server_is_no_matter_of_bit_rate() -> None:
    """It is slow for the seconds until it is stalled; HD is launched again."""
    bench = flow(Bench().feed(AUTO, Flowing()), 5).feed(Uplink(slow=True)).time_out().time_out().feed(Exited(CLOSED))
    assert bench.wait_for_peers().effects == (Launch(1),)


def test_without_a_choice_a_slow_uplink_is_only_told() -> None:
    """`hd` or `sd` as the owner's own wish: never changed."""
    bench = flow(Bench().feed(Wanted(1), Flowing()).feed(Uplink(slow=True)), 100)
    assert (bench.state.phase, bench.state.reason) == (Phase.STREAMING, UPLINK_SLOW)
    assert Bench().feed(Wanted(1), Exited(OUT_OF_MEMORY)).state.phase is Phase.BACKING_OFF


def test_memory_that_ran_out_gets_sd_at_once() -> None:
    """No back-off: SD needs less. HD waits longer than after a slow uplink: another process might die for it."""
    bench = Bench().feed(AUTO, Flowing(), Exited(OUT_OF_MEMORY))
    assert (bench.effects, bench.state.reason) == ((Launch(2),), OUT_OF_MEMORY.reason)
    assert bench.state.better_at - bench.now == FIRST_STEP_UP_AFTER_OOM_S
    bench.feed(Exited(OUT_OF_MEMORY))
    assert bench.state.phase is Phase.BACKING_OFF, "nothing lesser is left"
    assert bench.time_out().effects == (Launch(2),)


def test_hd_is_tried_again_after_a_growing_time() -> None:
    """One minute, two, four, up to about an hour, while it is not carried."""
    bench = stepped_down()
    waits = []
    for _ in range(MOST_DOUBLINGS + 2):
        waits.append(bench.state.better_at)
        waits[-1] -= bench.now
        flow(bench, 5000)
        assert (bench.state.phase, bench.state.reason) == (Phase.STOPPING, None)
        bench.feed(Exited(CLOSED))
        assert bench.effects == (Launch(1),)
        flow(bench.feed(Flowing(), Uplink(slow=True)), STEP_DOWN_AFTER_S).feed(Exited(CLOSED))
        assert bench.effects == (Launch(2),)
        bench.feed(Flowing())
    expected = [FIRST_STEP_UP_S * 2**n for n in range(MOST_DOUBLINGS + 1)]
    assert waits == [*expected, expected[-1]]


def test_a_slow_sd_does_not_ask_for_hd() -> None:
    """What does not carry SD carries HD even less."""
    bench = flow(stepped_down().feed(Uplink(slow=True)), 500)
    assert (bench.state.phase, bench.state.running) == (Phase.STREAMING, 2)
    assert flow(bench.feed(Uplink(slow=False)), 1).state.phase is Phase.STOPPING


@pytest.mark.parametrize("end", [Exited(REFUSED), Exited(CLOSED), Exited(OUT_OF_MEMORY), TimedOut(CLOSED)])
def test_a_trial_of_hd_that_fails_returns_to_sd_at_once(end: Exited | TimedOut) -> None:
    """Whatever ended it: SD was carried a moment ago."""
    bench = flow(stepped_down(), 100).feed(Exited(CLOSED))
    assert (bench.state.trying, bench.effects) == (True, (Launch(1),))
    bench.feed(end)
    if isinstance(end, TimedOut):
        bench.feed(Exited(CLOSED))
    if bench.state.phase is Phase.BACKING_OFF:
        bench.feed(Knocked(1, None))
    assert bench.effects == (Launch(2),)
    assert bench.state.in_vain == 2


def test_hd_that_held_is_no_longer_on_trial() -> None:
    """After a minute its end is like any other; after ten the next wait is the shortest again."""
    bench = flow(stepped_down(), 100).feed(Exited(CLOSED))
    flow(bench.feed(Flowing()), HEALTHY_RUN_S)
    assert (bench.state.running, bench.state.trying, bench.state.in_vain) == (1, False, 1)
    flow(bench, HELD_S)
    assert bench.state.in_vain == 0


def test_the_owners_word_gives_hd_its_chance() -> None:
    """A restart, and another wish, begin with a clean record; the same wish again changes nothing."""
    bench = stepped_down()
    assert bench.feed(AUTO).effects == ()
    assert stepped_down().feed(Pressed(), Exited(CLOSED)).effects == (Launch(1),)
    assert stepped_down().feed(Wanted(3, lesser=4), Exited(CLOSED)).effects == (Launch(3),)
    assert stepped_down().feed(Wanted(2)).effects == (), "SD itself, which runs already"
    assert stepped_down().feed(Wanted(1), Exited(CLOSED)).effects == (Launch(1),)


# --- memory -----------------------------------------------------------------------------------------------------------


def short(state: State | None = None) -> Bench:
    return Bench(state or State(), available_kb=BETTER_NEEDS_KB - 1)


def test_hd_is_not_launched_without_room_for_it() -> None:
    """What would be killed is not tried: SD at once, with the reason until it flows, and HD again after ten minutes."""
    bench = short().feed(AUTO)
    assert (bench.effects, bench.state.phase, bench.state.reason) == ((Launch(2),), Phase.STARTING, NO_ROOM)
    assert bench.state.better_at - bench.now == FIRST_STEP_UP_AFTER_OOM_S
    assert bench.feed(Flowing()).state.reason is None
    bench.available_kb = BETTER_NEEDS_KB
    assert flow(bench, FIRST_STEP_UP_AFTER_OOM_S).state.trying
    assert bench.feed(Exited(CLOSED)).effects == (Launch(1),)


@pytest.mark.parametrize("available_kb", [BETTER_NEEDS_KB, None])
def test_hd_is_launched_where_there_is_room_or_nobody_knows(available_kb: int | None) -> None:
    """The threshold itself is enough; a machine that tells nothing is not held to be short."""
    assert Bench(available_kb=available_kb).feed(AUTO).effects == (Launch(1),)


def test_without_a_choice_what_is_wanted_is_launched() -> None:
    """`channel: hd` is taken at its word, and SD alone has nothing lesser: however little memory there is."""
    assert short().feed(Wanted(1)).effects == (Launch(1),)
    assert short().feed(Wanted(1), Exited(OUT_OF_MEMORY)).time_out().effects == (Launch(1),)


def test_every_launch_of_hd_asks_for_room() -> None:
    """After a back-off, a restart by command, a look, another key: memory may have gone meanwhile."""
    for bench in (
        Bench().feed(AUTO, Exited(CRASHED)),
        Bench().feed(AUTO, Exited(CLOSED), Knocked(1, CLOSED)),
        Bench().feed(AUTO, Pressed()),
        Bench().feed(AUTO),
        Bench().feed(AUTO, Wanted(3, lesser=4)),
    ):
        bench.available_kb = BETTER_NEEDS_KB - 1
        if bench.state.away:
            bench.feed(Knocked(1, None))
        elif bench.state.phase is Phase.BACKING_OFF:
            bench.time_out()
        else:
            bench.feed(Exited(CLOSED, relaunch=bench.state.phase is Phase.STARTING))
        assert bench.effects == (Launch(bench.state.lesser or 0),)
        assert bench.state.reason is NO_ROOM


def test_sd_is_not_ended_for_an_hd_that_has_no_room() -> None:
    """The viewers see no break: it is looked again ten minutes later, each time, since nothing was tried in vain."""
    bench = short(Bench().feed(AUTO, Flowing(), Exited(OUT_OF_MEMORY), Flowing()).state)
    for _ in range(3):
        bench.after(bench.state.better_at - bench.now).feed(Flowing())
        assert (bench.state.phase, bench.state.reason, bench.effects) == (Phase.STREAMING, None, ())
        assert bench.state.better_at - bench.now == FIRST_STEP_UP_AFTER_OOM_S
    assert bench.state.in_vain == 1
    bench.available_kb = None
    assert flow(bench, FIRST_STEP_UP_AFTER_OOM_S).state.trying


def test_sd_that_runs_goes_on_when_auto_is_asked_for_without_room() -> None:
    """`channel/set auto` on a machine short of memory: what runs is what would run."""
    bench = short(Bench().feed(Wanted(2), Flowing()).state).feed(AUTO)
    assert (bench.effects, bench.state.phase, bench.state.reason) == ((), Phase.STREAMING, None)
    assert bench.state.stepped_down


def test_memory_that_goes_while_sd_is_ended_for_hd() -> None:
    """Room at the decision and none at the launch: SD again."""
    bench = flow(Bench().feed(AUTO, Flowing(), Exited(OUT_OF_MEMORY), Flowing()), FIRST_STEP_UP_AFTER_OOM_S)
    assert bench.state.trying
    bench.available_kb = BETTER_NEEDS_KB - 1
    bench.feed(Exited(CLOSED))
    assert (bench.effects, bench.state.trying, bench.state.reason) == ((Launch(2),), False, NO_ROOM)


def test_memory_is_asked_for_where_it_matters() -> None:
    """Not at each of the two reports a second of a stream that goes well."""
    bench = Bench().feed(AUTO, Flowing())
    assert not heeds_memory(bench.state, Flowing(), bench.now)
    assert heeds_memory(bench.state, Exited(CLOSED), bench.now)
    bench.feed(Exited(OUT_OF_MEMORY), Flowing())
    assert not heeds_memory(bench.state, Flowing(), bench.now)
    assert heeds_memory(bench.state, Flowing(), bench.state.better_at)


# --- any history ------------------------------------------------------------------------------------------------------

failures = st.sampled_from([CLOSED, REFUSED, OUT_OF_MEMORY])
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Wanted, st.one_of(st.none(), st.integers(1, 3))),
    st.builds(Wanted, st.integers(1, 3), st.none(), st.integers(4, 5)),
    st.just(Wanted(None, NO_KEY)),
    st.just(Pressed()),
    st.just(Flowing()),
    st.just(Unsuited()),
    st.builds(Uplink, st.booleans()),
    st.builds(Knocked, st.integers(1, 3), st.one_of(st.none(), failures)),
    st.builds(Exited, failures, st.booleans()),
    st.builds(TimedOut, st.one_of(st.none(), failures)),
)
rooms = st.sampled_from([None, BETTER_NEEDS_KB, 0])
histories = st.lists(st.tuples(events, st.floats(0, 400), rooms), max_size=60)


@settings(max_examples=1000, deadline=None)
@given(histories)
def test_from_any_history(history: list[tuple[Event, float, int | None]]) -> None:
    """From any sequence of events: no phase without a way out, never two children, never `streaming` without media."""
    state, now, children = State(), 0.0, 0
    for event, seconds, available_kb in history:
        now += seconds
        if isinstance(event, Exited) and children == 0:
            continue  # No child, no exit: the supervisor posts it once for each launch.
        before = state
        state, effects = step(state, event, now, replace(LIMITS, jitter=0.75, available_kb=available_kb))
        if isinstance(event, Exited):
            children -= 1
        for effect in effects:
            if isinstance(effect, Launch):
                children += 1
                assert state.phase is Phase.STARTING
                assert effect.job == state.running == state.target
                assert available_kb != 0 or state.lesser is None or effect.job == state.lesser, "no room for it"
            else:
                assert children == 1, "a signal for nobody"
        assert children in (0, 1)
        assert (state.phase in WITH_CHILD) == (children == 1) == (state.running is not None)
        assert (state.phase is Phase.IDLE) == (state.deadline is None), "no way out"
        assert state.lesser is not None or not (state.stepped_down or state.trying)
        if state.deadline is not None and state.phase is not before.phase:
            assert state.deadline > now
        if state.phase is Phase.STREAMING and before.phase is not Phase.STREAMING:
            assert isinstance(event, Flowing)
        if state.phase is Phase.STREAMING:
            assert state.reason is (UPLINK_SLOW if state.slow else None)
        if state.phase in (Phase.BACKING_OFF, Phase.FAILED, Phase.STALLED):
            assert state.reason is not None


@settings(max_examples=300, deadline=None)
@given(histories)
def test_from_any_history_off_leads_to_idle(history: list[tuple[Event, float, int | None]]) -> None:
    """However things stand, OFF ends in `idle` within the kill escalation once the child obeys KILL."""
    state, now = State(), 0.0
    for event, seconds, available_kb in history:
        now += seconds
        if not isinstance(event, Exited) or state.running is not None:
            state, _ = step(state, event, now, replace(LIMITS, available_kb=available_kb))
    state, effects = step(state, Wanted(None), now, LIMITS)
    for _ in range(4):
        if Send(Signal.KILL) in effects or state.phase is Phase.IDLE:
            break
        assert state.deadline is not None
        now = max(now, state.deadline)
        state, effects = step(state, TimedOut(), now, LIMITS)
    if state.phase is not Phase.IDLE:
        state, _ = step(state, Exited(CLOSED), now, LIMITS)
    assert state == State()


@settings(max_examples=300, deadline=None)
@given(histories)
def test_from_any_history_on_leads_to_a_launch(history: list[tuple[Event, float, int | None]]) -> None:
    """However things stand, ON leads to a running child again: nothing is ever given up."""
    state, now = State(), 0.0
    for event, seconds, available_kb in history:
        now += seconds
        if not isinstance(event, Exited) or state.running is not None:
            state, _ = step(state, event, now, replace(LIMITS, available_kb=available_kb))
    state, _ = step(state, Wanted(9), now, LIMITS)
    for _ in range(3):
        if state.running == 9:
            break
        assert state.deadline is not None
        now = max(now, state.deadline)
        event = Exited(CLOSED) if state.phase is Phase.STOPPING else TimedOut()
        state, _ = step(state, event, now, LIMITS)
    assert state.running == 9
