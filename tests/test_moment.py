"""A moment is told by the clock as it is, also after somebody set it."""

from __future__ import annotations

import time

import pytest

from yiagent.moment import TOLERANCE_S, Moment

YEARS_46 = 46 * 365.25 * 86400


def test_a_moment_follows_the_clock_when_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slewing changes nothing; a jump puts the moment right, and so does the jump back."""
    wall, monotonic = 340_000_000.0, 50.0
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic)
    moment = Moment(monotonic)
    wall, monotonic = wall + 10 + TOLERANCE_S / 2, monotonic + 10
    assert moment.wall == 340_000_000.0
    wall += YEARS_46
    assert moment.wall == pytest.approx(340_000_000.0 + YEARS_46, abs=TOLERANCE_S)
    wall -= YEARS_46
    assert moment.wall == pytest.approx(340_000_000.0, abs=TOLERANCE_S)
