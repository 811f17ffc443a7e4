"""Servers that are wrong in ways no real one can be told to be; each is a context manager with a `port`."""

import random
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.peers.ports import free_port

GARBAGE_BYTES = 4096


class BrokenServer:
    """Accepts connections on 127.0.0.1 and gives each to `serve` on a thread of its own."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.accepted = 0
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()
        self._listening: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    def serve(self, client: socket.socket) -> None:
        """Misbehave towards one client; the connection is closed afterwards."""
        raise NotImplementedError

    def start(self) -> Self:
        """Listen."""
        listening = socket.create_server(("127.0.0.1", self.port))
        self._listening = listening
        self._acceptor = threading.Thread(target=self._accept_all, args=(listening,), daemon=True)
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """Close the port and all connections."""
        if self._listening is None or self._acceptor is None:
            return
        self._listening.shutdown(socket.SHUT_RDWR)  # close() alone would leave accept() waiting
        self._acceptor.join()
        self._listening.close()
        self._listening = None
        with self._lock:
            for client in self._clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accept_all(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            self.accepted += 1
            with self._lock:
                self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            with suppress(OSError):
                self.serve(client)
            with self._lock:
                self._clients.discard(client)


class SilentServer(BrokenServer):
    """Accepts, reads, and never says anything: also what a server without TLS looks like on an rtmps port."""

    def serve(self, client: socket.socket) -> None:
        """Read until the client gives up."""
        _read_to_end(client)


class HangUpServer(BrokenServer):
    """Accepts and closes at once."""

    def serve(self, client: socket.socket) -> None:
        """Do nothing."""


class GarbageServer(BrokenServer):
    """Answers the first bytes with noise, and closes when the client does; ffmpeg 5.1 waits for ever for more of it."""

    def serve(self, client: socket.socket) -> None:
        """Send the same noise at every run: a failure must repeat."""
        client.recv(1)
        client.sendall(random.Random(1).randbytes(GARBAGE_BYTES))
        _read_to_end(client)


class PlaintextServer(BrokenServer):
    """Answers a TLS client in plain HTTP, as web servers do on the wrong port."""

    def serve(self, client: socket.socket) -> None:
        """Reply and close."""
        client.recv(4096)
        client.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


def _read_to_end(client: socket.socket) -> None:
    while client.recv(GARBAGE_BYTES):
        pass
