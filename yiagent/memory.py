"""What the kernel tells of memory run short."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_VMSTAT: Final = Path("/proc/vmstat")


def oom_kills() -> int | None:
    """How many processes the kernel ended for want of memory since boot; None where it does not count (before 4.13)."""
    try:
        for line in _VMSTAT.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        return None
    return None
