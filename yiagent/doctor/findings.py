"""What the doctor found: one line for each check. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """How a check went."""

    OK = "ok"
    FAIL = "FAIL"
    WARN = "warn"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: `what` was looked at, and what is so, or what is wrong and what to do."""

    mark: Mark
    what: str
    detail: str

    def __str__(self) -> str:
        return f"{self.mark:<6}{self.what}: {self.detail}"


class Findings:
    """The lines of one check, in the order they were added."""

    def __init__(self) -> None:
        self.lines: list[Finding] = []

    def ok(self, what: str, detail: str) -> None:
        """It is as it should be."""
        self._add(Mark.OK, what, detail)

    def fail(self, what: str, detail: str) -> None:
        """It keeps the stream, or a command, from working."""
        self._add(Mark.FAIL, what, detail)

    def warn(self, what: str, detail: str) -> None:
        """It works, but should be looked at."""
        self._add(Mark.WARN, what, detail)

    def skip(self, what: str, detail: str) -> None:
        """It does not apply, or cannot be looked at."""
        self._add(Mark.SKIP, what, detail)

    def _add(self, mark: Mark, what: str, detail: str) -> None:
        self.lines.append(Finding(mark, what, detail))
