"""The shell on the camera's second serial line (`sd/emulator/root/sbin/console-shell`).

The kernel and everything that the camera starts write to the first line, so nothing gets between an answer's lines.
"""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.camera.sockets import connect
from tests.peers.process import PeerError

CONNECT_TIMEOUT_S: Final = 5.0
COMMAND_TIMEOUT_S: Final = 30.0
# The guest's driver drops what its buffer cannot take while the shell is busy.
LONGEST_COMMAND: Final = 3500
READY: Final = b"console-shell: ready\n"
CHUNK: Final = 65536


@dataclass(frozen=True)
class Answer:
    """What a command printed to either of its outputs, and its exit status."""

    output: str
    status: int


class Shell:
    """A connection to the shell; at most one, made before the machine runs, or its first words are lost."""

    def __init__(self, path: Path) -> None:
        self._socket = connect(path, CONNECT_TIMEOUT_S)
        self._heard = b""

    def wait_until_ready(self, timeout_s: float) -> None:
        """Return when a shell has started, the first or another one after a reboot."""
        self._read_until(READY, time.monotonic() + timeout_s, "the shell")

    def run(self, command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Run a command in a subshell of its own; it may have several lines. After a time-out the shell is lost.

        What it leaves running must have its output elsewhere, or it turns up in later answers.
        """
        word = secrets.token_hex(8)
        line = command.replace("\\", "\\\\").replace("\n", "\\n")
        if len(line) > LONGEST_COMMAND:
            raise ValueError("a command that is too long for the serial line: put it on the card")
        self._socket.sendall(f"{word} {line}\n".encode())
        deadline = time.monotonic() + timeout_s
        output = self._read_until(f"\n{word} ".encode(), deadline, f"the end of: {command}")
        status = self._read_until(b"\n", deadline, f"the status of: {command}")
        return Answer(output.decode(errors="replace"), int(status))

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _read_until(self, mark: bytes, deadline: float, what: str) -> bytes:
        """Take what comes up to the mark, and the mark; give what came before it."""
        while mark not in self._heard:
            if mark != READY and READY in self._heard:
                raise PeerError(f"the shell was started anew, as after a reboot; waited for {what}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise PeerError(f"waited in vain for {what}\n{self._heard[-2000:].decode(errors='replace')}")
            self._socket.settimeout(left)
            try:
                chunk = self._socket.recv(CHUNK)
            except TimeoutError:
                continue
            if not chunk:
                raise PeerError(f"the machine ended; waited for {what}")
            self._heard += chunk
        before, _, self._heard = self._heard.partition(mark)
        return before
