"""The log on its way to one connection of the broker's: no faster than it may be, and never far behind."""

from __future__ import annotations

import time
from typing import Final

from yiagent.model import Level, LogLine, Origin
from yiagent.store import Journal

# Lines at once, and per second. What falls behind further than the backlog is left out, and that is told.
LOG_BURST: Final = 30
LOG_PER_S: Final = 5.0
LOG_BACKLOG: Final = 100


class LogFeed:
    """The journal's lines for one connection, no faster than the limits, skipping what has fallen too far behind."""

    def __init__(self, journal: Journal, sent: int) -> None:
        self._journal = journal
        self.sent = sent
        self._allowance = float(LOG_BURST)
        self._at = time.monotonic()

    @property
    def wait_s(self) -> float | None:
        """How long until another line may be sent; None where there is none to send."""
        return None if self.sent >= self._journal.last_seq else 1 / LOG_PER_S

    def next(self) -> LogLine | None:
        """The next line to send now."""
        now = time.monotonic()
        self._allowance = min(LOG_BURST, self._allowance + (now - self._at) * LOG_PER_S)
        self._at = now
        if self.sent >= self._journal.last_seq or self._allowance < 1:
            return None
        self._allowance -= 1
        lines = self._journal.since(self.sent)
        if self._journal.last_seq - self.sent > LOG_BACKLOG:
            kept = lines[-LOG_BURST // 2 :]
            left_out = kept[0].seq - 1 - self.sent
            self.sent = kept[0].seq - 1
            message = f"… {left_out} lines left out here: too many at once for the broker"
            return LogLine(self.sent, kept[0].ts, Level.WARNING, Origin.AGENT, message)
        self.sent = lines[0].seq
        return lines[0]
