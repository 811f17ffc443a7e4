"""What the kernel still holds of a child's connection to its server: the only place where a frozen server shows.

A server that is stopped, or gone behind a router, goes on being acknowledged for a while and ffmpeg notices nothing:
3 MB of socket buffers swallow 23 s of video at 1 Mbit/s before a write blocks (measured, ffmpeg 5.1). The send queue
stands within seconds.

Found in the tables that any Linux has, /proc/net/tcp. To look there twice a second costs a machine with much memory 2
to 5 ms each time, for the kernel goes through all of its hash table (262,144 places on one with 24 GB; 0.2 to 0.6 s of
processor a minute): where it can, the kernel is asked for this one connection instead, which takes 0.01 ms.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# A search that found nothing is not made again for so many times as long as it took: among 38,000 connections it takes
# 0.3 s, and with a child that reports fast the loop did nothing else (measured).
_SEARCH_PAUSE: Final = 20
_TABLES: Final = ("tcp", "tcp6")
_ESTABLISHED: Final = "01"
# The columns of /proc/net/tcp (Linux, Documentation/networking/proc_net_tcp.rst).
_LOCAL: Final = 1
_REMOTE: Final = 2
_STATE: Final = 3
_QUEUES: Final = 4
_INODE: Final = 9
# sock_diag(7), since Linux 3.3: a netlink message's head, then `struct inet_diag_req_v2` up to the two ends. The answer
# is a head, and `struct inet_diag_msg` (linux/inet_diag.h) with the send queue and the inode at these places.
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_ANY_STATE: Final = 0xFFFFFFFF
_ANY_COOKIE: Final = b"\xff" * 8
_ANY_INTERFACE: Final = bytes(4)
_HEAD: Final = struct.Struct("=IHHIIBBBxI")
_REQUEST_BYTES: Final = 72
_TYPE: Final = struct.Struct("=4xH")
_QUEUE_AND_INODE: Final = struct.Struct("=76xI4xI")


class SendQueue:
    """The send queue of process `pid`'s connection to `port` of its server."""

    def __init__(self, pid: int, port: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._port = f"{port:04X}"
        self._inode: str | None = None
        self._search_at = 0.0
        self._request: bytes | None = None
        """What asks the kernel for this connection; None where it cannot be asked."""

    def read(self) -> int | None:
        """Bytes written but not yet acknowledged by the server's kernel; None where that cannot be seen."""
        try:
            if self._inode is None and (began := time.monotonic()) >= self._search_at:
                self._find()
                ended = time.monotonic()
                self._search_at = ended + _SEARCH_PAUSE * (ended - began)
            return self._queued() if self._inode is not None else None
        except (OSError, ValueError, IndexError):
            return None

    def _find(self) -> None:
        """Look for the child's socket to that port."""
        mine = {self._socket(entry) for entry in (self._folder / "fd").iterdir()}
        for row in self._rows(f":{self._port} "):
            if row[_REMOTE].endswith(f":{self._port}") and row[_STATE] == _ESTABLISHED and row[_INODE] in mine:
                self._inode = row[_INODE]
                self._request = _request(row[_LOCAL], row[_REMOTE])
                return

    def _socket(self, entry: Path) -> str | None:
        try:
            target = str(entry.readlink())
        except OSError:
            return None
        return target[8:-1] if target.startswith("socket:[") else None

    def _queued(self) -> int | None:
        if self._request is not None:
            try:
                queued, inode = _QUEUE_AND_INODE.unpack_from(_ask(self._request))
            except (OSError, AttributeError, struct.error):
                # The connection is gone, or this kernel does not know the question: the table tells.
                self._request = None
            else:
                return queued if f"{inode}" == self._inode else None
        for row in self._rows(f" {self._inode} "):
            if row[_INODE] == self._inode:
                return int(row[_QUEUES].partition(":")[0], 16)
        return None

    def _rows(self, part: str) -> Iterator[list[str]]:
        """The rows that hold `part`, one at a time: a busy machine has thousands, and this is asked twice a second."""
        for table in _TABLES:
            # A kernel without IPv6 has no tcp6.
            path = self._folder / "net" / table
            if path.exists():
                with path.open() as lines:
                    next(lines, None)
                    yield from (line.split() for line in lines if part in line)


def _request(local: str, remote: str) -> bytes:
    """The question for one connection, from the two ends as the tables write them. Raises `ValueError`."""
    own, its = _end(local), _end(remote)
    family = socket.AF_INET if len(own[0]) == 4 else socket.AF_INET6
    head = _HEAD.pack(
        *(_REQUEST_BYTES, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0), *(family, socket.IPPROTO_TCP, 0, _ANY_STATE)
    )
    ends = own[1] + its[1] + own[0].ljust(16, b"\0") + its[0].ljust(16, b"\0")
    return head + ends + _ANY_INTERFACE + _ANY_COOKIE


def _end(text: str) -> tuple[bytes, bytes]:
    """Address and port in network order. The tables write an address as words of this machine's own order."""
    address, _, port = text.partition(":")
    words = (int(address[at : at + 8], 16) for at in range(0, len(address), 8))
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words), int(port, 16).to_bytes(2, "big")


def _ask(request: bytes) -> bytes:
    """The kernel's answer. Raises `OSError` where it has none, and `AttributeError` on a Python without netlink."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as link:
        link.sendto(request, (0, 0))
        # It has answered by the time it has taken the question.
        answer = link.recv(1024, socket.MSG_DONTWAIT)
    if _TYPE.unpack_from(answer) != (_SOCK_DIAG_BY_FAMILY,):
        raise OSError("no such connection, or no such question")
    return answer
