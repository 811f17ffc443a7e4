"""What the one who starts the agent sees: the journal's lines on a stream, those of libraries among them."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Final, TextIO

from yiagent.model import Level, LogLine
from yiagent.payloads import timestamp
from yiagent.store import Journal

# systemd's journal takes the severity from such a prefix.
_SYSLOG: Final = {Level.DEBUG: 7, Level.INFO: 6, Level.WARNING: 4, Level.ERROR: 3}


class Console:
    """Writes the journal's lines to a stream as they come."""

    def __init__(self, journal: Journal, stream: TextIO) -> None:
        self._journal = journal
        self._stream = stream
        self._seen = 0
        # Set by systemd for a service whose output goes to its journal, which adds the time itself.
        self._systemd = "JOURNAL_STREAM" in os.environ
        journal.listen(self._write)

    def _write(self) -> None:
        for line in self._journal.since(self._seen):
            self._seen = line.seq
            with contextlib.suppress(OSError, ValueError):
                print(self._format(line), file=self._stream, flush=True)

    def _format(self, line: LogLine) -> str:
        if self._systemd:
            return f"<{_SYSLOG[line.level]}>{line.source}: {line.message}"
        return f"{timestamp(line.ts)} {line.level.upper():7} {line.source}: {line.message}"


def catch_library_logs(journal: Journal) -> None:
    """What libraries log goes through the journal, and so through the redactor."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            level = Level.ERROR if record.levelno >= logging.ERROR else Level.WARNING
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                message += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
            (journal.error if level is Level.ERROR else journal.warning)(f"{record.name}: {message}")

    logging.basicConfig(level=logging.WARNING, handlers=[Handler()], force=True)
