"""What the kernel still holds of a child's connection to its server: the only place where a frozen server shows.

A server that is stopped, or gone behind a router, goes on being acknowledged for a while and ffmpeg notices nothing:
3 MB of socket buffers swallow 23 s of video at 1 Mbit/s before a write blocks (measured, ffmpeg 5.1). The send queue
stands within seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TABLES: Final = ("tcp", "tcp6")
_ESTABLISHED: Final = "01"
# The columns of /proc/net/tcp (Linux, Documentation/networking/proc_net_tcp.rst).
_REMOTE: Final = 2
_STATE: Final = 3
_QUEUES: Final = 4
_INODE: Final = 9


class SendQueue:
    """The send queue of process `pid`'s connection to `port` of its server."""

    def __init__(self, pid: int, port: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._port = f"{port:04X}"
        self._inode: str | None = None

    def read(self) -> int | None:
        """Bytes written but not yet acknowledged by the server's kernel; None where that cannot be seen."""
        try:
            if self._inode is None:
                self._inode = self._find()
            return self._queued() if self._inode is not None else None
        except (OSError, ValueError, IndexError):
            return None

    def _find(self) -> str | None:
        """The inode of the child's socket to that port."""
        mine = {self._socket(entry) for entry in (self._folder / "fd").iterdir()}
        for row in self._rows():
            if row[_REMOTE].endswith(f":{self._port}") and row[_STATE] == _ESTABLISHED and row[_INODE] in mine:
                return row[_INODE]
        return None

    def _socket(self, entry: Path) -> str | None:
        try:
            target = str(entry.readlink())
        except OSError:
            return None
        return target[8:-1] if target.startswith("socket:[") else None

    def _queued(self) -> int | None:
        for row in self._rows(f" {self._inode} "):
            if row[_INODE] == self._inode:
                return int(row[_QUEUES].partition(":")[0], 16)
        return None

    def _rows(self, part: str = " ") -> Iterator[list[str]]:
        """The rows that hold `part`, one at a time: a busy machine has thousands, and this is asked twice a second."""
        for table in _TABLES:
            # A kernel without IPv6 has no tcp6.
            path = self._folder / "net" / table
            if path.exists():
                with path.open() as lines:
                    next(lines, None)
                    yield from (line.split() for line in lines if part in line)
