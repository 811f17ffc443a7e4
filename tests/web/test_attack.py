"""What the page does when it is attacked: it goes on answering, stays small, and holds nothing afterwards.

Against the real agent, which streams to a pretended ffmpeg meanwhile. The rule for a well-behaved visitor is an answer
within a second; of several visits the median is held against it, since the machine may be busy with other tests.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import select
import socket
import ssl
import statistics
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness import AgentProcess
from tests.peers.certificates import Certificates
from tests.peers.ports import accepts, free_port
from tests.peers.process import wait_until

PASSWORD = "made-up-page-password"
LOGIN = f"Authorization: Basic {b64encode(f'yiagent:{PASSWORD}'.encode()).decode()}\r\n"
HOST = "127.0.0.1"
PATIENCE_S = 20.0
VISITS = 5
RULE_S = 1.0
MOST_GROWTH_MB = 4.0
BODY_BYTES = 200 << 20
# Answers from here on are a fault of their own even on a busy machine.
VISIT_TIMEOUT_S = 10.0
# What the agent may open for itself while an attack goes on: a look into /proc.
OWN_DESCRIPTORS = 1
TIMES_OUT_AFTER_S = 5.0
LOG_LINES = 200


class Site:
    """An agent with its page, and a visitor and a listener that came before any attack."""

    def __init__(self, agent: AgentProcess, port: int, tls: ssl.SSLContext | None) -> None:
        self.agent = agent
        self.port = port
        self.tls = tls
        self.process = psutil.Process(agent.pid)

    # As anyone

    def knock(self, *, receive_bytes: int | None = None) -> socket.socket:
        """A connection; what it has sent may already be refused."""
        sock = socket.socket()
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.settimeout(VISIT_TIMEOUT_S)
        sock.connect((HOST, self.port))
        return sock

    def connect(self, *, receive_bytes: int | None = None) -> socket.socket:
        """A connection on which HTTP can be spoken."""
        sock = self.knock(receive_bytes=receive_bytes)
        return self.tls.wrap_socket(sock, server_hostname=HOST) if self.tls is not None else sock

    def send(self, data: bytes) -> bytes:
        """All that is answered to these bytes, as far as it comes; nothing where the connection is just ended."""
        with self.connect() as sock:
            with contextlib.suppress(OSError):
                sock.sendall(data)
            return read_all(sock)

    def get(self, path: str, headers: str = LOGIN, *, body: bytes = b"") -> bytes:
        """The whole answer of a well-formed request; an error where there is none."""
        method = "POST" if body else "GET"
        length = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        with self.connect() as sock:
            sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}{length}\r\n".encode() + body)
            return read_all(sock)

    # What holds whatever is done to it

    def visit(self) -> None:
        """Ask as a well-behaved visitor does: it is answered each time, and within a second."""
        took: list[float] = []
        for _ in range(VISITS):
            began = time.monotonic()
            assert status(self.get("/healthz", "")) == 200
            assert status(self.get("/api/state")) == 200
            took.append((time.monotonic() - began) / 2)
        assert statistics.median(took) < RULE_S, took

    @property
    def rss_mb(self) -> float:
        return self.process.memory_info().rss / 2**20

    def since(self) -> str:
        """Since when it streams."""
        state: dict[str, Any] = json.loads(self.get("/api/state").partition(b"\r\n\r\n")[2])
        assert state["phase"] == "streaming"
        return str(state["since"])

    def listen(self) -> Ear:
        """Open the page's events."""
        sock = self.connect()
        sock.sendall(f"GET /api/events HTTP/1.1\r\nHost: {HOST}\r\n{LOGIN}\r\n".encode())
        return Ear(sock)

    @contextmanager
    def attacked(self) -> Iterator[Callable[[], None]]:
        """Look at everything before an attack and after it. In between, call what is given while the attack stands."""
        with contextlib.closing(self.listen()) as ear:
            ear.hear_telemetry()
            since, open_before, rss_before = self.since(), self.process.num_fds(), self.rss_mb

            def stands() -> None:
                self.visit()
                assert self.rss_mb - rss_before <= MOST_GROWTH_MB

            yield stands
            self.visit()
            self.wait_until_quiet(open_before)
            assert self.rss_mb - rss_before <= MOST_GROWTH_MB
            ear.hear_telemetry()
            assert self.since() == since
            said = self.agent.log_text
            for fault in ("Traceback", "error in yiagent", "asyncio", "Exception", "never", "ERROR"):
                assert fault not in said

    def wait_until_quiet(self, descriptors: int) -> None:
        """Return when no connection is left of those that came since so many descriptors were open."""
        wait_until(
            lambda: self.process.num_fds() <= descriptors + OWN_DESCRIPTORS, PATIENCE_S, "all connections to be gone"
        )


class Ear:
    """One that listens to events, and reads them only when asked to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def hear_telemetry(self) -> None:
        """Return when telemetry has come that was not there yet."""
        self._sock.settimeout(0)
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            while piece := self._sock.recv(65536):
                pass
        self._sock.settimeout(VISIT_TIMEOUT_S)
        heard = b""
        while b"event: telemetry" not in heard:
            piece = self._sock.recv(65536)
            assert piece, "the listener was sent away"
            heard += piece

    def hear_all_for_now(self) -> None:
        """Read until the log's last line; what comes is no refusal."""
        heard = b""
        while b"event: log" not in heard:
            piece = self._sock.recv(65536)
            assert piece, heard
            heard += piece
        self._sock.settimeout(0)
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            while self._sock.recv(65536):
                pass

    def close(self) -> None:
        """Go away."""
        self._sock.close()


def read_all(sock: socket.socket) -> bytes:
    """What comes until the other end closes, in whatever way."""
    pieces = []
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := sock.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def status(response: bytes) -> int:
    """The status of an answer; 0 where none came."""
    return int(response.split(b" ", 2)[1]) if response.startswith(b"HTTP/1.") else 0


@contextmanager
def crowd(port: int, count: int, first_words: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections at once, each with its first words said; those that were ended stand there all the same."""
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        connecting = {}
        poll = select.poll()
        for sock in socks:
            sock.setblocking(False)
            sock.connect_ex((HOST, port))
            connecting[sock.fileno()] = sock
            poll.register(sock, select.POLLOUT)
        deadline = time.monotonic() + PATIENCE_S
        while connecting:
            assert time.monotonic() < deadline, f"{len(connecting)} of {count} did not come in"
            for number, _ in poll.poll(1000):
                poll.unregister(number)
                with contextlib.suppress(ConnectionError):
                    connecting.pop(number).send(first_words)
        yield socks


@pytest.fixture(scope="module", autouse=True)
def _many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def site_in(folder: Path, certificates: Certificates | None) -> Iterator[Site]:
    """A page that was used a little: everything opened once, and a log of some length."""
    port = free_port()
    web: dict[str, Any] = {"enabled": True, "host": HOST, "port": port, "password": PASSWORD}
    context = None
    if certificates is not None:
        pair = certificates.server
        web["tls"] = {"cert_file": f"{pair.cert_file}", "key_file": f"{pair.key_file}"}
        context = ssl.create_default_context(cafile=f"{certificates.ca_file}")
    config = {
        "web": web,
        "destination": {"server": "rtmp://127.0.0.1:1/live", "key": "made-up"},
        "stream": {"autostart": True, "audio": "copy"},
        "ffmpeg": f"{Path(__file__).parents[1] / 'children' / 'streams.py'}",
    }
    with AgentProcess(folder, config=config) as agent:
        wait_until(lambda: accepts(port), PATIENCE_S, "the page")
        site = Site(agent, port, context)
        wait_until(lambda: b'"streaming"' in site.get("/api/state"), PATIENCE_S, "the stream")
        for number in range(LOG_LINES):
            # Each leaves a line.
            assert status(site.get("/api/request", body=b'{"unknown-%d": 1}' % number)) == 400
        for path in ("/", "/healthz", "/metrics", "/api/log", "/api/history", "/api/about", "/api/broker", "/nothing"):
            assert status(site.get(path))
        with contextlib.closing(site.listen()) as ear:
            ear.hear_telemetry()
        site.send(b"\0")
        yield site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page without TLS."""
    with site_in(tmp_path_factory.mktemp("plain"), None) as site:
        yield site


@pytest.fixture(scope="module")
def tls_site(tmp_path_factory: pytest.TempPathFactory, any_certificates: Certificates) -> Iterator[Site]:
    """The page with TLS."""
    with site_in(tmp_path_factory.mktemp("tls"), any_certificates) as site:
        yield site


@pytest.fixture(params=["site", "tls_site"])
def any_site(request: pytest.FixtureRequest) -> Site:
    """Each of the two."""
    found: Site = request.getfixturevalue(request.param)
    return found


# Those that keep places


@pytest.mark.parametrize("count", [200, 1000])
def test_requests_that_stop_in_the_middle_keep_nobody_out(site: Site, count: int) -> None:
    """However many requests stand there half sent, others are answered."""
    half = f"GET /api/state HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: ".encode()
    with site.attacked() as stands, crowd(site.port, count, half):
        stands()


def test_connections_that_say_nothing_keep_nobody_out(site: Site) -> None:
    """However many connections say nothing, others are answered."""
    with site.attacked() as stands, crowd(site.port, 1000):
        stands()


def test_a_flood_that_goes_on_keeps_nobody_out(site: Site) -> None:
    """While connections go on coming, faster than any browser's, a visitor has time enough to say what it wants."""
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            with contextlib.suppress(AssertionError), crowd(site.port, 40, b"GET / HTTP/1.1\r\n"):
                pass

    with site.attacked() as stands:
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            stands()
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("path", ["/api/log", "/", "/api/events"])
def test_readers_that_do_not_read_keep_nobody_out(site: Site, path: str) -> None:
    """Whoever asks and does not read the answer gives its place to those who do."""
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{LOGIN}\r\n".encode()
    with site.attacked() as stands, ExitStack() as stack:
        for _ in range(50):
            sock = stack.enter_context(site.connect(receive_bytes=2048))
            with contextlib.suppress(ConnectionError):
                sock.sendall(request)
        stands()


def test_a_page_that_was_left_gives_its_place_to_the_next(any_site: Site) -> None:
    """Opening the page again and again is never too many pages: one that was left counts no more, and at once."""
    with any_site.attacked() as stands:
        for _ in range(40):
            with contextlib.closing(any_site.listen()) as ear:
                # All is read, so that the end is a quiet one and not a reset.
                ear.hear_all_for_now()
        stands()


# Those that send too much


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
def test_a_body_without_end_is_refused_at_its_head(site: Site, expect: str) -> None:
    """A body that is too long is refused before it is read, and its sender sees why."""
    head = f"POST /api/request HTTP/1.1\r\nHost: {HOST}\r\n{LOGIN}{expect}Content-Length: {BODY_BYTES}\r\n\r\n"
    with site.attacked() as stands, site.connect() as sock:
        sock.sendall(head.encode())
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < BODY_BYTES:
                sent += sock.send(bytes(65536))
        assert sent < BODY_BYTES
        stands()
    assert status(site.send(head.encode() + bytes(1000))) == 413


def test_ten_thousand_headers_are_refused(site: Site) -> None:
    """More headers than any browser sends are not kept."""
    head = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n" + "X-More: 1\r\n" * 10_000 + "\r\n"
    with site.attacked() as stands:
        assert status(site.send(head.encode())) in (0, 431)
        stands()


def test_a_header_line_without_end_is_refused(site: Site) -> None:
    """A line is read so far and no further."""
    with site.attacked() as stands, site.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < BODY_BYTES:
                sent += sock.send(b"x" * 65536)
        assert sent < BODY_BYTES
        stands()


# Those that take their time


def test_whoever_takes_too_long_is_told_so(site: Site) -> None:
    """A head that comes byte by byte has five seconds in all, a body that never comes ten; then it is over."""
    drip = iter(f"GET / HTTP/1.1\r\nX-Slow: {'x' * 5000}".encode())
    with site.attacked() as stands, site.connect() as dripping, site.connect() as waiting:
        began = time.monotonic()
        waiting.sendall(f"POST /api/request HTTP/1.1\r\nHost: {HOST}\r\n{LOGIN}Content-Length: 9\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            while not select.select([dripping], [], [], 0.05)[0]:
                dripping.send(bytes([next(drip)]))
        assert status(read_all(dripping)) in (0, 408)
        assert TIMES_OUT_AFTER_S * 0.9 < time.monotonic() - began < TIMES_OUT_AFTER_S * 1.8
        stands()
        waiting.settimeout(PATIENCE_S)
        assert status(read_all(waiting)) == 408


# Those that speak otherwise

ODD = {
    "two lengths": b"POST /api/request HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": b"POST /api/request HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n{}",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "NUL": b"GET / HTTP/1.1\r\nHost: x\0\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(range(256)) * 2,
    "garbage": bytes(range(255, 0, -1)) * 20,
}


def test_what_is_no_request_is_refused(site: Site) -> None:
    """What could be read in two ways, or in none, is refused as such and never answered as a request."""
    with site.attacked() as stands:
        answers = {what: status(site.send(data)) for what, data in ODD.items()}
        stands()
    assert answers == dict.fromkeys(ODD, 400)


# With TLS


def test_handshakes_that_stop_in_the_middle_keep_nobody_out(tls_site: Site) -> None:
    """However many handshakes stand there half done, others are answered."""
    outgoing = ssl.MemoryBIO()
    half = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST)
    with contextlib.suppress(ssl.SSLWantReadError):
        half.do_handshake()
    with tls_site.attacked() as stands, crowd(tls_site.port, 200, outgoing.read()):
        stands()


def test_connections_without_a_handshake_keep_nobody_out(tls_site: Site) -> None:
    """However many connections never begin to speak TLS, or speak something else, others are answered."""
    with tls_site.attacked() as stands:
        with crowd(tls_site.port, 1000):
            stands()
        with crowd(tls_site.port, 100, b"GET / HTTP/1.1\r\n\r\n"):
            stands()


def test_handshakes_that_are_broken_off_leave_nothing(tls_site: Site) -> None:
    """Whoever goes away in the middle of the handshake, or right behind it, leaves neither a place nor a line."""
    with tls_site.attacked() as stands:
        for _ in range(30):
            with tls_site.knock() as sock:
                sock.sendall(b"\x16\x03\x01")
            tls_site.connect().close()
        stands()


def test_whoever_does_not_say_good_bye_is_not_waited_for(tls_site: Site) -> None:
    """TLS ends with a word from both sides; whoever keeps it back, and the connection open, keeps nobody out."""
    request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n{LOGIN}\r\n".encode()
    with tls_site.attacked() as stands, ExitStack() as stack:
        for _ in range(100):
            sock = stack.enter_context(tls_site.connect())
            sock.sendall(request)
            while sock.recv(65536).endswith(b"</html>") is False:
                pass
        assert tls_site.process.num_fds() < 70
        stands()


def test_http_client_reads_whole_answers(tls_site: Site) -> None:
    """However the connection is ended, nothing of an answer is cut off."""
    for _ in range(20):
        connection = http.client.HTTPSConnection(HOST, tls_site.port, context=tls_site.tls, timeout=VISIT_TIMEOUT_S)
        connection.request("GET", "/", headers=dict([LOGIN.strip().split(": ", 1)]))
        response = connection.getresponse()
        assert response.read().rstrip().endswith(b"</html>")
        connection.close()
