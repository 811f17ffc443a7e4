"""Memory run short: what the kernel tells of it, and what it is offered first."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

# On a camera its own processes must be the last to die; and without ffmpeg the agent can still say what happened.
AGENT_OOM_SCORE: Final = 300
REMUX_OOM_SCORE: Final = 600
_VMSTAT: Final = Path("/proc/vmstat")


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
