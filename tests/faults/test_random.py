"""The judge of the random runs finds a lie in a history that holds one, and none in one that does not."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.faults.judge import Judge
from tests.faults.random_run import KINDS, LONGEST_S, SHORTEST_S, schedule

# One history is a list of moments with what is so from there on: what is said (None: nothing), whether media arrives,
# whether it is wanted.
Moment = tuple[float, str | None, bool, bool]
STEP_S = 0.1


def verdict(*moments: Moment, ends: float) -> str | None:
    """The first lie that the judge finds, told of all in steps of a tenth of a second."""
    judge = Judge()
    total = 0
    coming = list(moments)
    now: Moment = (0.0, None, False, True)
    for step in range(int(ends / STEP_S)):
        at = 1000 + step * STEP_S
        while coming and at >= 1000 + coming[0][0]:
            before, now = now, coming.pop(0)
            judge.says(at, now[1])
            if now[3] is not before[3]:
                judge.wants(at, on=now[3])
        total += 5000 if now[2] else 0
        judge.receives(at, total)
        if lie := judge.lie(at):
            return lie
    return None


@pytest.mark.parametrize(
    ("since", "moments", "words"),
    [
        (1, [(0, "starting", False, True), (1, "streaming", False, True)], "“streaming” is said, and nothing has"),
        (5, [(0, "streaming", True, True), (5, "streaming", False, True)], "“streaming” is said, and nothing has"),
        (5, [(0, "streaming", True, True), (5, "backing_off", True, True)], "“backing_off” is said, and media has"),
        (0, [(0, "starting", True, True), (5, "stalled", True, True)], "“stalled” is said, and media has"),
        (5, [(0, "streaming", True, True), (5, "idle", True, False)], "“idle” is said, and media has"),
        # Nobody says anything, and still it must not arrive.
        (5, [(0, "streaming", True, True), (5, None, True, False)], "after OFF"),
    ],
    ids=["from the start", "ceased", "backing off", "two words of one claim", "idle", "unwanted"],
)
def test_a_lie_is_found(since: float, moments: list[Moment], words: str) -> None:
    """When it has lasted for ten seconds, and little later."""
    found = verdict(*moments, ends=since + 10.5)
    assert found is not None
    assert words in found
    assert verdict(*moments, ends=since + 9.8) is None


@pytest.mark.parametrize(
    "moments",
    [
        [(0, "starting", False, True), (2, "streaming", True, True)],
        # It ceases, and is told in time.
        [(0, "streaming", True, True), (5, "streaming", False, True), (14, "stalled", False, True)],
        # It is back, and is told in time.
        [(0, "backing_off", False, True), (5, "backing_off", True, True), (14, "streaming", True, True)],
        # Nothing can be said: the broker is away, or no agent runs.
        [(0, "streaming", True, True), (5, None, False, True), (30, "starting", False, True)],
        [(0, "starting", False, True), (5, None, True, True), (30, "streaming", True, True)],
        # What was said before counts no longer when speech comes back.
        [
            (0, "streaming", True, True),
            (4, None, False, True),
            (18, "streaming", False, True),
            (27, "idle", False, True),
        ],
        # A slow uplink: what comes now and then comes.
        [(second, "streaming", second % 9 == 0, True) for second in range(60)],
        # OFF is obeyed in time.
        [(0, "streaming", True, True), (5, "stopping", True, False), (14, "idle", False, False)],
        [(0, "streaming", True, True), (5, "idle", False, False), (40, "streaming", True, True)],
    ],
)
def test_the_truth_is_no_lie(moments: list[Moment]) -> None:
    """Ten seconds are allowed for each change, and silence is no lie."""
    assert verdict(*moments, ends=60) is None


def test_a_seed_gives_a_schedule() -> None:
    """The same for the same seed, another for another; all kinds come; two at a time are of different peers."""
    assert list(islice(schedule(7), 50)) == list(islice(schedule(7), 50))
    assert list(islice(schedule(7), 50)) != list(islice(schedule(8), 50))
    rounds = list(islice(schedule(7), 500))
    faults = [fault for one in rounds for fault in one.faults]
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 15
    assert {fault.kind for fault in faults} == set(KINDS)
    assert all(SHORTEST_S <= fault.ends_s - fault.begins_s <= LONGEST_S for fault in faults)
    pairs = [one.faults for one in rounds if len(one.faults) == 2]
    assert 100 < len(pairs) < 250
    assert all(first.kind.group != second.kind.group and second.begins_s < first.ends_s for first, second in pairs)
    together = {frozenset(fault.kind.group for fault in pair) for pair in pairs}
    assert not together & {frozenset({"command", "broker"}), frozenset({"command", "agent"})}
