#!/usr/bin/env python3
"""Streams while it writes a different complaint ten thousand times a second."""

import sys
import threading
import time

from pretence import answer_help, connect, end_on_term, report_for_ever


def talk() -> None:
    number = 0
    while True:
        for _ in range(100):
            number += 1
            word = "".join(chr(97 + (number >> shift) % 26) for shift in (0, 5, 10, 15))
            sys.stderr.write(f"[warning] something {word} is odd\n")
        sys.stderr.flush()
        time.sleep(0.01)


answer_help()
end_on_term()
connect()
threading.Thread(target=talk, daemon=True).start()
report_for_ever()
