"""All figures of a run as one table: on a terminal, in the README, and for machines."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.figures import OURS, Figure, number
from tests.peers.process import find_program

HEADINGS = ["", OURS, "beside it", "n", "aim"]


@dataclass
class Report:
    """What was measured, section by section, and where."""

    machine: dict[str, str]
    sections: dict[str, list[Figure]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {
            "machine": self.machine,
            "sections": {name: [figure.as_json() for figure in figures] for name, figures in self.sections.items()},
        }

    @classmethod
    def load(cls, files: list[Path]) -> Report:
        """What earlier runs kept; of a section that more than one has, the last one's."""
        report = cls({})
        for file in files:
            kept = json.loads(file.read_text())
            report.machine = report.machine or kept["machine"]
            for name, figures in kept["sections"].items():
                report.sections[name] = [Figure.from_json(figure) for figure in figures]
        return report

    @property
    def heading(self) -> str:
        """When and where."""
        return ", ".join(self.machine.values())

    def text(self, *, only: str = "") -> str:
        """For a terminal. `only`: this section alone."""
        parts = []
        for name, figures in self.sections.items():
            if only in ("", name):
                parts.append(_columns([[name, *HEADINGS[1:]], *_rows(figures)]))
        return "\n\n".join(parts)

    def markdown(self) -> str:
        """For the README."""
        lines = []
        for name, figures in self.sections.items():
            lines += ["", f"| **{name}** | {' | '.join(HEADINGS[1:])} |", "|---|---|---|---|---|"]
            lines += [f"| {' | '.join(row)} |" for row in _rows(figures)]
        return "\n".join([f"*{self.heading}*", *lines])


def _rows(figures: list[Figure]) -> list[list[str]]:
    """A row for each thing that was measured, of all who did it."""
    rows = []
    for what in dict.fromkeys(figure.what for figure in figures):
        together = [figure for figure in figures if figure.what == what]
        ours = [figure for figure in together if figure.who == OURS]
        others = [f"{figure.who}: {figure}" for figure in together if figure.who != OURS]
        aims = [_verdict(figure) for figure in together if figure.aim is not None]
        counts = sorted({len(figure.values) for figure in together})
        rows.append(
            [
                f"{what}, {together[0].unit}" if together[0].unit else what,
                ", ".join(map(str, ours)),
                "; ".join(others),
                "–".join(map(str, counts)),
                ", ".join(aims),
            ]
        )
    return rows


def _verdict(figure: Figure) -> str:
    assert figure.aim is not None
    return f"≤ {number(figure.aim)}: {'met' if figure.is_met else 'MISSED'}"


def _columns(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def this_machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": _processor(),
        "system": f"Linux {platform.release().partition('-')[0]} {platform.machine()}",
        "python": f"Python {platform.python_version()}",
        "ffmpeg": _first_words(["ffmpeg", "-version"], 3).replace("ffmpeg version", "ffmpeg"),
        "mosquitto": _first_words([find_program("mosquitto"), "-h"], 3).replace("mosquitto version", "mosquitto"),
        "nginx": _first_words([find_program("nginx"), "-v"], 3).replace("nginx version: nginx/", "nginx "),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} × {names[0] if names else platform.machine()}"


def _first_words(command: list[str], count: int) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return " ".join((done.stdout or done.stderr).split()[:count])
