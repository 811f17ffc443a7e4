"""One target under one seed, case by case."""

from __future__ import annotations

import os
import random
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.target import Target
from tests.fuzz.watch import WATCHDOG_S, Memory, TooLong, alarm_raises, limited

# Memory is compared from here on: by then everything is imported and every buffer has had its largest content.
WARM_UP: Final = 0.1
# A case over its limit is looked at again: only what takes long every time is slow, and not the machine.
LOOKS: Final = 3


class Finding(Exception):
    """Something that must not be; the message names target, seed, case and the file that holds the input."""


@dataclass(frozen=True)
class Figures:
    """What one target was given and what it took."""

    target: str
    fed_bytes: int
    cases: int
    seconds: float
    slowest_ms: float
    slowest_case: int
    first: Memory
    last: Memory

    def __str__(self) -> str:
        megabyte = 1024 * 1024
        return (
            f"{self.target:10} {self.fed_bytes:>10} bytes {self.cases:>7} cases {self.seconds:7.1f} s"
            f"  slowest {self.slowest_ms:7.1f} ms (case {self.slowest_case})"
            f"  RSS {self.first.rss / megabyte:.1f} MB, at the end {self.last.rss / megabyte:.1f} MB"
            f" ({self.last.blocks - self.first.blocks:+} blocks)"
        )


class _Run:
    """One target under one seed."""

    def __init__(self, name: str, target: Target, seed: int, folder: Path) -> None:
        self._name = name
        self._target = target
        self._seed = seed
        self._folder = folder
        self._case = 0
        self._data = b""
        self._fed = 0
        self._slowest = (0.0, 0)
        # The input at work, for the day when nothing of this process can tell any more.
        self._at_work = (folder / f"{name}-{seed}.running").open("wb", buffering=0)

    def to_the_end(self, amount: int, *, watchdog_s: float, last_resort: bool) -> Figures:
        """Feed at least `amount` bytes. Raises `Finding`."""
        began = time.monotonic()
        first: Memory | None = None
        with alarm_raises(), self._at_work:
            while self._fed < amount:
                self._one(watchdog_s, last_resort=last_resort)
                if first is None and self._fed >= amount * WARM_UP:
                    first = Memory.now()
        last = Memory.now()
        assert first is not None
        if last.has_grown_since(first):
            raise self._finding(f"memory grew: {first}, at the end {last}")
        Path(self._at_work.name).unlink()
        slowest, case = self._slowest
        seconds = time.monotonic() - began
        return Figures(self._name, self._fed, self._case, seconds, slowest * 1000, case, first, last)

    def _one(self, watchdog_s: float, *, last_resort: bool) -> None:
        self._case += 1
        # A case depends on nothing but its number: one that takes long twice does not move those after it.
        rng = random.Random(f"{self._seed} {self._name} {self._case}")
        self._data = self._target.mutator.make(rng)
        self._fed += len(self._data)
        header = f"{self._name} seed {self._seed} case {self._case}, {len(self._data)} bytes:\n"
        os.pwrite(self._at_work.fileno(), header.encode() + self._data, 0)
        state = rng.getstate()
        took_s = float("inf")
        for _ in range(LOOKS):
            rng.setstate(state)
            took_s = min(took_s, self._feed(rng, watchdog_s, last_resort=last_resort))
            if took_s <= self._target.limit_s:
                break
        else:
            raise self._finding(f"took {took_s:.2f} s, more than {self._target.limit_s} s")
        self._slowest = max(self._slowest, (took_s, self._case))

    def _feed(self, rng: random.Random, watchdog_s: float, *, last_resort: bool) -> float:
        try:
            with limited(watchdog_s, last_resort=last_resort):
                began = time.process_time()
                self._target.feed(self._data, rng)
                return time.process_time() - began
        except TooLong:
            raise self._finding(f"did not end within {watchdog_s} s") from None
        except Exception as error:
            raise self._finding("".join(traceback.format_exception(error))) from error

    def _finding(self, what: str) -> Finding:
        file = self._folder / f"{self._name}-{self._seed}-{self._case}.bin"
        file.write_bytes(self._data)
        return Finding(f"{self._name}, seed {self._seed}, case {self._case}: {what}\nThe input is in {file}")


def fuzz(
    name: str,
    target: Target,
    *,
    amount: int,
    seed: int,
    folder: Path,
    watchdog_s: float = WATCHDOG_S,
    last_resort: bool = False,
) -> Figures:
    """Feed `target` with `amount` bytes. Raises `Finding`; the input that did it is then in `folder`.

    `last_resort`: end the process by SIGPROF where nothing else ends a case; `folder` then holds the input at work.
    """
    return _Run(name, target, seed, folder).to_the_end(amount, watchdog_s=watchdog_s, last_resort=last_resort)
