"""Ten minutes of bandwidth in little memory."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.test_payloads import SAMPLE
from yiagent.web.history import LEAST_STEP_S, MOST_POINTS, SPAN_S, History


def points(history: History, now: float) -> list[list[float | None]]:
    return list(json.loads(history.render(now))["points"])


def test_what_was_measured_comes_back_by_its_age() -> None:
    """In the order stream, upload, download; null for what could not be measured, and 0 for nothing."""
    history = History()
    history.add(replace(SAMPLE, stream_kbps=0.0, tx_kbps=655.14, rx_kbps=None), 100.0)
    history.add(replace(SAMPLE, stream_kbps=None, tx_kbps=1.0, rx_kbps=2.0), 105.0)
    assert points(history, 107.0) == [[7.0, 0.0, 655.1, None], [2.0, None, 1.0, 2.0]]


def test_none_before_the_first() -> None:
    """An agent that has only just begun."""
    assert points(History(), 5.0) == []


def test_samples_that_come_often_are_thinned_and_old_ones_go() -> None:
    """However often they come: no more points than are drawn, none older than the chart."""
    history = History()
    for number in range(20_000):
        history.add(SAMPLE, number * 0.2)
    kept = points(history, 20_000 * 0.2)
    assert MOST_POINTS * 0.9 < len(kept) <= MOST_POINTS
    ages = [row[0] or 0.0 for row in kept]
    assert ages == sorted(ages, reverse=True)
    assert ages[0] <= SPAN_S + LEAST_STEP_S
