"""Memory: how much can be had, what the kernel tells of it running short, and what it is offered first."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

# On a camera its own processes must be the last to die; and without ffmpeg the agent can still say what happened.
AGENT_OOM_SCORE: Final = 300
REMUX_OOM_SCORE: Final = 600
_MEMINFO: Final = Path("/proc/meminfo")
_VMSTAT: Final = Path("/proc/vmstat")


def memory_available_kb(meminfo: Path = _MEMINFO) -> int | None:
    """The memory that a program could still be given without another one losing its own; None where nothing tells.

    Kernels before 3.14 have no figure for it: there it is what is free or holds copies of what is on disks. `Cached`
    counts what lies in a tmpfs too, which nothing can drop: half a camera's memory when /tmp fills up. It errs on the
    high side, for it also counts the pages of the programs that are running.
    """
    # Not by psutil: before 3.14 it goes through the zones' watermarks, and with them through a large file each time.
    try:
        with meminfo.open("rb") as lines:
            told = {name: int(rest.split()[0]) for name, _, rest in (line.partition(b":") for line in lines)}
    except (OSError, ValueError, IndexError):
        return None
    # Some containers say 0 there for "not known".
    if available := told.get(b"MemAvailable"):
        return available
    if b"MemFree" not in told:
        return None
    cached = max(0, told.get(b"Cached", 0) - told.get(b"Shmem", 0))
    return told[b"MemFree"] + told.get(b"Buffers", 0) + cached


def offer_to_oom_killer(pid: int, score: int) -> None:
    """Have the kernel end this process sooner than others when memory runs out. Never makes it less likely."""
    path = Path(f"/proc/{pid}/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        # Anyone may raise it; lowering it would need a privilege, and the owner may have had a reason.
        if int(path.read_text()) < score:
            path.write_text(f"{score}")


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


def was_killed_for_memory(kills_before: int | None) -> bool:
    """Whether the kernel ended something for want of memory since it had ended so many.

    A kernel that does not count gets the benefit: on a small machine SIGKILL from outside has hardly another cause.
    """
    kills = oom_kills()
    return kills is None or kills_before is None or kills > kills_before
