#!/usr/bin/env python3
"""Streams for ever and ignores every signal that can be ignored."""

import signal

from pretence import answer_help, connect, report_for_ever

answer_help()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
connect()
report_for_ever()
