"""The bandwidth of the last ten minutes, for a page that has only just been opened. Pure: the moment comes in.

However often samples are taken, so many points are kept: 5 kB of memory on a camera for what is drawn 600 pixels wide.
"""

from __future__ import annotations

import json
from array import array
from typing import Final

from yiagent.model import Telemetry

SPAN_S: Final = 600.0
MOST_POINTS: Final = 150
LEAST_STEP_S: Final = SPAN_S / MOST_POINTS
_COLUMNS: Final = 4
# What could not be measured; no rate is below 0.
_UNKNOWN: Final = -1.0


class History:
    """Points of (moment, stream, upload, download), kbps; oldest first."""

    def __init__(self) -> None:
        self._points = array("d")

    def add(self, sample: Telemetry, now: float) -> None:
        """Take in a sample at monotonic `now`; one that follows too soon on the last is left out."""
        points = self._points
        if points and now - points[-_COLUMNS] < LEAST_STEP_S * 0.95:
            return
        points.append(now)
        for rate in (sample.stream_kbps, sample.tx_kbps, sample.rx_kbps):
            points.append(_UNKNOWN if rate is None else rate)
        while points and (now - points[0] > SPAN_S or len(points) > MOST_POINTS * _COLUMNS):
            del points[:_COLUMNS]

    def render(self, now: float) -> str:
        """JSON: `{"points": [[age in s, stream, upload, download], …]}`; null for what could not be measured.

        Ages rather than times: neither clock needs to be right, nor both the same.
        """
        points = self._points
        rows = [
            [round(now - points[at], 1), *(None if rate < 0 else round(rate, 1) for rate in points[at + 1 : at + 4])]
            for at in range(0, len(points), _COLUMNS)
        ]
        return json.dumps({"points": rows}, separators=(",", ":"))
