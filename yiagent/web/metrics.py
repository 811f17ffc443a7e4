"""`/healthz` and `/metrics`: what a watchdog and Prometheus read. Pure.

Format: Prometheus' text exposition format 0.0.4. What this machine cannot tell is left out, never 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from yiagent.model import BrokerStatus, Info, Phase, Snapshot, Telemetry

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Value = float | int | bool | None
Labels = dict[str, str]


def is_healthy(snapshot: Snapshot) -> bool:
    """Whether what is wanted is what happens."""
    return snapshot.phase is (Phase.STREAMING if snapshot.stream else Phase.IDLE)


def health_json(snapshot: Snapshot) -> str:
    """Status, phase and reason: no secrets, no settings."""
    document = {
        "status": "ok" if is_healthy(snapshot) else "problem",
        "phase": snapshot.phase,
        "reason": asdict(snapshot.reason) if snapshot.reason is not None else None,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def metrics_text(snapshot: Snapshot, sample: Telemetry | None, broker: BrokerStatus, info: Info, log_lines: int) -> str:
    """Everything as Prometheus reads it."""
    return "".join(_lines(snapshot, sample, broker, info, log_lines))


def _lines(
    snapshot: Snapshot, sample: Telemetry | None, broker: BrokerStatus, info: Info, log_lines: int
) -> Iterator[str]:
    labels = {"device": info.device, "version": info.agent, "ffmpeg": info.ffmpeg or ""}
    yield from _metric("info", "gauge", "What this agent is", [(labels, 1)])
    yield from _one("stream_wanted", "gauge", "1 if the owner wants to be live", snapshot.stream)
    yield from _one("healthy", "gauge", "1 if what is wanted is what happens", is_healthy(snapshot))
    phases: list[tuple[Labels, Value]] = [({"phase": phase}, phase is snapshot.phase) for phase in Phase]
    yield from _metric("phase", "gauge", "1 for the phase that the stream is in", phases)
    problem: list[tuple[Labels, Value]] = [({"code": snapshot.reason.code}, 1)] if snapshot.reason is not None else []
    yield from _metric("problem", "gauge", "1 for the reason why media does not leave as wanted", problem)
    yield from _one("attempts", "gauge", "Restarts since the last healthy minute", snapshot.attempt)
    yield from _one("broker_connected", "gauge", "1 if the MQTT broker has this agent", broker.connected)
    yield from _one("log_lines_total", "counter", "Lines of the log since the agent's start", log_lines)
    if sample is None:
        return
    yield from _one(
        "sent_bytes_total", "counter", "Bytes sent to the server since the agent's start", sample.sent_bytes
    )
    yield from _one("streaming_seconds", "gauge", "Since media last began to flow", sample.streaming_s)
    yield from _one("stream_bits_per_second", "gauge", "Media to the server", _bits(sample.stream_kbps))
    yield from _one("transmit_bits_per_second", "gauge", "All that the interface sends", _bits(sample.tx_kbps))
    yield from _one("receive_bits_per_second", "gauge", "All that the interface receives", _bits(sample.rx_kbps))
    yield from _one("frames_per_second", "gauge", "Video frames sent", sample.fps)
    yield from _one("speed_ratio", "gauge", "Media seconds per second", sample.speed)
    yield from _one("dropped_frames", "gauge", "Frames that ffmpeg dropped since its start", sample.dropped_frames)
    yield from _one("cpu_percent", "gauge", "Processor of the machine", sample.cpu_percent)
    yield from _one("load1", "gauge", "Load of the last minute", sample.load_1m)
    yield from _one("memory_available_bytes", "gauge", "Memory left", _bytes(sample.memory_available_kb))
    yield from _one("agent_resident_bytes", "gauge", "The agent's memory (Rss)", _bytes(sample.agent_rss_kb))
    yield from _one("ffmpeg_resident_bytes", "gauge", "ffmpeg's memory (Rss)", _bytes(sample.remux_rss_kb))
    yield from _one("temperature_celsius", "gauge", "The hottest sensor", sample.temperature_c)
    yield from _one("machine_uptime_seconds", "gauge", "Since the machine's start", sample.uptime_s)


def _one(name: str, kind: str, text: str, value: Value) -> Iterator[str]:
    return _metric(name, kind, text, [({}, value)])


def _metric(name: str, kind: str, text: str, values: list[tuple[Labels, Value]]) -> Iterator[str]:
    values = [(labels, value) for labels, value in values if value is not None]
    if not values:
        return
    yield f"# HELP yiagent_{name} {text}.\n# TYPE yiagent_{name} {kind}\n"
    for labels, value in values:
        inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"yiagent_{name}{f'{{{inner}}}' if inner else ''} {_number(value)}\n"


def _number(value: Value) -> str:
    return str(int(value)) if isinstance(value, bool | int) else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _bits(kbps: float | None) -> Value:
    return None if kbps is None else round(kbps * 1000)


def _bytes(kb: int | None) -> Value:
    return None if kb is None else kb * 1024
