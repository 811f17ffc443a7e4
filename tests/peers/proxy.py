"""A TCP proxy on loopback that can misbehave as networks do."""

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.peers.ports import free_port

CHUNK_BYTES = 16 * 1024
CONNECT_TIMEOUT_S = 5.0
# Small, so that a frozen or slow network is felt soon and not megabytes later.
SOCKET_BUFFER_BYTES = 64 * 1024


class Proxy:
    """Relays 127.0.0.1:`port` to 127.0.0.1:`target_port`; a context manager, and startable again on the same port."""

    def __init__(self, target_port: int, *, buffer_bytes: int = SOCKET_BUFFER_BYTES) -> None:
        self.port = free_port()
        self.target_port = target_port
        self.accepted = 0
        self._buffer_bytes = buffer_bytes
        self._flows = threading.Event()
        self._flows.set()
        self._hears = threading.Event()
        self._hears.set()
        self._refuses = False
        self._bytes_per_s = 0.0
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listening: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    def admit(self, client: socket.socket) -> bytes | None:
        """Give what was taken from a new connection in order to judge it, or None to close it; may block."""
        return b""

    # Faults

    def freeze(self) -> None:
        """Relay nothing more, in both directions, while connections stay up; new ones are accepted and get nothing."""
        self._flows.clear()

    def thaw(self) -> None:
        """Relay again, beginning with what was held back."""
        self._flows.set()

    def deafen(self) -> None:
        """Relay nothing more of what clients say, while what the server says still comes through."""
        self._hears.clear()

    def hear(self) -> None:
        """Relay it again, beginning with what was held back."""
        self._hears.set()

    def cut(self) -> None:
        """Close all connections."""
        with self._lock:
            for end in self._sockets:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        """Close new connections as soon as they are made."""
        self._refuses = True

    def accept(self) -> None:
        """Relay new connections again."""
        self._refuses = False

    def limit(self, bytes_per_s: float) -> None:
        """Relay no faster than this in each direction of each connection; 0 for as fast as it goes."""
        self._bytes_per_s = bytes_per_s

    # Life

    def start(self) -> Self:
        """Listen."""
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The connections inherit it, and only here is it set before TCP agrees on a window.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
        listening.bind(("127.0.0.1", self.port))
        listening.listen()
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
        self.thaw()
        self.hear()
        self.cut()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Work, on threads

    def _accept_all(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refuses:
                client.close()
            else:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            self._remember(client)
            try:
                taken = self.admit(client)
                if taken is not None:
                    self._relay(client, taken)
            except OSError:
                pass  # an end that went away while it was being admitted
            finally:
                self._forget(client)

    def _relay(self, client: socket.socket, taken: bytes) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target_port), timeout=CONNECT_TIMEOUT_S)
        except OSError:
            return
        with server:
            server.settimeout(None)
            # Or what a frozen server does not take would disappear in here for megabytes.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer_bytes)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._remember(server)
            try:
                server.sendall(taken)
                back = threading.Thread(target=self._pump, args=(server, client, self._flows), daemon=True)
                back.start()
                self._pump(client, server, self._flows, self._hears)
                back.join()
            finally:
                self._forget(server)

    def _pump(self, source: socket.socket, target: socket.socket, *gates: threading.Event) -> None:
        due_s = time.monotonic()
        try:
            while True:
                for gate in gates:
                    gate.wait()
                data = source.recv(self._chunk_bytes())
                # What arrived while waiting to read belongs to the frozen time too.
                for gate in gates:
                    gate.wait()
                if not data:
                    break
                if self._bytes_per_s:
                    due_s = max(due_s, time.monotonic()) + len(data) / self._bytes_per_s
                    time.sleep(max(0.0, due_s - time.monotonic()))
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _chunk_bytes(self) -> int:
        # A tenth of a second at a time keeps a slow relay smooth.
        return max(1, min(CHUNK_BYTES, int(self._bytes_per_s / 10))) if self._bytes_per_s else CHUNK_BYTES

    def _remember(self, end: socket.socket) -> None:
        with self._lock:
            self._sockets.add(end)

    def _forget(self, end: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(end)
