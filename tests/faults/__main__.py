"""Faults done to real peers, with measured times. `scripts/faults` runs this."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from typing import Final

from tests.faults import table
from tests.faults.random_run import random_run
from tests.faults.runner import Outcome, as_json, named, run_here, run_rows
from tests.peers.namespace import bring_up_loopback

MOST_SEEDS: Final = 1_000_000


def main() -> int:
    """Run the rows that are asked for and print what they measured; 1 where one did not hold."""
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("pattern", nargs="*", help="only rows whose name holds one of these (all)")
    parser.add_argument("--list", action="store_true", help="name the rows and what happens in them")
    parser.add_argument("--quick", action="store_true", help="only the rows that are in the test suite too")
    parser.add_argument("--slack", type=float, default=1.0, help="stretch every time allowed by this (1)")
    jobs = 2 * (os.cpu_count() or 1)
    parser.add_argument(
        "--jobs", type=int, default=jobs, help="so many rows at a time; most of them wait (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--random", type=float, metavar="SECONDS", help="no rows: faults at random for so long")
    parser.add_argument("--seed", type=int, help="which ones; without it, one that is printed")
    parser.add_argument("--here", metavar="ROW", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here is not None:
        if table.ROWS[options.here].isolated:
            bring_up_loopback()
        outcome = run_here(options.here, table.ROWS[options.here], slack=options.slack)
        print(as_json([outcome]))
        return 0
    if options.random is not None:
        seed = options.seed if options.seed is not None else secrets.randbelow(MOST_SEEDS)
        return random_run(options.random, seed, slack=options.slack)
    rows = [row for row in named(options.pattern) if row.quick or not options.quick]
    if options.list:
        for row in rows:
            print(f"{row.group + ': ' + row.name:48} {row.story}")
        return 0
    outcomes: list[Outcome] = []
    began = time.monotonic()
    for outcome in run_rows(rows, slack=options.slack, jobs=min(options.jobs, len(rows))):
        outcomes.append(outcome)
        if not options.json:
            show(outcome)
    if options.json:
        print(as_json(outcomes))
    else:
        summarize(outcomes, time.monotonic() - began)
    return 1 if any(outcome.broken is not None for outcome in outcomes) or not outcomes else 0


def show(outcome: Outcome) -> None:
    """One row of the table, with what it measured."""
    verdict = "BROKEN" if outcome.broken is not None else "skipped" if outcome.skipped is not None else "held"
    print(f"{outcome.name:52} {verdict:8} {outcome.seconds:6.1f} s", flush=True)
    for held in outcome.held:
        print(f"    {held.took_s:7.2f} s  (by {held.by_s:.3g} s)  from {held.since}: {held.what}")
    for text in (outcome.broken, outcome.skipped, outcome.remark):
        if text is not None:
            print("    " + text.replace("\n", "\n    "), flush=True)


def summarize(outcomes: list[Outcome], seconds: float) -> None:
    """The count, and what was broken."""
    broken = [outcome.name for outcome in outcomes if outcome.broken is not None]
    skipped = [outcome.name for outcome in outcomes if outcome.skipped is not None]
    held = len(outcomes) - len(broken) - len(skipped)
    print(f"\n{held} rows held, {len(broken)} broken, {len(skipped)} skipped, in {seconds / 60:.1f} minutes")
    for title, names in (("broken", broken), ("skipped", skipped)):
        for name in names:
            print(f"  {title}: {name}")


if __name__ == "__main__":
    sys.exit(main())
