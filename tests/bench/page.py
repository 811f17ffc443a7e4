"""What the page answers: how soon, how many a second, and in how many bytes, beside Python's bare HTTP server.

Whoever asks makes a connection of its own each time, as the page's script does: the agent closes each with its answer.
What the page weighs is in `weight`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.asking import Asked, ask_all
from tests.bench.figures import OURS, Figure
from tests.bench.options import Options
from tests.peers.broker import Broker
from tests.peers.camera import LiveCamera
from tests.web.browser import page_agent
from tests.web.client import basic

REQUESTS = 1000
QUICK_REQUESTS = 100
# At once, and none of them turned away: the agent has places for 24.
CLIENTS = 16
LARGEST_PAGE_KB = 40.0
BARE = "Python's bare http.server"
# What scripts ask for, and what the page's own asks for when it is opened, besides the events.
ANSWERS = ("/api/state", "/api/telemetry", "/api/log", "/api/about", "/api/history", "/api/broker")
# The floor: Python's own server, which answers with a constant of the same size and asks for no password.
BARE_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", sys.argv[1])
        self.end_headers()
        self.wfile.write(b"x" * int(sys.argv[1]))
    def log_message(self, *_): pass
# Its own 5 would let most of those who come at once wait a second for their second try.
http.server.ThreadingHTTPServer.request_queue_size = 128
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def measure_page(folder: Path, options: Options) -> list[Figure]:
    """Of an agent with a camera and a broker that streams nothing."""
    count = QUICK_REQUESTS if options.quick else REQUESTS
    with (
        Broker(folder / "broker") as broker,
        LiveCamera(folder / "camera") as camera,
        page_agent(folder / "agent", broker, camera, telemetry={"interval_s": 5}, device={"id": "bench"}) as agent,
    ):
        port = agent.config["web"]["port"]
        sizes = {path: ask_all(port, _request(path), 1).answer for path in ("/", *ANSWERS)}
        figures = [
            Figure(
                "the page, whole, as sent (gzip; with its head)", "kB", [len(sizes["/"]) / 1000], aim=LARGEST_PAGE_KB
            ),
            *(Figure(f"{path}, as sent (with its head)", "kB", [len(sizes[path]) / 1000]) for path in ANSWERS),
        ]
        for path in ("/api/state", "/"):
            size = len(sizes[path].partition(b"\r\n\r\n")[2])
            with _bare_server(size) as bare_port:
                subjects = {OURS: _Subject(port, _request(path)), BARE: _Subject(bare_port, _request("/"))}
                for _ in range(options.runs):
                    for subject in subjects.values():
                        subject.measure(count)
            figures += _figures("/api/state" if path == "/api/state" else "the page, whole", subjects)
        return figures


class _Subject:
    """One server, asked for one thing again and again."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request
        self.alone: list[Asked] = []
        self.together: list[Asked] = []

    def measure(self, count: int) -> None:
        self.alone.append(ask_all(self._port, self._request, count))
        self.together.append(ask_all(self._port, self._request, count, clients=CLIENTS))


def _figures(what: str, subjects: dict[str, _Subject]) -> list[Figure]:
    figures: list[Figure] = []
    for who, subject in subjects.items():
        for how, runs in (("one after the other", subject.alone), (f"{CLIENTS} at once", subject.together)):
            figures += [
                Figure(f"{what}, {how}: an answer, median", "ms", [run.median_ms for run in runs], who),
                Figure(f"{what}, {how}: an answer, 95 of 100", "ms", [run.most_ms for run in runs], who),
                Figure(f"{what}, {how}: answers a second", "", [run.per_s for run in runs], who),
            ]
    return sorted(figures, key=lambda figure: [other.what for other in figures].index(figure.what))


def _request(path: str) -> bytes:
    lines = ["Host: 127.0.0.1", "Accept-Encoding: gzip", *(f"{name}: {value}" for name, value in basic().items())]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


@contextmanager
def _bare_server(answer_bytes: int) -> Iterator[int]:
    server = subprocess.Popen([sys.executable, "-c", BARE_SERVER, f"{answer_bytes}"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.wait()
