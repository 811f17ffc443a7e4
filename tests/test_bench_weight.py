"""What is made of what was weighed."""

import os
from dataclasses import replace

import pytest

from tests.bench.figures import OURS, Figure
from tests.bench.process import Memory, memory_of, parse_rollup, processor_s
from tests.bench.weighed import AGENT, BARE, FFMPEG, TUNED, State, Weight, Weights, over_a_minute

ROLLUP = """\
55d0c8a3b000-7ffd0a9f6000 ---p 00000000 00:00 0                          [rollup]
Rss:               27648 kB
Pss:               20480 kB
Pss_Dirty:         19000 kB
Shared_Dirty:       1024 kB
Private_Clean:       512 kB
Private_Dirty:     18432 kB
"""
WEIGHT = Weight(Memory(27.0, 20.0, 18.0), 0.25)


def found(weights: Weights, what: str) -> Figure:
    """The one figure of that name."""
    (figure,) = [figure for figure in weights.figures() if figure.what == what]
    return figure


def heavier(by_mb: float, by_s_min: float = 0.0) -> Weight:
    """`WEIGHT`, and so much more."""
    memory = replace(WEIGHT.memory, private_dirty_mb=WEIGHT.memory.private_dirty_mb + by_mb)
    return Weight(memory, WEIGHT.processor_s_min + by_s_min)


def test_the_kernels_sums() -> None:
    """In MB; private is not what is clean, nor what others share."""
    assert parse_rollup(ROLLUP) == Memory(27.0, 20.0, 18.0)


def test_this_process() -> None:
    """Its parts are within its whole, and its clock goes on with what it does."""
    memory = memory_of(os.getpid())
    assert 0 < memory.private_dirty_mb <= memory.pss_mb <= memory.rss_mb
    before = processor_s(os.getpid())
    sum(range(100_000))
    assert 0 < before < processor_s(os.getpid())


def test_a_minute_with_one_picture() -> None:
    """A quarter of it with, three without; the memory is the one with."""
    minute = over_a_minute(Weight(Memory(3.0, 2.0, 1.0), 1.0), Weight(Memory(2.0, 1.0, 0.5), 0.2), 15.0)
    assert minute.memory == Memory(3.0, 2.0, 1.0)
    assert minute.processor_s_min == pytest.approx(0.4)


def test_agent_ffmpeg_and_what_stands_beside_them_are_told_apart() -> None:
    """Each in its own column, and an aim for the agent alone."""
    weights = Weights()
    weights.add(State.IDLE, {AGENT: WEIGHT})
    weights.add(State.IDLE, {BARE: heavier(-2.0)})
    weights.add(State.STREAMING, {AGENT: WEIGHT, FFMPEG: heavier(-5.0), TUNED: heavier(-6.0)})
    figures = [figure for figure in weights.figures() if figure.column == "private dirty"]
    assert [(figure.what, figure.who, figure.values) for figure in figures] == [
        ("idle", OURS, [18.0]),
        ("idle", "a bare paho client with asyncio and psutil", [16.0]),
        ("streaming HD", OURS, [18.0]),
        ("streaming HD: its ffmpeg", OURS, [13.0]),
        ("streaming HD", "the tuned loop's ffmpeg", [12.0]),
    ]
    processor = [figure for figure in weights.figures() if (figure.what, figure.column) == ("idle", "processor")]
    assert [(figure.who == OURS, figure.aim, figure.is_met) for figure in processor] == [
        (True, 0.1, False),
        (False, None, None),
    ]


def test_differences_are_taken_within_a_run() -> None:
    """Two runs that differ by more than the pages cost: what the pages cost is still seen, for each."""
    weights = Weights()
    for base in (0.0, 3.0):
        weights.add(State.STREAMING, {AGENT: heavier(base)})
        weights.add(State.FIVE_PAGES, {AGENT: heavier(base + 0.5, 0.1)})
        weights.add(State.CLOSED, {AGENT: heavier(base + 0.25, -0.01)})
        weights.second_round.append((heavier(base).memory, heavier(base + 0.25).memory))
    assert found(weights, "each of five open pages adds: private dirty").values == pytest.approx([0.1, 0.1])
    assert found(weights, "each of five open pages adds: processor").values == pytest.approx([0.02, 0.02])
    left = found(weights, "five pages opened and closed leave, for the next ones: private dirty")
    assert left.values == [0.25, 0.25]
    again = found(weights, "five pages opened and closed once more leave: private dirty")
    assert (again.values, again.is_met) == ([0.25, 0.25], False)
    assert found(weights, "five pages opened and closed leave: processor").is_met
