"""Asks an HTTP server on 127.0.0.1 for one thing many times, a connection each, with as little work as it can.

What asks runs on the same machine: where it were slow, it would be measured in the server's place. With sockets and
`select` alone it asked nginx 2,700 times a second on a busy machine, twice as often as a server in Python answers.
"""

from __future__ import annotations

import selectors
import socket
import statistics
import time
from dataclasses import dataclass

PATIENCE_S = 30.0
READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Asked:
    """How long each answer took with its connection, in ms; how long they took together, in s; and the last answer."""

    times_ms: list[float]
    took_s: float
    answer: bytes

    @property
    def median_ms(self) -> float:
        """Half of them took no longer."""
        return statistics.median(self.times_ms)

    @property
    def most_ms(self) -> float:
        """95 of 100 took no longer."""
        return statistics.quantiles(self.times_ms, n=20)[-1] if len(self.times_ms) > 1 else self.times_ms[0]

    @property
    def per_s(self) -> float:
        """How many answers came in a second."""
        return len(self.times_ms) / self.took_s


class _Connection:
    """One request on its way."""

    def __init__(self, port: int) -> None:
        self.began = time.monotonic()
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.answer = b""


def ask_all(port: int, request: bytes, count: int, *, clients: int = 1) -> Asked:
    """Ask `count` times, of which `clients` are always under way. Raises `AssertionError` where one is not a 200."""
    times_ms: list[float] = []
    answer = b""
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:

        def begin() -> None:
            connection = _Connection(port)
            connection.sock.sendall(request)
            selector.register(connection.sock, selectors.EVENT_READ, connection)

        for _ in range(min(clients, count)):
            begin()
        while len(times_ms) < count:
            events = selector.select(PATIENCE_S)
            assert events, "no answer came"
            for key, _ in events:
                connection = key.data
                piece = connection.sock.recv(READ_BYTES)
                connection.answer += piece
                if piece:
                    continue
                selector.unregister(connection.sock)
                connection.sock.close()
                answer = connection.answer
                assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")), answer[:200]
                times_ms.append((time.monotonic() - connection.began) * 1000)
                if len(times_ms) + len(selector.get_map()) < count:
                    begin()
    return Asked(times_ms, time.monotonic() - began, answer)
