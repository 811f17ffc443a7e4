"""The pipe by which a remux hands its keyframes to the agent: read always and at once, and never closed on ffmpeg.

A full pipe would hold ffmpeg up, and with it the stream; a closed one would end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from typing import Final

from yiagent.keyframes import KeyframeKeeper

# A keyframe goes in whole, so that ffmpeg goes on while the agent is at something else for a moment (64 kB by default).
PIPE_BYTES: Final = 256 << 10
READ_BYTES: Final = 64 << 10


class Tap:
    """One launch's pipe. `on_keyframe` is called after each new keyframe. Raises `OSError` where there is no room."""

    def __init__(self, on_keyframe: Callable[[], None]) -> None:
        self._on_keyframe = on_keyframe
        self._keeper = KeyframeKeeper()
        self._at: float | None = None
        self._loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        self._reader: int | None = reader
        self._writer: int | None = writer
        with contextlib.suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(reader, False)
        self._loop.add_reader(reader, self._read)

    @property
    def writer(self) -> int:
        """The descriptor that ffmpeg writes to; before `handed_over` only."""
        assert self._writer is not None
        return self._writer

    @property
    def has_keyframe(self) -> bool:
        """Whether the first one has come."""
        return self._at is not None

    @property
    def keyframe(self) -> bytes | None:
        """The latest keyframe as an FLV file; None before the first."""
        return self._keeper.flv

    @property
    def age_s(self) -> float:
        """For how long the latest keyframe has been here."""
        return time.monotonic() - self._at if self._at is not None else 0.0

    def handed_over(self) -> None:
        """ffmpeg has its end, or was not started: the agent's copy of it would keep the pipe open for ever."""
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    def close(self) -> None:
        """Let go of everything; called when ffmpeg is gone."""
        self.handed_over()
        self._stop_reading()
        self._keeper = KeyframeKeeper()
        self._at = None

    def _read(self) -> None:
        assert self._reader is not None
        try:
            data = os.read(self._reader, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._stop_reading()
        elif self._keeper.feed(data):
            self._at = time.monotonic()
            self._on_keyframe()

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._loop.remove_reader(self._reader)
            os.close(self._reader)
            self._reader = None
