"""What a measurement leaves behind."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass

OURS = "yiagent"


@dataclass(frozen=True)
class Figure:
    """One measured thing: its values in `unit`, of `who`, and the aim that the median is held against where there is
    one. A value of None is what did not happen within `limit`.

    Figures with the same `what` are of the same work in the same run, and stand side by side. `column`: where several
    things are measured of each `what`, which of them this is; they make a table of their own.
    """

    what: str
    unit: str
    values: list[float | None]
    who: str = OURS
    aim: float | None = None
    limit: float | None = None
    column: str = ""

    @property
    def median(self) -> float | None:
        """The median; None where half of it or more did not happen."""
        middle = statistics.median(math.inf if value is None else value for value in self.values)
        return None if math.isinf(middle) else middle

    @property
    def is_met(self) -> bool | None:
        """Whether the median keeps to the aim; None without one."""
        if self.aim is None:
            return None
        return self.median is not None and self.median <= self.aim

    def as_json(self) -> dict[str, object]:
        """All of it, for machines; null is what did not happen within `limit`."""
        return {**asdict(self), "median": self.median, "met": self.is_met}

    @classmethod
    def from_json(cls, fields: dict[str, object]) -> Figure:
        """What `as_json` gave."""
        return cls(**{name: value for name, value in fields.items() if name not in ("median", "met")})  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Its median, and from where to where its values go."""
        if self.median is None:
            return "never" if self.limit is None else f"never in {number(self.limit)}"
        if len(self.values) == 1:
            return number(self.median)
        happened = [value for value in self.values if value is not None]
        most = number(max(happened)) if len(happened) == len(self.values) else "never"
        return f"{number(self.median)} ({number(min(happened))}–{most})"


def number(value: float) -> str:
    """Three digits of it, or as many as stand before the point; none that say nothing."""
    size = abs(value)
    text = (
        f"{value:.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 0.1
        else f"{value:.3f}"
    )
    return text.rstrip("0").rstrip(".") if "." in text else text
