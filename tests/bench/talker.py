"""An ffmpeg that talks as it is told, for whatever wants to hear it."""

from __future__ import annotations

import mmap
import shlex
import sys
from enum import IntEnum
from pathlib import Path

from tests.peers.process import find_program

CHILD = Path(__file__).parents[1] / "children" / "talks_as_told.py"


class Kind(IntEnum):
    """What it says: each line another complaint, always the same one, or the moment at which it is written."""

    NEW = 0
    SAME = 1
    NOW = 2


class Talker:
    """Streams as the real one, and says besides what and as much as it is told; silent at first.

    `program` stands in ffmpeg's place; `alone` is a command that only talks.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        control = folder / "control"
        control.write_bytes(bytes(24))
        with control.open("r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
        self.alone = [sys.executable, f"{CHILD}", f"{control}"]
        self.program = folder / "ffmpeg-that-talks"
        self.program.write_text(f'#!/bin/sh\nexec {shlex.join(self.alone)} {find_program("ffmpeg")} "$@"\n')
        self.program.chmod(0o755)

    def talk(self, kind: Kind, lines_per_s: int) -> None:
        """From now on so many lines a second; 0: be silent."""
        self._numbers[1] = kind
        self._numbers[0] = lines_per_s

    @property
    def written(self) -> int:
        """Lines that were taken from it so far."""
        return self._numbers[2]
