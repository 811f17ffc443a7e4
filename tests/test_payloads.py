"""The JSON of the contract, to the letter: its keys, its types, and null for what is not known."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yiagent.commands import RefusalCode, Refused
from yiagent.model import (
    Channel,
    Info,
    Level,
    LogLine,
    Origin,
    Phase,
    Reason,
    ReasonCode,
    Snapshot,
    Telemetry,
)
from yiagent.payloads import (
    answer_json,
    info_json,
    log_json,
    refusal_json,
    state_json,
    telemetry_json,
    timestamp,
)

AT = 1795357201.9
SNAPSHOT = Snapshot(
    stream=True,
    phase=Phase.STREAMING,
    since=AT,
    channel=Channel.AUTO,
    active_channel=Channel.SD,
    server="rtmp://a.rtmp.youtube.com/live2",
    key_set=True,
    attempt=0,
    retry_at=None,
    reason=None,
)
STATE = {
    "schema": 1,
    "stream": "ON",
    "phase": "streaming",
    "since": "2026-11-22T14:20:01Z",
    "channel": "auto",
    "active_channel": "sd",
    "server": "rtmp://a.rtmp.youtube.com/live2",
    "key_set": True,
    "attempt": 0,
    "retry_at": None,
    "reason": None,
}
IDLE = Snapshot(False, Phase.IDLE, 0.0, Channel.HD, None, None, False, 0, None, None)
FAILING = replace(
    SNAPSHOT,
    phase=Phase.BACKING_OFF,
    attempt=3,
    retry_at=AT + 60,
    reason=Reason(ReasonCode.SINK_DNS, "The server’s name does not resolve."),
)
SAMPLE = Telemetry(
    ts=AT,
    stream_kbps=612.4,
    sent_bytes=48211034,
    fps=15.0,
    speed=1.0,
    dropped_frames=0,
    streaming_s=631,
    tx_kbps=655.1,
    rx_kbps=12.0,
    interface="ra0",
    cpu_percent=31.0,
    memory_available_kb=9120,
    agent_rss_kb=10240,
    remux_rss_kb=7300,
    load_1m=1.2,
    temperature_c=None,
    uptime_s=86400,
)
NOTHING_KNOWN = Telemetry(AT, None, 0, None, None, None, 0, None, None, None, None, None, None, None, None, None, None)
INFO = Info("front-door", "Front door", "0.1.0", "5.1.9", "3.11.7", "x86_64", "http://192.0.2.1:8080/")
LINE = LogLine(7, AT, Level.WARNING, Origin.FFMPEG, "rtsp: the camera’s words")


def test_state_is_the_contracts() -> None:
    """The example of the contract, key by key and type by type."""
    assert json.loads(state_json(SNAPSHOT)) == STATE


def test_a_state_without_anything() -> None:
    """What is not set is null; what is off is `OFF`; no key is left out."""
    assert json.loads(state_json(IDLE)) == {
        **STATE,
        "stream": "OFF",
        "phase": "idle",
        "since": "1970-01-01T00:00:00Z",
        "channel": "hd",
        "active_channel": None,
        "server": None,
        "key_set": False,
    }


def test_a_state_with_a_reason() -> None:
    """A reason is its code and its message; the next try is a time."""
    assert json.loads(state_json(FAILING)) == {
        **STATE,
        "phase": "backing_off",
        "attempt": 3,
        "retry_at": "2026-11-22T14:21:01Z",
        "reason": {"code": "sink_dns", "message": "The server’s name does not resolve."},
    }


@pytest.mark.parametrize("phase", Phase)
def test_the_phases_are_the_contracts(phase: Phase) -> None:
    """The closed set of phases, spelled as subscribers expect them."""
    allowed = {"idle", "starting", "streaming", "stalled", "backing_off", "stopping", "failed"}
    assert {str(member) for member in Phase} == allowed
    assert json.loads(state_json(replace(SNAPSHOT, phase=phase)))["phase"] == phase.value


def test_the_reason_codes_are_the_contracts() -> None:
    """The closed set of codes, spelled as the contract lists them."""
    assert " ".join(ReasonCode) == (
        "source_unreachable source_unauthorized source_not_found source_no_video source_codec sink_unreachable sink_dns"
        " sink_tls sink_rejected sink_closed uplink_slow stalled out_of_memory ffmpeg_missing ffmpeg_crashed"
        " not_configured"
    )


def test_telemetry_is_the_contracts() -> None:
    """The example of the contract, key by key and type by type."""
    assert json.loads(telemetry_json(SAMPLE)) == {
        "ts": "2026-11-22T14:20:01Z",
        "stream_kbps": 612.4,
        "sent_bytes": 48211034,
        "fps": 15.0,
        "speed": 1.0,
        "dropped_frames": 0,
        "streaming_s": 631,
        "tx_kbps": 655.1,
        "rx_kbps": 12.0,
        "interface": "ra0",
        "cpu_percent": 31.0,
        "memory_available_kb": 9120,
        "agent_rss_kb": 10240,
        "remux_rss_kb": 7300,
        "load_1m": 1.2,
        "temperature_c": None,
        "uptime_s": 86400,
    }


def test_what_a_machine_cannot_tell_is_null() -> None:
    """Never 0, and never left out."""
    sample = json.loads(telemetry_json(NOTHING_KNOWN))
    assert sample.keys() == json.loads(telemetry_json(SAMPLE)).keys()
    known = {key: value for key, value in sample.items() if value is not None}
    assert known == {"ts": "2026-11-22T14:20:01Z", "sent_bytes": 0, "streaming_s": 0}


def test_info_is_the_contracts() -> None:
    """What this agent is; null where no ffmpeg could be run or no page is served."""
    expected = {
        "schema": 1,
        "device": "front-door",
        "name": "Front door",
        "agent": "0.1.0",
        "ffmpeg": "5.1.9",
        "python": "3.11.7",
        "machine": "x86_64",
        "web": "http://192.0.2.1:8080/",
    }
    assert json.loads(info_json(INFO)) == expected
    assert json.loads(info_json(replace(INFO, ffmpeg=None, web=None))) == {**expected, "ffmpeg": None, "web": None}


def test_log_is_the_contracts() -> None:
    """One line of the journal: where in it, when, how bad, who said what."""
    assert json.loads(log_json(LINE)) == {
        "seq": 7,
        "ts": "2026-11-22T14:20:01Z",
        "level": "warning",
        "source": "ffmpeg",
        "message": "rtsp: the camera’s words",
    }
    assert {str(level) for level in Level} == {"debug", "info", "warning", "error"}
    assert {str(origin) for origin in Origin} == {"agent", "ffmpeg"}


@pytest.mark.parametrize("transaction", ["t-1", "", None])
def test_an_answer_carries_its_transaction(transaction: str | None) -> None:
    """Carried out: `ok`, no error, and the state as it is now."""
    answer = json.loads(answer_json(SNAPSHOT, transaction=transaction, refused=None))
    assert answer == {"transaction": transaction, "status": "ok", "error": None, "state": STATE}


@pytest.mark.parametrize("code", RefusalCode)
def test_a_refusal_says_why(code: RefusalCode) -> None:
    """Refused: `error` with code and message, and the state that has not changed."""
    refused = Refused(code, "must be ON or OFF", "t-1")
    outcome = {"status": "error", "error": {"code": code.value, "message": "must be ON or OFF"}, "state": STATE}
    assert json.loads(answer_json(SNAPSHOT, transaction="t-1", refused=refused)) == {"transaction": "t-1", **outcome}
    by_topic = json.loads(refusal_json(SNAPSHOT, command="channel/set", refused=refused))
    assert by_topic == {"command": "channel/set", **outcome}


ALL: dict[str, Callable[[str], str]] = {
    "state": lambda text: state_json(replace(FAILING, server=text, reason=Reason(ReasonCode.STALLED, text))),
    "telemetry": lambda text: telemetry_json(replace(SAMPLE, interface=text)),
    "info": lambda text: info_json(replace(INFO, name=text)),
    "log": lambda text: log_json(replace(LINE, message=text)),
    "answer": lambda text: answer_json(SNAPSHOT, transaction=text, refused=Refused(RefusalCode.NOT_JSON, text)),
    "refusal": lambda text: refusal_json(IDLE, command=text, refused=Refused(RefusalCode.NOT_JSON, text)),
}


@pytest.mark.parametrize("make", ALL.values(), ids=list(ALL))
@given(st.text(st.characters(codec="utf-8")))
def test_json_is_compact_utf_8(make: Callable[[str], str], text: str) -> None:
    """No blank between the parts, no escape for what UTF-8 can write, one line, and nothing lost on the way."""
    payload = make(text)
    document: Any = json.loads(payload.encode("utf-8"))
    assert payload == json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    assert "\n" not in payload
    assert text in _texts(document)


def _texts(document: Any) -> list[str]:
    if isinstance(document, dict):
        return [text for value in document.values() for text in _texts(value)]
    return [document] if isinstance(document, str) else []


@pytest.mark.parametrize(
    ("ts", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (0.999, "1970-01-01T00:00:00Z"),
        (951782400, "2000-02-29T00:00:00Z"),
        (1795357201.999999, "2026-11-22T14:20:01Z"),
        (4102444800, "2100-01-01T00:00:00Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(ts: float, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the second, in UTC whatever the machine's time zone; a camera without a clock says 1970."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    assert timestamp(ts) == text
