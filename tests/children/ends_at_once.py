#!/usr/bin/env python3
"""Ends with status 0 without having done anything."""

from pretence import answer_help

answer_help()
