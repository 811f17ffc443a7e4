#!/usr/bin/env python3
"""ffmpeg with a voice beside it: writes so many lines a second to standard error, while the real one streams.

talks_as_told.py CONTROL [FFMPEG [ITS ARGUMENTS]]

CONTROL is a file of three numbers (64 bits each, of this machine): how many lines a second, and of which kind, are
read; how many were written so far is kept. Kinds: 0, each another complaint; 1, always the same one; 2, each with the
moment it is written (monotonic, in ns; `a` for 0 to `j` for 9). Without FFMPEG it only talks.
"""

import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PERIOD_S = 0.01
# Writes of up to PIPE_BUF bytes (4096) are whole: a line of ffmpeg's own never stands within one of these.
LINES_AT_ONCE = 20
PER_S, KIND, WRITTEN = range(3)
SAME, NOW = 1, 2
# What repeats but for its digits is one complaint to the agent, so numbers are told in letters.
LETTERS = str.maketrans("0123456789", "abcdefghij")
COMPLAINT = (
    "[flv @ 0x55d0c0ffee00] [warning] Non-monotonic DTS in {word} stream 0:0; previous: {number}, current: {number};"
    " changing to {number}. This may result in incorrect timestamps in the output file.\n"
)


def line(kind: int, number: int) -> str:
    """The next one."""
    if kind == NOW:
        return f"[warning] said at {time.monotonic_ns()}\n".translate(LETTERS)
    if kind == SAME:
        number = 0
    return COMPLAINT.format(word=f"{number}".translate(LETTERS), number=number)


def talk(control: Path) -> None:
    """For ever, at the pace that is told; one that is held up catches up."""
    with control.open("r+b") as file:
        numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
    owed, then = 0.0, time.monotonic()
    while True:
        time.sleep(PERIOD_S)
        now = time.monotonic()
        owed = owed + numbers[PER_S] * (now - then) if numbers[PER_S] else 0.0
        then = now
        while owed >= 1:
            count = min(int(owed), LINES_AT_ONCE)
            data = "".join(line(numbers[KIND], numbers[WRITTEN] + offset) for offset in range(count)).encode()
            while data:
                data = data[os.write(2, data) :]
            numbers[WRITTEN] += count
            owed -= count


def main() -> int:
    """ffmpeg's exit status."""
    control, *ffmpeg = sys.argv[1:]
    if "-h" in ffmpeg:
        os.execvp(ffmpeg[0], ffmpeg)
    voice = threading.Thread(target=talk, args=(Path(control),), daemon=True)
    if not ffmpeg:
        voice.start()
        signal.pause()
    # It is told to end together with ffmpeg, whose status is this one's.
    signal.signal(signal.SIGTERM, lambda *_: None)
    real = subprocess.Popen(ffmpeg)
    voice.start()
    return real.wait()


sys.exit(main())
