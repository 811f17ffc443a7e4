"""The ffmpeg that is installed: found, and asked what it can do, anew whenever another one takes its place."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from yiagent.child import run_to_end
from yiagent.ffmpeg import (
    Capabilities,
    capabilities_arguments,
    keyframe_arguments,
    missing_message,
    parse_capabilities,
    parse_picks_keyframes,
)
from yiagent.model import Failure, Reason, ReasonCode
from yiagent.store import Journal

# ffmpeg tells what it can do within a second even on a camera.
ANSWER_TIMEOUT_S: Final = 5.0
MOST_BYTES: Final = 1 << 20
# Refusals that pass by themselves: no memory, no room for another process, thread or open file.
_PASSING: Final = frozenset({errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE})


class FfmpegUnusable(Exception):
    """ffmpeg cannot be run; `failure` says why."""

    def __init__(
        self, message: str, code: ReasonCode = ReasonCode.FFMPEG_MISSING, *, needs_person: bool = True
    ) -> None:
        super().__init__(message)
        self.failure = Failure(Reason(code, message), needs_person)


class InstalledFfmpeg:
    """`program` is a name on the PATH, or a path. `pictures`: whether it will be asked to hand on keyframes too."""

    def __init__(self, program: str, journal: Journal, *, pictures: bool = False) -> None:
        self.program = program
        self._journal = journal
        self._pictures = pictures
        self._known: Capabilities | None = None
        self._known_of: object = None
        self._turn = asyncio.Lock()

    @property
    def version(self) -> str | None:
        """Its version; None while none could be run."""
        return self._known.version if self._known is not None else None

    async def capabilities(self) -> Capabilities:
        """What it can do, asked once for each file that stands there. Raises `FfmpegUnusable`."""
        async with self._turn:
            path = _find(self.program)
            try:
                if path is None:
                    raise FfmpegUnusable(_why_not(self.program))
                status = os.stat(path)  # noqa: PTH116 - Path.stat() is refused here as slow, which stat(2) is not
                identity = (path, status.st_mtime_ns, status.st_size, status.st_ino)
                if self._known is None or identity != self._known_of:
                    self._known, self._known_of = await self._ask(path), identity
            except OSError as error:
                self._known = None
                raise cannot_start(self.program, error) from None
            except FfmpegUnusable:
                self._known = None
                raise
            return self._known

    async def _ask(self, path: str) -> Capabilities:
        command = [path, *capabilities_arguments()]
        _, output = await run_to_end(command, timeout_s=ANSWER_TIMEOUT_S, most_bytes=MOST_BYTES)
        capabilities = parse_capabilities(output)
        if capabilities is not None:
            return replace(capabilities, picks_keyframes=self._pictures and await self._picks_keyframes(path))
        self._journal.warning(f"{path} did not say which version it is; going on as with a current ffmpeg")
        return Capabilities("unknown", "timeout")

    async def _picks_keyframes(self, path: str) -> bool:
        command = [path, *keyframe_arguments()]
        _, output = await run_to_end(command, timeout_s=ANSWER_TIMEOUT_S, most_bytes=MOST_BYTES)
        return parse_picks_keyframes(output)


def _find(program: str) -> str | None:
    """Where the program is; None where there is none that may be run."""
    if "/" in program:
        return program if os.access(program, os.X_OK) and not Path(program).is_dir() else None
    # Only for a bare name: with what it imports it takes 0.2 MB, and on a camera the path is given.
    from shutil import which

    return which(program)


def _why_not(program: str) -> str:
    """Why what lies there, if anything does, is no program."""
    path = Path(program)
    if "/" not in program or not path.exists():
        return missing_message(program)
    what = "is a folder" if path.is_dir() else "may not be executed by this user (chmod +x)"
    return f"“{program}” {what}. Set `ffmpeg:` to where ffmpeg is."


def cannot_start(program: str, error: OSError) -> FfmpegUnusable:
    """The system's refusal to start it, in words."""
    if isinstance(error, FileNotFoundError):
        return FfmpegUnusable(missing_message(program))
    if error.errno in _PASSING:
        code = ReasonCode.OUT_OF_MEMORY if error.errno == errno.ENOMEM else ReasonCode.FFMPEG_MISSING
        message = f"This machine has no room to start ffmpeg just now: {error.strerror}."
        return FfmpegUnusable(message, code, needs_person=False)
    return FfmpegUnusable(f"{program} cannot be started: {error.strerror}.")
