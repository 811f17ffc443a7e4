#!/usr/bin/env python3
"""Streams a moment and dies of a segmentation fault."""

import os
import signal
import time

from pretence import answer_help, connect, report

answer_help()
connect()
for number in range(1, 6):
    report(number)
    time.sleep(0.05)
os.kill(os.getpid(), signal.SIGSEGV)
time.sleep(60)
