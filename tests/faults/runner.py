"""Runs rows: each on a stage of its own, its outcome with the measured times."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from tests.faults.row import ROWS, Row
from tests.faults.scene import Held, NotHeld, Scene
from tests.peers.camera import REPOSITORY
from tests.peers.namespace import namespace_prefix, why_not
from tests.peers.process import PeerError

# A row that takes longer than this hangs.
LONGEST_ROW_S: Final = 300.0


@dataclass(frozen=True)
class Outcome:
    """What came of a row. `skipped`: why it could not be run here; `broken`: what did not hold, None where all did."""

    name: str
    seconds: float = 0.0
    held: list[Held] = field(default_factory=list)
    broken: str | None = None
    skipped: str | None = None
    remark: str | None = None

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """An outcome that another process printed."""
        return cls(**{**document, "held": [Held(**held) for held in document["held"]]})


def run_row(row: Row, *, slack: float = 1.0) -> Outcome:
    """Run one row, in a namespace of its own where it asks for one."""
    name = f"{row.group}: {row.name}"
    hindrance = row.hindrance()
    if row.isolated:
        hindrance = hindrance or why_not()
    if hindrance is not None:
        return Outcome(name, skipped=hindrance)
    if row.isolated:
        return _run_apart(name, row, slack)
    return run_here(name, row, slack=slack)


def run_rows(rows: list[Row], *, slack: float = 1.0, jobs: int = 1) -> Iterator[Outcome]:
    """Run rows, so many at a time, each in a process of its own; their outcomes in the order of the rows.

    What broke among others is run again alone, which decides: the machine may have been busy.
    """
    if jobs == 1:
        yield from (run_row(row, slack=slack) for row in rows)
        return
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(jobs):
        slots.put(number)

    def run(row: Row) -> Outcome:
        hindrance = row.hindrance() or (why_not() if row.isolated else None)
        if hindrance is not None:
            return Outcome(f"{row.group}: {row.name}", skipped=hindrance)
        slot = slots.get()
        try:
            # By these, free_port() gives each of them another share of the ports.
            share = {"PYTEST_XDIST_WORKER": f"gw{slot}", "PYTEST_XDIST_WORKER_COUNT": f"{jobs}"}
            return _run_apart(f"{row.group}: {row.name}", row, slack, share)
        finally:
            slots.put(slot)

    broken: list[tuple[Row, Outcome]] = []
    with ThreadPoolExecutor(jobs) as pool:
        for row, outcome in zip(rows, pool.map(run, rows), strict=True):
            if outcome.broken is None:
                yield outcome
            else:
                broken.append((row, outcome))
    for row, first in broken:
        alone = run_row(row, slack=slack)
        remark = None if alone.broken is not None else f"only alone; among others: {first.broken}"
        yield replace(alone, remark=remark)


def run_here(name: str, row: Row, *, slack: float = 1.0) -> Outcome:
    """Run one row in this process."""
    began = time.monotonic()
    broken: str | None = None
    held: list[Held] = []
    with tempfile.TemporaryDirectory(prefix="yiagent-faults-", ignore_cleanup_errors=True) as folder:
        try:
            with Scene(Path(folder), slack=slack) as scene:
                held = scene.held
                row.act(scene)
                scene.finish()
        except (NotHeld, PeerError, AssertionError) as error:
            broken = f"{error}" or _where(error)
        except Exception as error:
            broken = f"{type(error).__name__}: {error} {_where(error)}"
    return Outcome(name, time.monotonic() - began, held, broken)


def _run_apart(name: str, row: Row, slack: float, environment: dict[str, str] | None = None) -> Outcome:
    prefix = namespace_prefix() if row.isolated else []
    assert prefix is not None
    command = [*prefix, sys.executable, "-m", "tests.faults", "--here", name, "--slack", f"{slack}", "--json"]
    try:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_ROW_S,
        )
        return Outcome.from_json(json.loads(done.stdout)[0])
    except subprocess.TimeoutExpired:
        return Outcome(name, LONGEST_ROW_S, broken=f"it hangs: not done after {LONGEST_ROW_S:g} s")
    except (ValueError, LookupError):
        return Outcome(name, broken=f"the process of its own ended with {done.returncode}: {done.stderr[-2000:]}")


def named(patterns: list[str]) -> list[Row]:
    """The rows whose name holds one of the patterns; all where there is none."""
    return [row for name, row in ROWS.items() if not patterns or any(pattern in name for pattern in patterns)]


def as_json(outcomes: list[Outcome]) -> str:
    """For machines."""
    return json.dumps([asdict(outcome) for outcome in outcomes])


def _where(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"({Path(place.filename).name}, line {place.lineno}: {place.line})"
