"""What Prometheus and watchdogs read."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from tests.test_payloads import INFO, SAMPLE, SNAPSHOT
from yiagent.model import BrokerStatus, Phase, Reason, ReasonCode
from yiagent.web.metrics import health_json, is_healthy, metrics_text

LINE = re.compile(r'(yiagent_[a-z0-9_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+\})? (-?[0-9.e+-]+)')


def series(text: str) -> dict[str, float]:
    """The series of a text in Prometheus' format; anything that is not in it fails."""
    described: dict[str, set[str]] = {"HELP": set(), "TYPE": set()}
    found: dict[str, float] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# "):
            _, kind, name, rest = line.split(" ", 3)
            assert name not in described[kind], line
            assert kind == "HELP" or rest in ("gauge", "counter")
            described[kind].add(name)
            continue
        match = LINE.fullmatch(line)
        assert match is not None, line
        assert match[1] in described["HELP"] & described["TYPE"], line
        key = match[1] + (match[2] or "")
        assert key not in found, line
        found[key] = float(match[3])
    return found


def test_the_figures() -> None:
    """In Prometheus' own units: bits, bytes and seconds."""
    sample = replace(SAMPLE, stream_kbps=612.4, sent_bytes=48211034, memory_available_kb=9120, temperature_c=None)
    found = series(metrics_text(SNAPSHOT, sample, BrokerStatus(connected=True), INFO, 17))
    assert found["yiagent_stream_bits_per_second"] == 612400
    assert found["yiagent_sent_bytes_total"] == 48211034
    assert found["yiagent_memory_available_bytes"] == 9120 * 1024
    assert found["yiagent_broker_connected"] == 1
    assert found["yiagent_log_lines_total"] == 17
    assert "yiagent_temperature_celsius" not in found
    assert sum(value for name, value in found.items() if name.startswith("yiagent_phase")) == 1
    assert found[f'yiagent_phase{{phase="{SNAPSHOT.phase}"}}'] == 1


def test_before_the_first_sample() -> None:
    """What is known is told, and nothing is 0 that is not known."""
    found = series(metrics_text(SNAPSHOT, None, BrokerStatus(connected=False), INFO, 0))
    assert "yiagent_sent_bytes_total" not in found
    assert found["yiagent_broker_connected"] == 0


def test_names_that_hold_anything() -> None:
    """Quotes, backslashes and line ends in a label."""
    info = replace(INFO, ffmpeg='a"b\\c\nd')
    series(metrics_text(SNAPSHOT, SAMPLE, BrokerStatus(connected=True), info, 0))


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("phase", list(Phase))
def test_healthy_is_what_is_wanted(wanted: bool, phase: Phase) -> None:
    """Live where that is wanted, off where not; nothing between is what was wanted yet."""
    snapshot = replace(SNAPSHOT, stream=wanted, phase=phase)
    assert is_healthy(snapshot) is ((wanted, phase) in ((True, Phase.STREAMING), (False, Phase.IDLE)))


def test_the_health_tells_phase_and_reason_and_no_settings() -> None:
    """It needs no password."""
    reason = Reason(ReasonCode.SINK_DNS, "The name does not resolve.")
    told = json.loads(health_json(replace(SNAPSHOT, phase=Phase.BACKING_OFF, reason=reason)))
    assert told == {
        "status": "problem",
        "phase": "backing_off",
        "reason": {"code": "sink_dns", "message": "The name does not resolve."},
    }
