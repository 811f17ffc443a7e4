"""A sample and a snapshot with nothing in them that a test does not ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from yiagent.agent import empty_snapshot
from yiagent.model import Channel, Snapshot, Telemetry

_NOTHING = Telemetry(
    ts=1_800_000_000.0,
    stream_kbps=0.0,
    sent_bytes=0,
    fps=None,
    speed=None,
    dropped_frames=None,
    streaming_s=0,
    tx_kbps=None,
    rx_kbps=None,
    interface=None,
    cpu_percent=None,
    memory_available_kb=None,
    agent_rss_kb=None,
    remux_rss_kb=None,
    load_1m=None,
    temperature_c=None,
    uptime_s=None,
)


def sample(**values: Any) -> Telemetry:
    """A sample that holds these values, and null for what may be null."""
    return replace(_NOTHING, **values)


def snapshot(**values: Any) -> Snapshot:
    """An agent's first snapshot, with these values."""
    return replace(empty_snapshot(Channel.AUTO), **values)
