"""One ffmpeg process: started without a shell, listened to, signalled as a group, and reported gone exactly once.

asyncio's protocols rather than its streams: `Process.wait` ends only when both pipes are closed, which a grandchild
that holds them open can put off for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from yiagent.model import Progress
from yiagent.progress import LINES_PER_S, LINES_TO_RESUME, LONGEST_LINE, LineSieve, ProgressParser

# How long what is still in the pipes may take to arrive after the process itself is gone.
DRAIN_S: Final = 1.0
# Whoever talks more than is listened to is read this often: however fast it writes, reading costs no more. A pipe holds
# 64 kB, so ffmpeg waits at its next word no longer than this.
PAUSE_S: Final = 0.02
_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2

# What came on which pipe; the seconds in which that one need not be read, if any.
OnData = Callable[[int, bytes], float | None]
OnLine = Callable[[str, bool], None]
OnProgress = Callable[[Progress], None]
OnLeftOut = Callable[[int], None]


class _Hearing:
    """What is heard of one child's standard error: all of it, unless it talks without end."""

    def __init__(self, on_line: OnLine, on_left_out: OnLeftOut) -> None:
        self._on_line = on_line
        self._on_left_out = on_left_out
        self._sieve = LineSieve(time.monotonic())
        self._again: asyncio.TimerHandle | None = None

    def hear(self, data: bytes) -> float | None:
        """Tell the lines that `data` completes; for how long no more need be read, if so."""
        self._tell(self._sieve.feed(data, time.monotonic()))
        if not self._sieve.leaves_out:
            # A line without end is no line, and no less work.
            return PAUSE_S if len(data) > LONGEST_LINE else None
        if self._again is None:
            # Its last words are told also when it is silent after them.
            loop = asyncio.get_running_loop()
            self._again = loop.call_later(LINES_TO_RESUME / LINES_PER_S + PAUSE_S, self._hear_again)
        return PAUSE_S

    def finish(self) -> None:
        """Tell what is still to be told: it has ended."""
        self.end()
        self._tell(self._sieve.release())
        # The last words of a dying process often have no line end.
        self._tell(self._sieve.feed(b"\n", time.monotonic()))
        self._tell(self._sieve.release())

    def end(self) -> None:
        """Tell no more."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _hear_again(self) -> None:
        self._again = None
        self.hear(b"")

    def _tell(self, lines: list[tuple[str, bool]]) -> None:
        for line, cut in lines:
            self._on_line(line, cut)
        # Not before the last ones of those that were left out are heard: they count not.
        if lines and (count := self._sieve.count_left_out()):
            self._on_left_out(count)


class _Listener(asyncio.SubprocessProtocol):
    def __init__(self, on_data: OnData) -> None:
        self._on_data = on_data
        self._open_pipes = {_STDOUT, _STDERR}
        self._transport: asyncio.SubprocessTransport | None = None
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        pause_s = self._on_data(fd, data)
        pipe = self._transport.get_pipe_transport(fd) if pause_s and self._transport is not None else None
        if isinstance(pipe, asyncio.ReadTransport) and pause_s is not None:
            pipe.pause_reading()
            asyncio.get_running_loop().call_later(pause_s, pipe.resume_reading)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open_pipes.discard(fd)
        if not self._open_pipes:
            self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()


class _Process:
    """A process in a session of its own, whose output goes to `on_data` as it comes."""

    def __init__(self, transport: asyncio.SubprocessTransport, listener: _Listener) -> None:
        self._transport = transport
        self._listener = listener
        self.pid = transport.get_pid()

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        on_data: OnData,
        *,
        takes_input: bool = False,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> _Process:
        try:
            transport, listener = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Listener(on_data),
                *command,
                stdin=asyncio.subprocess.PIPE if takes_input else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                pass_fds=pass_fds,
                # Messages are matched in English, whatever the language of the machine.
                env={**os.environ, "LC_ALL": "C", "AV_LOG_FORCE_NOCOLOR": "1", **(environment or {})},
            )
        except RuntimeError as error:
            # asyncio waits for a child in a thread where the kernel has no pidfd, and found no room for one.
            if "thread" not in str(error):
                raise
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        return cls(transport, listener)

    async def wait(self) -> int:
        """Wait until it is gone and heard out: the exit status (negative: ended by that signal)."""
        try:
            await self._listener.exited.wait()
            try:
                await asyncio.wait_for(self._listener.drained.wait(), DRAIN_S)
            except TimeoutError:
                # Something it started still holds its pipes: nothing of a launch may outlive it.
                self.send(signal.SIGKILL)
            status = self._transport.get_returncode()
            assert status is not None
            return status
        finally:
            self._transport.close()

    def write(self, data: bytes) -> None:
        """Write all of its standard input, as it is ready for it; one that reads no more is no error."""
        pipe = self._transport.get_pipe_transport(_STDIN)
        assert isinstance(pipe, asyncio.WriteTransport)
        pipe.write(data)
        pipe.write_eof()

    async def end(self) -> None:
        """End it by force, and return when it is gone."""
        self.send(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._listener.exited.wait(), DRAIN_S)

    def send(self, number: signal.Signals) -> None:
        """Signal the whole process group; one that is gone already is no error."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def is_stopped(pid: int) -> bool:
    """Whether a process stands still because it was told to (SIGSTOP), as far as this kernel tells."""
    try:
        # The state follows the program's name, which is in brackets and may hold any character (proc(5)).
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state == "T"


def watch_by_descriptor() -> None:
    """Have asyncio learn of a child's end by a pidfd where the kernel has them, as it does by itself since Python 3.12.

    Before, it keeps a thread waiting for each child: memory for nothing, and a start that fails half-way without room.
    """
    if sys.version_info >= (3, 12):
        return
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return
    watcher = asyncio.PidfdChildWatcher()
    watcher.attach_loop(asyncio.get_running_loop())
    asyncio.set_child_watcher(watcher)


class Child:
    """A running process of which each line and each progress report is told. Made by `start`."""

    def __init__(self, process: _Process, finish: Callable[[], None]) -> None:
        self._process = process
        self._finish = finish

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        on_line: OnLine,
        on_progress: OnProgress,
        *,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        on_left_out: OnLeftOut = lambda _: None,
    ) -> Child:
        """Start `command`. `on_line` gets each line of standard error and whether it was cut. Raises `OSError`.

        `on_left_out` is told how many lines were not, because too many came at once.

        `pass_fds`: descriptors that it gets besides, under the same numbers; `environment`: variables, likewise.
        """
        hearing = _Hearing(on_line, on_left_out)
        parser = ProgressParser()

        def heard(fd: int, data: bytes) -> float | None:
            if fd == _STDERR:
                return hearing.hear(data)
            for report in parser.feed(data):
                on_progress(report)
            return None

        process = await _Process.start(command, heard, pass_fds=pass_fds, environment=environment)
        return cls(process, hearing.finish)

    @property
    def pid(self) -> int:
        """The process id, which is also its process group's."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait until nothing of it is left to hear: the exit status (negative: ended by that signal)."""
        status = await self._process.wait()
        self._finish()
        return status

    def send(self, number: signal.Signals) -> None:
        """Signal the whole process group; one that is gone already is no error."""
        self._process.send(number)


async def run_to_end(command: Sequence[str], *, timeout_s: float, most_bytes: int) -> tuple[int | None, str]:
    """Run a short command: its status (None where it was ended for taking too long) and what it printed on both pipes.

    Raises `OSError` where it cannot be started.
    """
    output = bytearray()

    def heard(fd: int, data: bytes) -> None:
        output.extend(data[: most_bytes - len(output)])

    process = await _Process.start(command, heard)
    status: int | None = None
    try:
        async with asyncio.timeout(timeout_s):
            status = await process.wait()
    except TimeoutError:
        pass
    finally:
        if status is None:
            process.send(signal.SIGKILL)
    return status, output.decode("utf-8", "replace")


class TooMuchOutput(Exception):
    """A command wrote more than it may."""


async def run_through(
    command: Sequence[str],
    data: bytes | None,
    *,
    timeout_s: float,
    most_bytes: int,
    on_start: Callable[[int], None],
    on_line: OnLine,
) -> tuple[int | None, bytes]:
    """Run a command on `data` (None: on nothing): its status, None where it took too long, and its standard output.

    `on_start` gets its process id, `on_line` its standard error. It is gone when this returns, also by an exception or
    a cancellation. Raises `OSError` where it cannot be started, and `TooMuchOutput`.
    """
    output = bytearray()
    too_much = asyncio.Event()
    hearing = _Hearing(on_line, lambda _: None)

    def heard(fd: int, data: bytes) -> float | None:
        if fd == _STDERR:
            return hearing.hear(data)
        if len(output) + len(data) > most_bytes:
            too_much.set()
        elif not too_much.is_set():
            output.extend(data)
        return None

    process = await _Process.start(command, heard, takes_input=data is not None)
    waiting = [asyncio.ensure_future(process.wait()), asyncio.ensure_future(too_much.wait())]
    try:
        on_start(process.pid)
        if data is not None:
            process.write(data)
        done, _ = await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        hearing.finish()
        if too_much.is_set():
            raise TooMuchOutput
        return int(waiting[0].result()) if done else None, bytes(output)
    finally:
        hearing.end()
        if not waiting[0].done():
            await process.end()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
