#!/usr/bin/env python3
"""Counts frames while not one byte more leaves, as ffmpeg 7 does against a server that refuses at the first write."""

import time

from pretence import answer_help, connect, end_on_term, report

answer_help()
end_on_term()
connect()
number = 0
while True:
    number += 1
    report(number, total_bytes=378)
    time.sleep(0.05)
