#!/usr/bin/env python3
"""Starts, and says and does nothing more."""

import signal

from pretence import answer_help, end_on_term

answer_help()
end_on_term()
while True:
    signal.pause()
