"""`scripts/bench`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from tests import bench
from tests.bench.figures import Figure
from tests.bench.fleet import measure_fleet
from tests.bench.options import RUNS, Options
from tests.bench.page import measure_page
from tests.bench.recovery import measure_recovery
from tests.bench.report import Report, this_machine
from tests.bench.start import measure_start
from tests.bench.startup import measure_startup
from tests.bench.telemetry import measure_telemetry
from tests.bench.weight import measure_weight

SECTIONS: dict[str, Callable[[Path, Options], list[Figure]]] = {
    "start": measure_start,
    "recovery": measure_recovery,
    "weight": measure_weight,
    "startup": measure_startup,
    "telemetry": measure_telemetry,
    "fleet": measure_fleet,
    "page": measure_page,
}


def main() -> int:
    """Measure what is asked for and print it; 0 whatever the figures are, 1 where something could not be measured."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=bench.__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="what to measure (all of it)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how often each ({RUNS})")
    parser.add_argument("--quick", action="store_true", help="once each, and short: only to see that it works")
    parser.add_argument("--long", action="store_true", help="recovery: also the server away for 10 minutes")
    parser.add_argument("--rows", default="", metavar="TEXT", help="recovery: only the rows with this in their name")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the figures there, after each section")
    parser.add_argument("--show", type=Path, nargs="+", metavar="FILE", help="measure nothing; print what was kept")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="for machines")
    how.add_argument("--markdown", action="store_true", help="for the README")
    asked = parser.parse_args()
    options = Options(1 if asked.quick else asked.runs, asked.quick, asked.long, asked.rows)
    if asked.show:
        report, failed = Report.load(asked.show), False
    else:
        report = Report(this_machine())
        failed = _measure(report, asked.sections or list(SECTIONS), options, asked.save)
    if asked.json:
        print(json.dumps(report.as_json(), ensure_ascii=False))
    elif asked.markdown:
        print(report.markdown())
    else:
        print(f"{report.text()}\n\n{report.heading}; medians, with the least and the greatest")
    return 1 if failed else 0


def _measure(report: Report, sections: list[str], options: Options, save: Path | None) -> bool:
    """Into `report`; whether one failed. What is done is told at once, for all of it takes an hour."""
    failed = False
    for name in sections:
        _tell(f"--- {name}")
        with tempfile.TemporaryDirectory() as folder:
            try:
                report.sections[name] = SECTIONS[name](Path(folder), options)
            except Exception:
                # An hour is not thrown away for one section's mishap.
                _tell(traceback.format_exc())
                failed = True
                continue
        _tell(report.text(only=name))
        if save is not None:
            save.write_text(json.dumps(report.as_json(), ensure_ascii=False))
    return failed


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
