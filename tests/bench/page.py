"""What the page costs: its bytes, its memory, its processor, and its answers beside those of a bare HTTP server."""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.harness import AgentProcess
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.web.browser import page_agent
from tests.web.client import ask, basic, listening

PAGES = 5
OPEN_S = 300.0
QUICK_OPEN_S = 20.0
REQUESTS = 200
SETTLE_S = 5.0
PATIENCE_S = 30.0
LARGEST_PAGE_KB = 40.0
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
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def measure_page(folder: Path, options: Options) -> list[Figure]:
    """All of it; the five open pages once."""
    folder.mkdir(exist_ok=True)
    with Broker(folder / "broker") as broker, LiveCamera(folder / "camera") as camera:
        figures = _answers(folder, broker, camera, options.runs)
        with Listener(broker.port, "yiagent/#") as listener:
            figures += _memory(folder, broker, camera, listener, options.runs)
        return figures + _open_pages(folder, broker, camera, QUICK_OPEN_S if options.quick else OPEN_S)


def _agent(folder: Path, broker: Broker, camera: LiveCamera, *, page: bool = True) -> AgentProcess:
    agent = page_agent(folder, broker, camera, telemetry={"interval_s": 5}, device={"id": folder.name})
    if page:
        return agent
    # Without a page there is no port to wait for.
    return AgentProcess(folder, config={**agent.config, "web": {"enabled": False}})


def _answers(folder: Path, broker: Broker, camera: LiveCamera, runs: int) -> list[Figure]:
    ours: list[float | None] = []
    bare: list[float | None] = []
    with _agent(folder / "answers", broker, camera) as agent:
        kilobytes = len(ask(agent, "/", headers={"Accept-Encoding": "gzip"}).body) / 1000
        size = len(ask(agent, "/api/state").body)
        floor = subprocess.Popen([sys.executable, "-c", BARE_SERVER, f"{size}"], stdout=subprocess.PIPE, text=True)
        try:
            assert floor.stdout is not None
            bare_port = int(floor.stdout.readline())
            for _ in range(runs):
                ours.append(_latency_ms(agent.config["web"]["port"], "/api/state"))
                bare.append(_latency_ms(bare_port, "/"))
        finally:
            floor.kill()
            floor.wait()
    return [
        Figure("bytes as sent", "kB", [kilobytes], aim=LARGEST_PAGE_KB),
        Figure("one answer of /api/state, with its connection", "ms", ours),
        Figure("one answer of /api/state, with its connection", "ms", bare, "Python's bare http.server"),
    ]


def _latency_ms(port: int, path: str) -> float:
    times = []
    for _ in range(REQUESTS):
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        connection.request("GET", path, headers=basic())
        connection.getresponse().read()
        connection.close()
        times.append((time.monotonic() - began) * 1000)
    return statistics.median(times)


def _memory(folder: Path, broker: Broker, camera: LiveCamera, listener: Listener, runs: int) -> list[Figure]:
    added_rss: list[float | None] = []
    added_own: list[float | None] = []
    for number in range(runs):
        amounts = []
        for page in (True, False):
            with _agent(folder / f"memory-{number}-{page}", broker, camera, page=page) as agent:
                # A device of its own, so this is its first word.
                listener.wait_for_topic(agent.topic("availability"), PATIENCE_S)
                time.sleep(SETTLE_S)
                amounts.append(psutil.Process(agent.pid).memory_full_info())
        added_rss.append((amounts[0].rss - amounts[1].rss) / 2**20)
        added_own.append((amounts[0].uss - amounts[1].uss) / 2**20)
    return [
        Figure("memory that it adds to an idle agent, Rss", "MB", added_rss),
        Figure("of that its own (USS)", "MB", added_own),
    ]


def _open_pages(folder: Path, broker: Broker, camera: LiveCamera, open_s: float) -> list[Figure]:
    with _agent(folder / "open", broker, camera) as agent:
        process = psutil.Process(agent.pid)
        time.sleep(SETTLE_S)
        closed = process.memory_info().rss
        alone_s = _processor_s(process, open_s)
        with ExitStack() as stack:
            for _ in range(PAGES):
                stack.enter_context(_visitor(agent))
            time.sleep(SETTLE_S)
            at_first = process.memory_info().rss
            visited_s = _processor_s(process, open_s)
            at_last = process.memory_info().rss
    minutes = open_s / 60
    span = f"{minutes:g} min" if minutes >= 1 else f"{open_s:g} s"
    return [
        Figure(f"{PAGES} open pages, memory they add at once", "MB", [(at_first - closed) / 2**20]),
        Figure(f"{PAGES} open pages, growth over {span}", "MB", [(at_last - at_first) / 2**20]),
        Figure("processor a minute, idle, no page open", "ms", [alone_s / minutes * 1000]),
        Figure("processor a minute, each open page", "ms", [(visited_s - alone_s) / minutes / PAGES * 1000]),
    ]


def _processor_s(process: psutil.Process, seconds: float) -> float:
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return (after.user + after.system) - (before.user + before.system)


@contextmanager
def _visitor(agent: AgentProcess) -> Iterator[None]:
    """A page that is open: it has loaded all it loads, and reads what comes."""
    for path in ("/", "/api/about", "/api/history", "/api/broker"):
        ask(agent, path)
    with listening(agent) as listener:
        listener.next("telemetry")
        listener.sock.settimeout(None)

        def read() -> None:
            try:
                while listener.sock.recv(65536):
                    pass
            except OSError:
                pass

        threading.Thread(target=read, daemon=True).start()
        yield
