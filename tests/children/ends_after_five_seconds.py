#!/usr/bin/env python3
"""The real ffmpeg, which sends five seconds of real media and then ends, content, with status 0."""

import os
import sys

arguments = sys.argv[1:]
if "flv" in arguments:
    # Before `-f flv URL`, where it is the output's.
    arguments[-3:-3] = ["-t", "5"]
program = os.environ.get("YIAGENT_TEST_FFMPEG", "ffmpeg")
os.execvp(program, [program, *arguments])
