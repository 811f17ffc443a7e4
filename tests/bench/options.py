"""What a measurement is asked for."""

from __future__ import annotations

from dataclasses import dataclass

RUNS = 5


@dataclass(frozen=True)
class Options:
    """`runs`: how often each is measured. `quick`: as little as shows that it works; the figures are worth nothing.

    `long`: also what takes ten minutes a row. `rows`: of `recovery`, only the rows with this in their name.
    """

    runs: int = RUNS
    quick: bool = False
    long: bool = False
    rows: str = ""
