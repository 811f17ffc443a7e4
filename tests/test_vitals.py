"""Figures are measured between two samples by the monotonic clock; what a machine cannot tell is None, never 0."""

from __future__ import annotations

import dataclasses
import time

import psutil
import pytest

from yiagent.model import Flow, Progress
from yiagent.vitals import Vitals


def flow(at: float, total_bytes: int, launch: int = 1) -> Flow:
    return Flow(launch, at, Progress(int(at * 15), total_bytes, 15.0, 1.0, 0))


def stream_kbps(vitals: Vitals, report: Flow | None) -> float | None:
    return vitals.sample(flow=report, sent_bytes=0, streaming_s=0, child_pid=None).stream_kbps


def test_the_rate_is_measured_between_reports() -> None:
    """Reports come when ffmpeg likes; the time between them counts, not the time between samples."""
    now = time.monotonic()
    vitals = Vitals("lo")
    assert stream_kbps(vitals, flow(now, 1_000_000)) == 0.0
    assert stream_kbps(vitals, flow(now + 4, 1_500_000)) == 1000.0
    # No new report yet: the last figure stands for a moment, then nothing has left.
    assert stream_kbps(vitals, flow(now + 4, 1_500_000)) == 1000.0
    assert stream_kbps(vitals, flow(now + 8, 1_500_000)) == 0.0


def test_a_new_launch_begins_anew() -> None:
    """Counters of two ffmpegs are never subtracted from each other; without one, nothing leaves."""
    now = time.monotonic()
    vitals = Vitals("lo")
    stream_kbps(vitals, flow(now, 5_000_000))
    assert stream_kbps(vitals, flow(now + 5, 100_000, launch=2)) == 0.0
    assert stream_kbps(vitals, None) == 0.0


def test_silence_is_no_rate() -> None:
    """With the last report seconds ago nothing has left since."""
    vitals = Vitals("lo")
    long_ago = time.monotonic() - 60
    stream_kbps(vitals, flow(long_ago, 1_000_000))
    assert stream_kbps(vitals, flow(long_ago, 1_000_000)) == 0.0


def test_a_jump_of_the_clock_changes_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """46 years forward when NTP answers at last: only the time stamp follows."""
    now = time.monotonic()
    vitals = Vitals("lo")
    vitals.sample(flow=flow(now, 1_000_000), sent_bytes=0, streaming_s=5, child_pid=None)
    real = time.time
    monkeypatch.setattr("yiagent.vitals.time.time", lambda: real() + 46 * 365 * 86400)
    sample = vitals.sample(flow=flow(now + 5, 1_625_000), sent_bytes=0, streaming_s=10, child_pid=None)
    assert sample.stream_kbps == 1000.0
    assert sample.uptime_s is not None
    assert abs(sample.uptime_s - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    assert sample.ts > real() + 45 * 365 * 86400


def test_a_machine_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old kernel without half of /proc gives None everywhere, and no error."""

    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError("/proc/zoneinfo")

    for name in (
        "cpu_percent",
        "net_io_counters",
        "getloadavg",
        "sensors_temperatures",
        "net_if_addrs",
    ):
        monkeypatch.setattr(psutil, name, refuse)
    monkeypatch.setattr("yiagent.vitals.interface_of_default_route", refuse)
    monkeypatch.setattr("yiagent.vitals.memory_available_kb", lambda: None)
    vitals = Vitals(None)
    monkeypatch.setattr(vitals, "_agent", None)
    vitals.sample(flow=None, sent_bytes=0, streaming_s=0, child_pid=None)
    sample = vitals.sample(flow=None, sent_bytes=7, streaming_s=0, child_pid=4_194_305)
    told = {name for name, value in dataclasses.asdict(sample).items() if value is not None}
    assert told == {"ts", "stream_kbps", "sent_bytes", "streaming_s", "uptime_s"}


def test_an_interface_that_is_not_there() -> None:
    """A wrong name in the configuration gives None for both directions, and the name is shown."""
    vitals = Vitals("no-such-interface")
    sample = vitals.sample(flow=None, sent_bytes=0, streaming_s=0, child_pid=None)
    assert (sample.interface, sample.tx_kbps, sample.rx_kbps) == ("no-such-interface", None, None)


def test_memory_is_what_everything_else_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """One function says how much can be had, to the sample as to the launch of HD."""
    monkeypatch.setattr("yiagent.vitals.memory_available_kb", lambda: 12_936)
    sample = Vitals("lo").sample(flow=None, sent_bytes=0, streaming_s=0, child_pid=None)
    assert sample.memory_available_kb == 12_936
