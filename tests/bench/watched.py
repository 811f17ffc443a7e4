"""A program of which the kernel tells the moment it is started, whoever starts it."""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.peers.process import PeerError, find_program

# <sys/inotify.h>
IN_OPEN: Final = 0x20
IN_CLOEXEC: Final = 0o2000000
# struct inotify_event without a name, as it comes for a watched file.
EVENT_BYTES: Final = 16


class WatchedFfmpeg:
    """A copy of ffmpeg, and when it was started: a context manager.

    `execve` opens the file, of which inotify tells within about 0.1 ms: no wrapper stands before ffmpeg that would cost
    whoever is measured a start of its own. A copy for each contender, for all links to one file are told of alike.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "ffmpeg"
        shutil.copy2(find_program("ffmpeg"), self.path)
        self._moments: list[float] = []
        self._told = threading.Condition()

    def started_after(self, moment: float, timeout_s: float) -> float:
        """When it was first started after this moment, `time.monotonic()`; PeerError where it was not in time."""
        with self._told:
            if not self._told.wait_for(lambda: any(at > moment for at in self._moments), timeout_s):
                raise PeerError(f"{self.path} was not started within {timeout_s:g} s")
            return next(at for at in self._moments if at > moment)

    def __enter__(self) -> Self:
        library = ctypes.CDLL(None, use_errno=True)
        self._watch = library.inotify_init1(IN_CLOEXEC)
        if self._watch < 0 or library.inotify_add_watch(self._watch, os.fsencode(self.path), IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), f"inotify on {self.path}")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file's end is an event too, which ends the thread's reading.
        self.path.unlink()
        self._thread.join()
        os.close(self._watch)

    def _read(self) -> None:
        while True:
            events = os.read(self._watch, 64 * EVENT_BYTES)
            now = time.monotonic()
            for start in range(0, len(events), EVENT_BYTES):
                if not int.from_bytes(events[start + 4 : start + 8], "little") & IN_OPEN:
                    return
                with self._told:
                    self._moments.append(now)
                    self._told.notify_all()
