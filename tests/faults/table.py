"""The whole table: importing this enters every row."""

from __future__ import annotations

from tests.faults import (
    rows_agent,
    rows_both,
    rows_broker,
    rows_camera,
    rows_channel,
    rows_ffmpeg,
    rows_machine,
    rows_server,
)
from tests.faults.row import ROWS

__all__ = [
    "ROWS",
    "rows_agent",
    "rows_both",
    "rows_broker",
    "rows_camera",
    "rows_channel",
    "rows_ffmpeg",
    "rows_machine",
    "rows_server",
]
