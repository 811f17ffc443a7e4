"""What a process has cost so far, exactly."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """Of one process, in MB of 2^20 bytes: resident; its share of that; and what it has written and nobody else has."""

    rss_mb: float
    pss_mb: float
    private_dirty_mb: float


def processor_s(pid: int) -> float:
    """Processor time of all threads of a process, ended ones included, in seconds.

    By the kernel's clock for a pid (clock_getcpuclockid(3), Linux's posix-timers.h): in nanoseconds, where /proc counts
    in ticks of 10 ms.
    """
    return time.clock_gettime((~pid << 3) | 2)


def memory_of(pid: int) -> Memory:
    """By the kernel's own sums over all mappings (proc_pid_smaps_rollup(5))."""
    return parse_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text())


def parse_rollup(text: str) -> Memory:
    """What `smaps_rollup` says: `Rss:   1234 kB`, a line for each kind."""
    fields = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and value.endswith(" kB"):
            fields[name] = int(value.removesuffix(" kB")) / 1024
    return Memory(fields["Rss"], fields["Pss"], fields["Private_Dirty"])
