"""What the kernel still holds of what was written: by it, frozen is told from slow, and both from healthy.

That they are told apart is stated by rows of `tests/faults`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.peers.ports import has_ipv6_loopback
from tests.peers.process import wait_until
from yiagent import sendqueue
from yiagent.sendqueue import SendQueue

PATIENCE_S = 40.0
NOWHERE = Path("/nowhere")


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    """An address of this machine, of either family."""
    if request.param == "::1" and not has_ipv6_loopback():
        pytest.skip("no IPv6 on this machine")
    return str(request.param)


@pytest.fixture(params=["one connection", "all connections"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the kernel is asked: for the one connection, or, where it does not know that question, for its table."""
    if request.param == "all connections":
        monkeypatch.setattr(sendqueue, "_NETLINK_SOCK_DIAG", 31)
    return str(request.param)


@contextmanager
def connected(host: str) -> Iterator[tuple[SendQueue, socket.socket, socket.socket]]:
    """The queue of a connection, its sender and its reader."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection((host, port)) as sender:
            reader, _ = listening.accept()
            with reader:
                yield SendQueue(psutil.Process().pid, port), sender, reader


def fill(sender: socket.socket) -> int:
    """Write until no more is taken; how many bytes."""
    sender.setblocking(False)
    written = 0
    try:
        while True:
            written += sender.send(b"x" * 65536)
    except BlockingIOError:
        return written


def test_the_send_queue_of_a_reader_that_stands_still(host: str, way: str) -> None:
    """What is written and not taken shows as so many bytes; taken, it is zero; gone, it is unknown."""
    with connected(host) as (queue, sender, reader):
        assert queue.read() == 0
        written = fill(sender)
        held = queue.read()
        assert held is not None
        assert 0 < held <= written
        thread = threading.Thread(target=_drain, args=(reader, written))
        thread.start()
        wait_until(lambda: queue.read() == 0, PATIENCE_S, "an empty queue")
        thread.join()
    assert queue.read() is None


def test_once_found_no_table_is_read() -> None:
    """On a machine with much memory the tables take a hundred times as long; both tell the same."""
    with connected("127.0.0.1") as (queue, sender, _):
        queue.read()
        fill(sender)
        folder, queue._folder = queue._folder, NOWHERE
        held = queue.read()
        queue._folder = folder
        queue._request = None
        assert held
        assert queue.read() == held


def test_another_connection_between_the_same_ends_is_not_taken_for_it() -> None:
    """Ends can be had again by another process: what it has waiting is not the child's."""
    with connected("127.0.0.1") as (queue, sender, _):
        assert queue.read() == 0
        fill(sender)
        queue._inode = "1"
        assert queue.read() is None


def test_a_connection_that_is_not_there() -> None:
    """Of a port that nobody is connected to, and of a process that is none: unknown."""
    with connected("127.0.0.1") as (_, sender, _):
        assert SendQueue(psutil.Process().pid, 1).read() is None
        assert SendQueue(2**22 + 1, sender.getpeername()[1]).read() is None


def test_a_search_that_takes_long_is_not_made_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among tens of thousands of connections: a child that reports fast would leave the loop no time for anything."""
    searches: list[SendQueue] = []
    moments = iter([0.0, 0.3, 0.5, 6.2, 6.4, 6.7])
    monkeypatch.setattr(sendqueue, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    monkeypatch.setattr(SendQueue, "_find", lambda queue: searches.append(queue))
    queue = SendQueue(1, 1935)
    for _ in range(4):
        assert queue.read() is None
    # At 0 and at 6.4: it took 0.3 s, and 0.5 and 6.2 are within 20 times that.
    assert len(searches) == 2


def _drain(reader: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(reader.recv(65536))
