"""Addresses and plain TCP connections, in the blocking way: for threads beside the loop."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Final

from yiagent.urls import Url

# All addresses together, and one of them: a dead first address must not hide a living second one.
CONNECT_TIMEOUT_S: Final = 6.0
ADDRESS_TIMEOUT_S: Final = 3.0
_PORTS: Final = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443}


def port_of(url: Url) -> int:
    """The URL's port, or its scheme's own, as ffmpeg takes it."""
    return url.port if url.port is not None else _PORTS[url.scheme]


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses that `host` resolves to, each once, in the resolver's order. Raises `OSError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        # A label of more than 63 characters fails before it is asked for.
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def is_far(address: str) -> bool:
    """Whether an address lies beyond the local network."""
    if address.startswith(("127.", "10.", "192.168.", "169.254.", "::1", "fe80:", "fc", "fd")):
        return False
    first, _, rest = address.partition(".")
    second = rest.partition(".")[0]
    return not (first == "172" and second.isdigit() and 16 <= int(second) <= 31)


def connect(addresses: list[str], port: int, *, address_timeout_s: float = ADDRESS_TIMEOUT_S) -> socket.socket:
    """A connection to the first address that answers. Raises the last one's `OSError`."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    failure: OSError = TimeoutError()
    for address in addresses:
        left = min(address_timeout_s, deadline - time.monotonic())
        if left <= 0:
            break
        try:
            connection = socket.create_connection((address, port), timeout=left)
        except OSError as error:
            failure = error
            continue
        if connection.getsockname() != connection.getpeername():
            return connection
        # Where nobody listens on one of this machine's own ephemeral ports, TCP can connect to itself.
        connection.close()
        failure = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    raise failure
