"""What a case may take: time, held by signals, and memory."""

from __future__ import annotations

import contextlib
import gc
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# No case may take so long, whatever else the machine does.
WATCHDOG_S: Final = 30.0
# Code that hears no signal while it works is ended by the kernel after so much of its time.
LAST_RESORT_S: Final = 60.0
# A byte kept for every byte that came would be more; what the allocator wins and loses by itself is less.
GROWTH_BYTES: Final = 8 * 1024 * 1024
# Of Python's own small blocks not one is lost by itself: an object kept for every fifth case would be more.
GROWTH_BLOCKS: Final = 1000


class TooLong(BaseException):
    """Raised in the middle of a case that does not end; nothing in between may catch it."""


@contextlib.contextmanager
def alarm_raises() -> Iterator[None]:
    """Within it, a case that goes on over its limit is left by `TooLong`; afterwards no limit holds any more."""

    def ring(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def limited(watchdog_s: float, *, last_resort: bool) -> Iterator[None]:
    """One case, ended by `TooLong` after `watchdog_s`, or by the kernel with the process if it is `last_resort`."""
    if last_resort:
        signal.setitimer(signal.ITIMER_PROF, LAST_RESORT_S)
    signal.setitimer(signal.ITIMER_REAL, watchdog_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@dataclass(frozen=True)
class Memory:
    """What the process holds: bytes, and blocks of Python's own allocator."""

    rss: int
    blocks: int

    @classmethod
    def now(cls) -> Memory:
        """What this process holds once the garbage is gone."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(pages * resource.getpagesize(), sys.getallocatedblocks())

    def has_grown_since(self, first: Memory) -> bool:
        """By more than is won and lost by itself."""
        return self.rss - first.rss > GROWTH_BYTES or self.blocks - first.blocks > GROWTH_BLOCKS
