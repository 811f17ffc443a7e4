"""`scripts/bench`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from tests import bench
from tests.bench.faults import faults
from tests.bench.figures import Figure
from tests.bench.memory import measure_memory
from tests.bench.outcome import recovery_tables
from tests.bench.page import measure_page
from tests.bench.recovery import measure_recovery
from tests.bench.start import measure_start

RUNS = 9


def main() -> int:
    """Measure what is asked for and print it; the exit status is 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=bench.__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        choices=["start", "memory", "page", "recovery", []],
        help="what to measure (start and memory; page, of 11 minutes, and recovery, of 15, only when asked for)",
    )
    parser.add_argument("--runs", type=int, help=f"how often ({RUNS}; recovery 5, its long rows 3)")
    parser.add_argument("--quick", action="store_true", help="once each")
    parser.add_argument("--long", action="store_true", help="recovery: the server stays away for 10 minutes, once")
    parser.add_argument("--rows", default="", metavar="TEXT", help="recovery: only the rows with this in their name")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    what = options.what or ["start", "memory"]
    runs: int | None = 1 if options.quick else options.runs
    rows = [fault for fault in faults(long=options.long) if options.rows in fault.name]
    if not rows:
        parser.error(f"no row of recovery has “{options.rows}” in its name")
    figures: list[Figure] = []
    recovered: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "start" in what:
            figures += measure_start(folder / "start", runs or RUNS)
        if "memory" in what:
            figures += measure_memory(folder / "memory", runs or RUNS)
        if "page" in what:
            figures += measure_page(folder / "page", min(runs or RUNS, 5), quick=options.quick)
        if "recovery" in what:
            recovered = measure_recovery(folder / "recovery", rows, runs)
    if options.json:
        print(json.dumps([figure.as_json() for figure in figures + recovered]))
        return 0
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}; medians")
    if figures:
        print(*figures, sep="\n")
    if recovered:
        print(recovery_tables(recovered, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
