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
        tables = [_columns(table) for name in self.sections if only in ("", name) for table in self._tables(name)]
        return "\n\n".join(tables)

    def markdown(self) -> str:
        """For the README."""
        lines = [f"*{self.heading}*"]
        for name in self.sections:
            for heading, *rows in self._tables(name):
                lines += ["", _marked([f"**{heading[0]}**", *heading[1:]]), "|---" * len(heading) + "|"]
                lines += [_marked(row) for row in rows]
        return "\n".join(lines)

    def _tables(self, name: str) -> list[list[list[str]]]:
        """The section's tables, each with its heading."""
        figures = self.sections[name]
        columns = list(dict.fromkeys(f"{figure.column}, {figure.unit}" for figure in figures if figure.column))
        counts = _counts([figure for figure in figures if figure.column])
        tables = [[[f"{name}, n = {counts}", *columns], *_matrix(figures, columns)]] if columns else []
        if plain := [figure for figure in figures if not figure.column]:
            tables.append([[name, *HEADINGS[1:]], *_rows(plain)])
        return tables


def _matrix(figures: list[Figure], columns: list[str]) -> list[list[str]]:
    """A row for each thing and each who, with what was measured of it in columns."""
    rows: dict[str, dict[str, str]] = {}
    for figure in figures:
        if figure.column:
            cells = rows.setdefault(figure.what if figure.who == OURS else f"{figure.what}: {figure.who}", {})
            verdict = f"; {_verdict(figure)}" if figure.aim is not None else ""
            cells[f"{figure.column}, {figure.unit}"] = f"{figure}{verdict}"
    return [[name, *(cells.get(column, "") for column in columns)] for name, cells in rows.items()]


def _counts(figures: list[Figure]) -> str:
    return "–".join(map(str, sorted({len(figure.values) for figure in figures})))


def _marked(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _rows(figures: list[Figure]) -> list[list[str]]:
    """A row for each thing that was measured, of all who did it."""
    rows = []
    for what in dict.fromkeys(figure.what for figure in figures):
        together = [figure for figure in figures if figure.what == what]
        ours = [figure for figure in together if figure.who == OURS]
        others = [f"{figure.who}: {figure}" for figure in together if figure.who != OURS]
        aims = [_verdict(figure) for figure in together if figure.aim is not None]
        rows.append(
            [
                f"{what}, {together[0].unit}" if together[0].unit else what,
                ", ".join(map(str, ours)),
                "; ".join(others),
                _counts(together),
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
