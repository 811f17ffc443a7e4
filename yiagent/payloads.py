"""Snapshots, samples and answers as the JSON of the contract. Pure; MQTT and the page send the same bytes."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from yiagent.commands import Refused
from yiagent.model import Info, LogLine, Snapshot, Telemetry

SCHEMA: Final = 1


def timestamp(ts: float) -> str:
    """Wall-clock seconds as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(int(ts), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def state_json(snapshot: Snapshot) -> str:
    """The topic `state`."""
    return _compact(_state(snapshot))


def telemetry_json(sample: Telemetry) -> str:
    """The topic `telemetry`."""
    return _compact({**asdict(sample), "ts": timestamp(sample.ts)})


def log_json(line: LogLine) -> str:
    """The topic `log`."""
    return _compact({**asdict(line), "ts": timestamp(line.ts)})


def info_json(info: Info) -> str:
    """The topic `info`."""
    return _compact({"schema": SCHEMA, **asdict(info)})


def answer_json(snapshot: Snapshot, *, transaction: str | None, refused: Refused | None) -> str:
    """The answer to a `request`."""
    return _compact({"transaction": transaction, **_outcome(snapshot, refused)})


def refusal_json(snapshot: Snapshot, *, command: str, refused: Refused) -> str:
    """The answer to a refused `…/set`; `command` is like `channel/set`."""
    return _compact({"command": command, **_outcome(snapshot, refused)})


def refused_json(snapshot: Snapshot, refused: Refused) -> str:
    """The answer to what was refused and has neither a transaction nor a topic."""
    return answer_json(snapshot, transaction=refused.transaction, refused=refused)


def _outcome(snapshot: Snapshot, refused: Refused | None) -> dict[str, Any]:
    error = {"code": refused.code, "message": refused.message} if refused is not None else None
    return {"status": "ok" if refused is None else "error", "error": error, "state": _state(snapshot)}


def _state(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "stream": "ON" if snapshot.stream else "OFF",
        "phase": snapshot.phase,
        "since": timestamp(snapshot.since),
        "channel": snapshot.channel,
        "active_channel": snapshot.active_channel,
        "server": snapshot.server,
        "key_set": snapshot.key_set,
        "attempt": snapshot.attempt,
        "retry_at": timestamp(snapshot.retry_at) if snapshot.retry_at is not None else None,
        "reason": asdict(snapshot.reason) if snapshot.reason is not None else None,
    }


def _compact(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
