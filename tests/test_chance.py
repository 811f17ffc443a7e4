"""What keeps agents of one household apart needs no good numbers, only different ones within their bounds."""

from __future__ import annotations

import os

import pytest

from yiagent.chance import between


def test_numbers_lie_between_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds themselves are the ends, and what lies between is spread over all of it."""
    for raw, number in ((b"\x00", 0.75), (b"\xff", 1.25)):
        monkeypatch.setattr(os, "urandom", raw.__mul__)
        assert between(0.75, 1.25) == number
    monkeypatch.undo()
    numbers = [between(0.75, 1.25) for _ in range(2000)]
    assert min(numbers) < 0.80 < 1.20 < max(numbers)
    assert len(set(numbers)) > 1990
    assert 0.98 < sum(numbers) / len(numbers) < 1.02
