"""What all peers that are programs have in common: a session of their own, a log file, and an end."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT_S = 20.0
TERM_TIMEOUT_S = 3.0
KILL_TIMEOUT_S = 5.0
POLL_S = 0.02

# Servers live in sbin, which a plain user's PATH on Debian leaves out.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class PeerError(Exception):
    """A peer did not do what the test needs of it; the text carries the end of its log."""


def find_program(name: str) -> str:
    """Give the path of a program, looked for in PATH and in the folders of servers."""
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        raise PeerError(f"{name} is not installed")
    return path


def dying_with_parent(command: list[str]) -> list[str]:
    """Wrap a command so that the kernel kills it when the thread that started it ends, however that happens.

    util-linux's setpriv keeps the pid and, unlike a `preexec_fn`, cannot deadlock in a test process full of threads.
    """
    return [find_program("setpriv"), "--pdeathsig", "KILL", "--", *command]


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str, *, poll_s: float = POLL_S) -> None:
    """Return as soon as the condition holds; raise PeerError naming `what` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            raise PeerError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(poll_s)


class Peer:
    """A program in a session of its own; a context manager, and startable again after `stop()` or `kill()`.

    Start it from a thread that lives as long as the test: it dies with that thread.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log_file = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        folder.mkdir(parents=True, exist_ok=True)

    # What a peer has to say about itself

    def command(self) -> list[str]:
        """Give the command line; called at every start, so that it may write its configuration here."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Tell whether the program does its work yet; asked again and again after a start."""
        return True

    def working_folder(self) -> Path:
        """Give the folder the program runs in."""
        return self.folder

    # Life

    def start(self) -> Self:
        """Start the program and return when it is ready."""
        if self.alive:
            raise PeerError(f"{self.name} runs already")
        command = dying_with_parent(self.command())
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                cwd=self.working_folder(),
                stdin=subprocess.PIPE,
                bufsize=0,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.wait_until(lambda: not self.alive or self.is_ready(), START_TIMEOUT_S, "it to be ready")
            if not self.alive:
                raise PeerError(f"{self.name} ended at once\n{self._log_end()}")
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """End the program and its children: TERM, and KILL if that is not enough; nothing if it does not run."""
        self._signal_group(signal.SIGTERM)
        self._signal_group(signal.SIGCONT)  # a stopped program would keep its TERM for later
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(TERM_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the program and its children without a chance to say good-bye; nothing if it does not run."""
        self._signal_group(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(KILL_TIMEOUT_S)
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None

    def restart(self) -> None:
        """Stop and start again, with the same ports."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the program and its children in their tracks; the kernel goes on accepting and acknowledging."""
        self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen program run on."""
        self._signal_group(signal.SIGCONT)

    # What can be seen of it

    @property
    def alive(self) -> bool:
        """Whether the program runs (a frozen one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group and session."""
        if self._process is None:
            raise PeerError(f"{self.name} does not run")
        return self._process.pid

    @property
    def log_text(self) -> str:
        """All the program has written since its last start."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(self._log_start)
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Return as soon as the condition holds; raise PeerError with the end of the log when it does not in time."""
        try:
            wait_until(condition, timeout_s, what)
        except PeerError as error:
            raise PeerError(f"{self.name}: {error}\n{self._log_end()}") from None

    def wait_for_log(self, text: str, timeout_s: float = 10.0) -> None:
        """Return when the text stands in the log of this run."""
        self.wait_until(lambda: text in self.log_text, timeout_s, f"{text!r} in its log")

    def write_line(self, line: str) -> None:
        """Write a line to the program's standard input."""
        if self._process is None or self._process.stdin is None:
            raise PeerError(f"{self.name} does not run")
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            raise PeerError(f"{self.name} has ended\n{self._log_end()}") from None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _signal_group(self, number: signal.Signals) -> None:
        # An unreaped process keeps its group's number from being given to anyone else, so this cannot hit a stranger.
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _log_end(self) -> str:
        return "\n".join(self.log_text.splitlines()[-20:])
