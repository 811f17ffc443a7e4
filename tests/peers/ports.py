"""Loopback ports that stay free while the peer that owns them is away."""

import os
import random
import socket
import threading
from pathlib import Path

LOWEST_PORT = 18000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

_given: set[int] = set()
# Two threads that look at once would find the same one free, too.
_lock = threading.Lock()


def free_port() -> int:
    """Give a port that nothing listens on and that this process was not given before, on 127.0.0.1 and on ::1.

    It lies below the kernel's ephemeral range. A port from `bind(0)` would lie in it, and a client that knocks at such
    a port while its server is away can be given the same number for its own end: TCP then connects it to itself.
    """
    with _lock:
        candidates = [port for port in _our_share(LOWEST_PORT, _first_ephemeral_port()) if port not in _given]
        random.shuffle(candidates)
        for port in candidates:
            if _is_free(port):
                _given.add(port)
                return port
    raise RuntimeError("no free port on loopback")


def _our_share(first: int, end: int) -> range:
    """The part of the ports that is this test process's own: two that look at once would find the same one free."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    # Even, so that a pair of ports lies in one share.
    size = (end - first) // count & ~1
    start = first + int(worker) * size
    return range(start, start + size)


def free_port_pair() -> tuple[int, int]:
    """Give an even port and the odd one after it, as RTP and RTCP want them; checked for UDP too."""
    while True:
        rtp = free_port() & ~1
        if _is_free(rtp) and _is_free(rtp + 1) and _is_free(rtp, udp=True) and _is_free(rtp + 1, udp=True):
            _given.update((rtp, rtp + 1))
            return rtp, rtp + 1


def accepts(port: int, host: str = "127.0.0.1", *, timeout_s: float = 1.0) -> bool:
    """Tell whether something accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def has_ipv6_loopback() -> bool:
    """Tell whether this machine can listen on ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _first_ephemeral_port() -> int:
    try:
        first = int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError):
        first = 32768
    # A machine tuned to use nearly all ports for connections leaves no room below: any port is as good as another.
    return first if first > LOWEST_PORT + 1000 else 60000


def _is_free(port: int, *, udp: bool = False) -> bool:
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    addresses = [(socket.AF_INET, "127.0.0.1")]
    if has_ipv6_loopback():
        addresses.append((socket.AF_INET6, "::1"))
    for family, host in addresses:
        with socket.socket(family, kind) as probe:
            if not udp:
                # As servers do: a port whose last connections linger in TIME_WAIT is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
