"""What `scripts/bench recovery` reckons with; the figures themselves are shown by running it."""

from tests.bench.faults import QUICK_HOLD_S, Fault, faults
from tests.bench.figures import OURS
from tests.bench.outcome import AGENT, GO2RTC, PLAIN, Outcome, in_words, recovery_figures
from tests.bench.recovery import MEDIA_BYTES, Growth


def _fault(hold_s: float = 4.0, sway_s: float = 1.5, *, silent: bool = False) -> Fault:
    return Fault("server away", hold_s, sway_s, lambda peers: None, lambda peers: None, silent=silent)


def test_holds_are_spread_evenly_around_the_one_that_is_named() -> None:
    """One run alone takes that one."""
    fault = _fault(60, 10)
    assert [fault.hold_in(number, 5) for number in range(1, 6)] == [52, 56, 60, 64, 68]
    assert fault.hold_in(1, 1) == 60
    assert (fault.name, _fault(600).name) == ("server away 60 s", "server away 10 min")


def test_every_row_has_a_name_of_its_own() -> None:
    """Figures of one name would stand in one row; the ten minutes are asked for."""
    names = [fault.name for fault in faults(long=True)]
    assert len({*names}) == len(names)
    assert {*names} - {fault.name for fault in faults(long=False)} == {"server away 10 min"}
    assert all(fault.hold_s <= QUICK_HOLD_S for fault in faults(long=True, quick=True))


def test_new_media_is_what_comes_beyond_the_old() -> None:
    """In a stream that goes on, what stood in its connection is not new."""
    growth = Growth(seen=100_000, old=50_000)
    assert not growth.look(150_000)
    assert not growth.look(150_000 + MEDIA_BYTES - 1)
    assert growth.look(150_000 + MEDIA_BYTES)


def test_of_a_stream_that_begins_anew_all_is_new() -> None:
    """Whether it was seen to be gone or not; its headers are no media."""
    for growth in (Growth(seen=0), Growth(seen=100_000, old=50_000)):
        assert not growth.look(47)
        assert growth.look(MEDIA_BYTES)


def test_what_became_of_everybody_as_figures() -> None:
    """The aim is the agent's alone; where nothing breaks, it is told when each noticed, but go2rtc says nothing."""
    outcomes = [{AGENT: Outcome(1.0, 0.5, 4.0, 6.0), PLAIN: Outcome(None, None, None), GO2RTC: Outcome(3.0, 2.0, None)}]
    loud = recovery_figures(_fault(), outcomes)
    assert {figure.what for figure in loud} == {"server away 4 s: back after"}
    assert [(figure.who, figure.median, figure.aim is not None) for figure in loud] == [
        (OURS, 1.0, True),
        ("loop, defaults", None, False),
        ("go2rtc", 3.0, False),
    ]
    silent = recovery_figures(_fault(silent=True), outcomes)[3:]
    assert [(figure.what.partition(": ")[2], figure.who, figure.median) for figure in silent] == [
        ("noticed after", OURS, 4.0),
        ("noticed after", "loop, defaults", None),
        ("called stalled after", OURS, 6.0),
    ]


def test_a_run_in_words() -> None:
    """What did not happen is "never"."""
    outcomes = {AGENT: Outcome(1.0, 0.5, None, story="+0.10 starting"), PLAIN: Outcome(None, None, None)}
    assert in_words(_fault(), outcomes) == (
        "agent 1.00 (published 0.50), loop never (published never); the agent's states: +0.10 starting"
    )
