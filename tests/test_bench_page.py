"""What asks the servers of `scripts/bench page`: each time by a connection of its own, and so many at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.bench.asking import Asked, ask_all

PATIENCE_S = 20.0


class Counting(ThreadingHTTPServer):
    """Answers each request when `together` are there, and knows how many came and how many were there at once."""

    def __init__(self, together: int, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.gate = threading.Barrier(together)
        self.status = status
        self.came = 0


class Handler(BaseHTTPRequestHandler):
    """One answer."""

    server: Counting

    def do_GET(self) -> None:
        """Wait for the others."""
        self.server.came += 1
        self.server.gate.wait(PATIENCE_S)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"body")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(together: int, status: int = 200) -> Iterator[Counting]:
    """A server that answers so many at once."""
    with Counting(together, status) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("clients", [1, 4])
def test_so_many_are_under_way_at_once(clients: int) -> None:
    """With fewer no answer would come, for the server waits for all; and no more is asked than was wanted."""
    with serving(clients) as server:
        asked = ask_all(server.server_port, b"GET / HTTP/1.0\r\n\r\n", 8, clients=clients)
        assert server.came == len(asked.times_ms) == 8
    assert asked.answer.endswith(b"\r\n\r\nbody")


def test_what_is_not_answered_is_no_figure() -> None:
    """A refusal is soon sent."""
    with serving(1, 503) as server, pytest.raises(AssertionError, match="503"):
        ask_all(server.server_port, b"GET / HTTP/1.0\r\n\r\n", 1)


def test_of_the_times() -> None:
    """A slow few show in the 95th, not in the median."""
    asked = Asked([1.0] * 90 + [9.0] * 10, 0.5, b"")
    assert (asked.median_ms, asked.most_ms, asked.per_s) == (1.0, 9.0, 200.0)
    assert Asked([2.0], 1.0, b"").most_ms == 2.0
