"""What every pretended ffmpeg shares: it answers the question for its options, and reports progress."""

from __future__ import annotations

import signal
import sys
import time

HELP = """ffmpeg version 0-pretended
RTSP demuxer AVOptions:
  -timeout           <int64>      .D.........
noise AVOptions:
  -drop              <string>     ...VA...B..
"""


def answer_help() -> None:
    """End here where only the options were asked for."""
    if "-h" in sys.argv:
        print(HELP, flush=True)
        sys.exit(0)


def connect() -> None:
    """Say on standard error what ffmpeg says when both of its ends are open."""
    for line in (
        "Input #0, rtsp, from 'rtsp://camera/ch':",
        "  Stream #0:0: Video: h264 (Main), yuv420p, 1280x720, 15 fps",
        "  Stream #0:1: Audio: aac (LC), 16000 Hz, mono",
        "Output #0, flv, to 'rtmp://server/live':",
    ):
        say(f"[info] {line}")


def say(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr, flush=True)


def report(number: int, *, total_bytes: int | None = None) -> None:
    """One report on standard output, as `-progress pipe:1` makes it."""
    size = number * 30_000 if total_bytes is None else total_bytes
    print(
        f"frame={number * 8}\nfps=15.0\ntotal_size={size}\ndrop_frames=0\nspeed=1.0x\nprogress=continue",
        flush=True,
    )


def report_for_ever(period_s: float = 0.05) -> None:
    """Report growing counters until a signal comes."""
    number = 0
    while True:
        number += 1
        report(number)
        time.sleep(period_s)


def end_on_term(status: int = 255) -> None:
    """End like ffmpeg when told to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(status))
