"""The agent with its wall clock shifted: `python -m tests.faults.shifted_clock run -c FILE`.

`YIAGENT_FAULTS_CLOCK` names a file with the seconds to add to `time.time()`; it is read anew at every look at the
clock, so a test makes the clock jump by writing to it. It stands in for NTP, or a person, setting the machine's clock:
that cannot be had for one process alone, since the kernel's time namespaces leave the wall clock out. All of the
agent's Python is under it; ffmpeg, a program of its own, is not.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

CLOCK_FILE: Final = "YIAGENT_FAULTS_CLOCK"


def shift_the_clock() -> None:
    """From now on, `time.time()` is shifted by what the file says."""
    file = Path(os.environ[CLOCK_FILE])
    real = time.time
    time.time = lambda: real() + float(file.read_text())


def main() -> int:
    """The agent; its exit status."""
    # Before anything of the agent's is imported, which may keep the function.
    shift_the_clock()
    from yiagent.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
