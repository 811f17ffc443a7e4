"""The page under attack: it answers its owner, stays small, and lets nobody hold a place for ever."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.harness import AgentProcess
from tests.peers.certificates import Certificates
from tests.peers.process import wait_until
from tests.web.browser import PASSWORD, PageAgent, page_agent

# What the contract of this table is.
ANSWER_S = 1.0
MOST_GROWTH_BYTES = 4 << 20
# TLS takes 0.1 MB for each of the two dozen that are begun at once, and leaves as much until it is collected.
MOST_TLS_GROWTH_BYTES = 12 << 20
VISITS = 7
PATIENCE_S = 20.0
AUTHORIZATION = "Basic " + base64.b64encode(f"yiagent:{PASSWORD}".encode()).decode()
WHOLE = f"GET /api/log HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {AUTHORIZATION}\r\n\r\n".encode()
EVENTS = WHOLE.replace(b"/api/log", b"/api/events")
POST = (
    f"POST /api/request HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {AUTHORIZATION}\r\n"
    "Content-Type: application/json\r\n"
)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageAgent]:
    """One agent for all attacks, as they come in life."""
    with page_agent(tmp_path_factory.mktemp("attack") / "attacked", None) as running:
        for _ in range(3):
            visit_once(running)
        yield running


def port_of(agent: AgentProcess) -> int:
    return int(agent.config["web"]["port"])


def connected(agent: AgentProcess, *, receive_buffer: int | None = None) -> socket.socket:
    """One more connection to the page."""
    sock = socket.socket()
    sock.settimeout(PATIENCE_S)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", port_of(agent)))
    return sock


def visit_once(agent: AgentProcess) -> float:
    """What the owner does; how long the slower of the two answers took, in seconds."""
    worst = 0.0
    for path, headers in (("/healthz", {}), ("/api/state", {"Authorization": AUTHORIZATION})):
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port_of(agent), timeout=PATIENCE_S)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = json.loads(answer.read())
        finally:
            connection.close()
        worst = max(worst, time.monotonic() - began)
        assert answer.status == 200
        assert body["phase"] == "idle"
    return worst


def memory(agent: AgentProcess) -> int:
    """Resident bytes."""
    return int(psutil.Process(agent.pid).memory_info().rss)


@contextmanager
def withstood(agent: AgentProcess) -> Iterator[Callable[[], None]]:
    """The rule for every attack. Call what is given while the attack stands: the owner is answered then."""
    process = psutil.Process(agent.pid)
    before, descriptors = memory(agent), process.num_fds()

    def visit() -> None:
        # The median: this machine may be busy for a moment with something else.
        assert statistics.median(visit_once(agent) for _ in range(VISITS)) < ANSWER_S
        assert memory(agent) - before <= MOST_GROWTH_BYTES

    yield visit
    visit()
    wait_until(lambda: process.num_fds() <= descriptors, PATIENCE_S, "all connections to be gone")
    assert memory(agent) - before <= MOST_GROWTH_BYTES
    for word in ("Traceback", "error in yiagent", "never retrieved", "was destroyed", "asyncio"):
        assert word not in agent.full_log_text


def answer_to(agent: AgentProcess, data: bytes) -> int | None:
    """The status that `data` is answered with; None where the connection is closed without one."""
    with connected(agent) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(data)
        answer = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in answer and (piece := sock.recv(4096)):
                answer += piece
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.") else None


# --- many at once ---


@pytest.mark.parametrize("count", [200, 1000])
@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["silent", "half a request"])
def test_half_open_requests(agent: PageAgent, count: int, sent: bytes) -> None:
    """Who has not sent a request makes room for who has: the owner is answered while they all stand."""
    with withstood(agent) as visit, ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(connected(agent))
            with contextlib.suppress(OSError):
                sock.sendall(sent)
        visit()


@pytest.mark.parametrize("request_line", [WHOLE, EVENTS], ids=["log", "events"])
def test_slow_readers(agent: PageAgent, request_line: bytes) -> None:
    """Who asks and does not read holds no place that another one needs."""
    with withstood(agent) as visit, ExitStack() as stack:
        for _ in range(50):
            sock = stack.enter_context(connected(agent, receive_buffer=2048))
            with contextlib.suppress(OSError):
                sock.sendall(request_line)
        visit()


def test_a_body_of_200_megabytes(agent: PageAgent) -> None:
    """It is refused by its length, before it is read, whether or not the sender waits for a word."""
    length = 200 << 20
    piece = bytes(1 << 16)
    with withstood(agent) as visit:
        for expect in ("", "Expect: 100-continue\r\n"):
            with connected(agent) as sock:
                sock.sendall(f"{POST}{expect}Content-Length: {length}\r\n\r\n".encode())
                sent = 0
                with contextlib.suppress(OSError):
                    while sent < length:
                        sock.sendall(piece)
                        sent += len(piece)
                assert sent < length
                visit()
            assert answer_to(agent, f"{POST}{expect}Content-Length: {length}\r\n\r\n".encode()) == 413


def test_a_body_sent_without_a_length_is_no_second_request(agent: PageAgent) -> None:
    """One request for each connection: what follows it is read by nobody."""
    smuggled = WHOLE + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with withstood(agent), connected(agent) as sock:
        sock.sendall(smuggled)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    assert answer.count(b"HTTP/1.0 200") == 1


def test_a_listener_goes_on_hearing(agent: PageAgent) -> None:
    """A page that was open before an attack is live after it."""
    with connected(agent) as listener:
        listener.sendall(EVENTS)
        heard = listener.recv(12)
        assert heard == b"HTTP/1.0 200"
        with ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(connected(agent))
            visit_once(agent)
        # What was said before and meanwhile; what follows is new.
        listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while listener.recv(65536):
                pass
        listener.settimeout(PATIENCE_S)
        while b"event: telemetry" not in heard:
            piece = listener.recv(65536)
            assert piece
            heard += piece


def test_more_listeners_than_there_are_places(agent: PageAgent) -> None:
    """The thirteenth is told so, and the owner still gets through."""
    with withstood(agent) as visit, ExitStack() as stack:
        for _ in range(12):
            sock = stack.enter_context(connected(agent))
            sock.sendall(EVENTS)
            assert sock.recv(15) == b"HTTP/1.0 200 OK"
        assert answer_to(agent, EVENTS) == 503
        visit()
    wait_until(lambda: answer_to(agent, EVENTS) == 200, PATIENCE_S, "a place to be free again")


# --- one that is malformed ---


@pytest.mark.parametrize(
    ("name", "data", "statuses"),
    [
        ("duplicate Content-Length", POST.encode() + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", {400}),
        ("the same Content-Length twice", POST.encode() + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", {400}),
        ("negative Content-Length", POST.encode() + b"Content-Length: -2\r\n\r\n{}", {400}),
        ("signed Content-Length", POST.encode() + b"Content-Length: +2\r\n\r\n{}", {400}),
        ("a list of Content-Length", POST.encode() + b"Content-Length: 2, 2\r\n\r\n{}", {400}),
        ("endless Content-Length", POST.encode() + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n{}", {400}),
        (
            "Transfer-Encoding with Content-Length",
            POST.encode() + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            {400},
        ),
        ("Transfer-Encoding", POST.encode() + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", {411}),
        ("NUL in a header", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", {400}),
        ("NUL in the address", b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
        ("bare LF", b"GET / HTTP/1.1\nHost: x\n\n", {400}),
        ("one bare LF", b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", {400}),
        ("bare CR", b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", {400}),
        ("a folded header", b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", {400}),
        ("a space before the colon", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", {400}),
        ("two hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", {400}),
        ("no host", b"GET / HTTP/1.1\r\n\r\n", {400}),
        ("10,000 headers", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", {431}),
        ("65 headers", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 64 + b"\r\n", {431}),
        ("an endless header", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000, {431}),
        ("an endless address", b"GET /" + b"y" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {414}),
        ("an address that cannot be decoded", WHOLE.replace(b"/api/log", b"/api/log?since=%zz&%"), {200, 400}),
        ("a long odd query", WHOLE.replace(b"/api/log", b"/api/log?" + b"a=%&" * 1000), {200, 400}),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
        ("HTTP/0.9", b"GET /\r\n\r\n", {400}),
        ("a whole URL", b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
        ("TLS", bytes.fromhex("16030100f8010000f40303") + bytes(240), {400}),
        ("garbage", bytes(range(256)) * 8, {400}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_request(agent: PageAgent, name: str, data: bytes, statuses: set[int]) -> None:
    """It is refused by a status, at once, and nothing of it is taken for a request."""
    with withstood(agent) as visit:
        assert answer_to(agent, data) in statuses
        visit()


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nHost: x\r\nX-Never: ", POST.encode() + b"Content-Length: 100\r\n\r\n{"],
    ids=["head", "body"],
)
def test_a_request_that_never_ends(agent: PageAgent, data: bytes) -> None:
    """It is ended by the guard, with a word why."""
    with withstood(agent):
        assert answer_to(agent, data) == 408


# --- under TLS ---


@pytest.mark.parametrize(("count", "sent"), [(200, bytes.fromhex("1603010200")), (1000, b"")], ids=["begun", "silent"])
def test_handshakes_that_never_end(tmp_path: Path, any_certificates: Certificates, count: int, sent: bytes) -> None:
    """Encrypted, the same holds from the first byte on."""
    pair = any_certificates.server
    agent = page_agent(tmp_path / "encrypted", None)
    agent.config["web"]["tls"] = {"cert_file": str(pair.cert_file), "key_file": str(pair.key_file)}
    with agent, ExitStack() as stack:
        process = psutil.Process(agent.pid)
        assert encrypted_visit(agent, any_certificates) == 200
        before, descriptors = memory(agent), process.num_fds()
        for _ in range(count):
            sock = stack.enter_context(connected(agent))
            with contextlib.suppress(OSError):
                sock.sendall(sent)
        times = []
        for _ in range(VISITS):
            began = time.monotonic()
            assert encrypted_visit(agent, any_certificates) == 200
            times.append(time.monotonic() - began)
        assert statistics.median(times) < ANSWER_S
        assert memory(agent) - before <= MOST_TLS_GROWTH_BYTES
        stack.close()
        wait_until(lambda: process.num_fds() <= descriptors, PATIENCE_S, "all connections to be gone")
        for word in ("Traceback", "error in yiagent", "never retrieved", "was destroyed", "asyncio"):
            assert word not in agent.full_log_text


def encrypted_visit(agent: AgentProcess, certificates: Certificates) -> int:
    """The status of the agent's health, asked by TLS with its certificate checked."""
    context = ssl.create_default_context(cafile=str(certificates.ca_file))
    connection = http.client.HTTPSConnection("localhost", port_of(agent), context=context, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    finally:
        connection.close()
