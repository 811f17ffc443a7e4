"""What a process has cost so far: its processor time, exactly, and its memory as the kernel counts it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """Of one process, in MB (2**20 bytes): resident; its share of it; and what is its own and written to."""

    rss_mb: float
    pss_mb: float
    private_dirty_mb: float


def processor_s(pid: int) -> float:
    """Seconds of processor time of a process, of all its threads and of those that have ended.

    By the CPU clock that the kernel has for each process (clock_getcpuclockid(3): the complement of the id, shifted,
    and 2 for what the scheduler counts), in nanoseconds; /proc counts in hundredths of a second.
    """
    return time.clock_gettime((~pid << 3) | 2)


def memory_of(pid: int) -> Memory:
    """What a process holds now."""
    return parse_memory(Path(f"/proc/{pid}/smaps_rollup").read_text())


def parse_memory(text: str) -> Memory:
    """The content of /proc/PID/smaps_rollup (Linux, Documentation/filesystems/proc.rst), which is in kB."""
    rows = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    mb = {row[0]: int(row[1]) / 1024 for row in rows}
    return Memory(mb["Rss:"], mb["Pss:"], mb["Private_Dirty:"])
