"""paho's client, with the bounds that it does not have itself: on what it reads, and on what it is given to write."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import sys
import termios
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as paho
import psutil

LONGEST_PACKET_BYTES: Final = 16 << 20
# Of this machine's memory, what one packet may take at the most: 64 MB cameras are real.
PACKET_SHARE: Final = 64
# A buffer as long as the rest of a packet is what paho asks the kernel to fill each time.
MOST_READ_BYTES: Final = 64 << 10
# What may be lost is given out only while less than this is still on this machine: on a way of 500 bytes/s a sample
# then is 5 s late at the most, and a ping gets through behind it.
MOST_WAITING_BYTES: Final = 2048


class _NoSsl:
    """What paho catches by name around every read, also on a Python without `ssl` (as `lean.drop_ssl` makes it)."""

    class SSLWantReadError(Exception):
        """Never raised: nothing is encrypted."""

    class SSLWantWriteError(Exception):
        """Never raised: nothing is encrypted."""


if getattr(paho, "ssl", None) is None:
    vars(paho)["ssl"] = _NoSsl


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


# By which paho wakes its own thread. It makes them of two TCP connections to 127.0.0.1, as Windows needs it: where the
# loopback interface is not up, as on a camera that has just been switched on, there would be no MQTT at all.
vars(paho)["_socketpair_compat"] = _pair


def use_ssl() -> None:
    """Have paho use the real `ssl`, also where it was loaded without."""
    if vars(paho)["ssl"] is _NoSsl:
        import ssl

        vars(paho)["ssl"] = ssl


class Client(paho.Client):
    """One that reads no packet longer than `longest_bytes`: it calls `on_too_long` instead, in its thread, and ends.

    MQTT 5's Maximum Packet Size binds the broker that keeps to it; what has the broker's address binds nothing.
    """

    longest_bytes: int = LONGEST_PACKET_BYTES
    on_too_long: Callable[[], None] | None = None

    def _sock_recv(self, bufsize: int) -> bytes:
        # A private name: paho asks here for single bytes of the header, then for all that the packet still lacks. If
        # a later paho does not, this is never called and nothing is bounded; tests/test_broker.py would tell.
        if bufsize > self.longest_bytes:
            if self.on_too_long is not None:
                self.on_too_long()
            raise ConnectionAbortedError("a packet that is too long")
        return super()._sock_recv(min(bufsize, MOST_READ_BYTES))


class Outlet:
    """What may be lost on its way to the broker: how much of it this machine still holds."""

    def __init__(self, client: paho.Client) -> None:
        self._client = client
        self._unwritten: deque[tuple[paho.MQTTMessageInfo, int]] = deque()

    @property
    def has_room(self) -> bool:
        """Whether something said now would soon leave."""
        while self._unwritten and self._unwritten[0][0].is_published():
            self._unwritten.popleft()
        return sum(size for _, size in self._unwritten) + self._unacknowledged_bytes() < MOST_WAITING_BYTES

    def add(self, info: paho.MQTTMessageInfo, size_bytes: int) -> None:
        """This message was given to paho."""
        self._unwritten.append((info, size_bytes))

    def _unacknowledged_bytes(self) -> int:
        """What the kernel holds until the other end has it; 0 where it does not tell (other systems than Linux).

        It takes 87 kB and up without a word, minutes of a slow way. TCP_NOTSENT_LOWAT does not bound it here: paho
        writes without asking whether there is room, and the kernel adds to the packet that waits (65 kB, measured).
        """
        try:
            sock = self._client.socket()
            if sock is None:
                return 0
            return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except (OSError, ValueError):
            return 0


def longest_packet_bytes() -> int:
    """The longest packet this machine can afford to receive; MQTT 5 brokers keep longer ones to themselves."""
    try:
        return min(LONGEST_PACKET_BYTES, int(psutil.virtual_memory().total) // PACKET_SHARE)
    except (OSError, psutil.Error, RuntimeError):
        return LONGEST_PACKET_BYTES // PACKET_SHARE


def no_delay(client: Any, userdata: Any, sock: Any) -> None:
    """Turn Nagle's algorithm off, with which bursts of small messages were seen 40 ms late."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
