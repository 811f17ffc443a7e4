#!/usr/bin/env python3
"""Streams a little, then goes on reporting the same counters: a frozen camera under a generated sound track."""

import time

from pretence import answer_help, connect, end_on_term, report

answer_help()
end_on_term()
connect()
number = 0
while True:
    number += 1
    report(min(number, 5))
    time.sleep(0.05)
