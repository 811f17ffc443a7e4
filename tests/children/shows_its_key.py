#!/usr/bin/env python3
"""Prints its whole command line as an error, in pieces and at the end of an endless line, and fails."""

import sys

from pretence import answer_help, say

answer_help()
words = " ".join(sys.argv)
say(f"[error] cannot do: {words}")
say(f"[rtmp @ 0x55d5c] [error] Server error: refused {sys.argv[sys.argv.index('-rtmp_playpath') + 1]}")
sys.stderr.write("[error] " + (words + " ") * 100 + "\n")
sys.exit(1)
