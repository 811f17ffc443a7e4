"""One ffmpeg process: started without a shell, listened to, signalled as a group, and reported gone exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from typing import Final

from yiagent.model import Progress
from yiagent.progress import LineSplitter, ProgressParser

READ_BYTES: Final = 16 * 1024
# A grandchild that holds the pipes open must not hide that the child itself is gone.
DRAIN_S: Final = 1.0

OnLine = Callable[[str, bool], None]
OnProgress = Callable[[Progress], None]


class Child:
    """A running process in a session of its own. Made by `start`; `wait` ends when nothing of it is left to hear."""

    def __init__(self, process: asyncio.subprocess.Process, on_line: OnLine, on_progress: OnProgress) -> None:
        self._process = process
        self._on_line = on_line
        self._on_progress = on_progress

    @classmethod
    async def start(cls, command: Sequence[str], on_line: OnLine, on_progress: OnProgress) -> Child:
        """Start `command`. `on_line` gets each line of standard error and whether it was cut. Raises `OSError`."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            # Messages are matched in English; the language of the machine must not change them.
            env={**os.environ, "LC_ALL": "C", "AV_LOG_FORCE_NOCOLOR": "1"},
        )
        return cls(process, on_line, on_progress)

    @property
    def pid(self) -> int:
        """The process id, which is also its process group's."""
        return self._process.pid

    async def wait(self) -> int:
        """Read until both pipes close, and give the exit status (negative: ended by that signal)."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        readers = [
            asyncio.create_task(self._read_lines(self._process.stderr)),
            asyncio.create_task(self._read_progress(self._process.stdout)),
        ]
        try:
            status = await self._process.wait()
            _, unfinished = await asyncio.wait(readers, timeout=DRAIN_S)
            if unfinished:
                # Something it started still holds its pipes: nothing of a launch may outlive it.
                self.send(signal.SIGKILL)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        return status

    def send(self, number: signal.Signals) -> None:
        """Signal the whole process group; one that is gone already is no error."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _read_lines(self, stream: asyncio.StreamReader) -> None:
        splitter = LineSplitter()
        while data := await stream.read(READ_BYTES):
            for line, cut in splitter.feed(data):
                self._on_line(line, cut)
            # A child that never stops talking must not keep commands and timers waiting.
            await asyncio.sleep(0)
        for line, cut in splitter.feed(b"\n"):
            self._on_line(line, cut)

    async def _read_progress(self, stream: asyncio.StreamReader) -> None:
        parser = ProgressParser()
        while data := await stream.read(READ_BYTES):
            for report in parser.feed(data):
                self._on_progress(report)
            await asyncio.sleep(0)


async def run_to_end(command: Sequence[str], *, timeout_s: float, most_bytes: int) -> tuple[int | None, str]:
    """Run a short command: its status (None where it was ended for taking too long) and what it printed on both pipes.

    Raises `OSError` where it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "LC_ALL": "C", "AV_LOG_FORCE_NOCOLOR": "1"},
    )
    assert process.stdout is not None
    output = b""
    status: int | None = None
    try:
        async with asyncio.timeout(timeout_s):
            while (data := await process.stdout.read(READ_BYTES)) and len(output) < most_bytes:
                output += data
            status = await process.wait()
    except TimeoutError:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return status, output.decode("utf-8", "replace")
