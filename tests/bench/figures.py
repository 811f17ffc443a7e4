"""What a measurement leaves behind, and how it is printed."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured thing: its values in `unit`, and the aim that the median is held against where there is one.

    A value of None is what did not happen within `limit`.
    """

    name: str
    unit: str
    values: list[float | None]
    aim: float | None = None
    limit: float | None = None

    @property
    def median(self) -> float | None:
        """The median; None where half of it or more did not happen."""
        middle = statistics.median(math.inf if value is None else value for value in self.values)
        return None if math.isinf(middle) else middle

    @property
    def verdict(self) -> str:
        """Whether the aim is met; empty without one."""
        if self.aim is None:
            return ""
        return f"aim ≤ {self.aim:g}: {'met' if self.median is not None and self.median <= self.aim else 'MISSED'}"

    @property
    def spread(self) -> str:
        """The least and the greatest value."""
        happened = [value for value in self.values if value is not None]
        if not happened:
            return ""
        most = f"{max(happened):.1f}" if len(happened) == len(self.values) else self._never
        return f"{min(happened):.1f} to {most}"

    @property
    def short(self) -> str:
        """The median, for a table's cell."""
        return self._never if self.median is None else f"{self.median:.1f}"

    def as_json(self) -> dict[str, object]:
        """All of it, for machines; null is what did not happen within `limit`."""
        return {
            "name": self.name,
            "unit": self.unit,
            "values": self.values,
            "aim": self.aim,
            "limit": self.limit,
            "median": self.median,
        }

    def __str__(self) -> str:
        spread = f"{self.spread}, n={len(self.values)}" if self.spread else f"n={len(self.values)}"
        return f"{self.name:58} {self.short:>8} {self.unit:3} ({spread})  {self.verdict}".rstrip()

    @property
    def _never(self) -> str:
        return "never" if self.limit is None else f"never ({self.limit:g} {self.unit})"


def table(rows: list[list[str]]) -> str:
    """The rows in columns, the first row a heading; all columns but the first stand to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
