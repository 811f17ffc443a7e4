#!/usr/bin/env python3
"""Streams for ever and ends when told to: the well-behaved one."""

from pretence import answer_help, connect, end_on_term, report_for_ever

answer_help()
end_on_term()
connect()
report_for_ever()
