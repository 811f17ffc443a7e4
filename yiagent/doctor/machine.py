"""Is there memory enough, does the clock run, and does the configuration keep its passwords to itself?"""

from __future__ import annotations

import resource
import stat
import time
import warnings
from pathlib import Path
from typing import Final

import psutil

from yiagent.doctor.findings import Findings
from yiagent.doctor.state import readable_bytes
from yiagent.memory import memory_available_kb
from yiagent.redact import Secret

# A camera's static build takes 2 to 3 MB, a distribution's about 60.
SMALL_FFMPEG_BYTES: Final = 4_000_000
LARGE_FFMPEG_BYTES: Final = 60_000_000
# Socket buffers hold up to 3 MB of HD video when the uplink falters.
HD_MARGIN_BYTES: Final = 4_000_000
# No certificate in use today was valid before; a camera without NTP says 1970.
EARLIEST_YEAR: Final = 2024


def examine_memory(*, ffmpeg_ran: bool, findings: Findings) -> None:
    """Look at memory and swap. What the doctor holds itself is about what the agent will, so it is not counted."""
    available_kb = memory_available_kb()
    if available_kb is None:
        findings.warn("memory", "/proc/meminfo does not tell how much of it can be had")
        return
    available = available_kb * 1024
    with warnings.catch_warnings():
        # psutil warns of counters that old kernels lack.
        warnings.simplefilter("ignore")
        total, swap = psutil.virtual_memory().total, psutil.swap_memory().total
    needed = _ffmpeg_bytes() if ffmpeg_ran else LARGE_FFMPEG_BYTES
    tell = (
        f"{readable_bytes(available)} of {readable_bytes(total)} available, "
        f"{readable_bytes(swap) if swap else 'no'} swap; ffmpeg takes about {readable_bytes(needed)}"
    )
    if available < needed:
        findings.warn("memory", f"{tell}: that will hardly fit. End other programs, add swap, or use a smaller ffmpeg")
    elif available < needed + HD_MARGIN_BYTES:
        findings.warn("memory", f"{tell}: HD will hardly fit; set stream.channel to sd")
    else:
        findings.ok("memory", f"{tell}: enough for HD")


def _ffmpeg_bytes() -> int:
    """What ffmpeg took at most while the doctor looked at it and, through it, at the camera."""
    largest_child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # Before it becomes ffmpeg, a child counts as a copy of this process; a smaller ffmpeg than that stays unseen.
    if largest_child <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        return SMALL_FFMPEG_BYTES
    return largest_child * 1024


def examine_clock(*, certificates_matter: bool, findings: Findings) -> None:
    """Look at the clock: with a wrong one, every certificate is not yet valid."""
    now = time.gmtime()
    if now.tm_year >= EARLIEST_YEAR:
        findings.ok("clock", f"{time.strftime('%Y-%m-%d %H:%M', now)} UTC")
        return
    tell = f"it says {now.tm_year}, so it was never set: let NTP set it"
    if certificates_matter:
        findings.fail("clock", f"{tell}; until then no encrypted connection is accepted")
    else:
        findings.warn("clock", f"{tell}; times in the log are wrong, and nothing encrypted will work")


def examine_file(file: Path, secrets: list[Secret], findings: Findings) -> None:
    """Look at who may read the configuration, where a secret stands in it."""
    mode = file.stat().st_mode
    # UTF-16, which some editors write, is but these letters with a NUL beside each.
    text = file.read_text(errors="replace").replace("\0", "")
    if not any(secret.reveal() in text for secret in secrets):
        findings.ok("configuration", f"{file}")
    elif mode & stat.S_IROTH:
        findings.warn("configuration", f"{file} holds a password and can be read by every user: chmod o-r {file}")
    else:
        findings.ok("configuration", f"{file}, its passwords kept from other users")
