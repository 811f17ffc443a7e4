#!/usr/bin/env python3
"""Streams, ignores the first SIGTERM and ends at the second, like a blocked ffmpeg."""

import signal
import sys

from pretence import answer_help, connect, report_for_ever

answer_help()
received: list[int] = []
signal.signal(signal.SIGTERM, lambda *_: sys.exit(255) if received else received.append(1))
connect()
report_for_ever()
