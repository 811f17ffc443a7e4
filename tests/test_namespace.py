"""In a namespace of a test's own, a server vanishes and comes back, a disk is full, and a disk is read-only."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import termios
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peers.namespace import (
    make_read_only,
    make_writable,
    namespace_prefix,
    reappear,
    run_in_namespace,
    small_disk,
    vanish,
    why_not,
)
from tests.peers.ports import accepts, free_port, has_ipv6_loopback
from tests.peers.process import PeerError, wait_until

SENT = b"x" * 1000
CONNECT_TIMEOUT_S = 0.3
# TCP sends again after 0.2, 0.6, 1.4, 3 s.
PATIENCE_S = 10.0


@pytest.fixture
def _allowed() -> None:
    if reason := why_not():
        pytest.skip(f"no namespace on this machine: {reason}")


@pytest.mark.usefixtures("_allowed")
def test_a_vanished_port_neither_answers_nor_refuses_and_comes_back(tmp_path: Path) -> None:
    """What is sent stays unacknowledged both ways, new connections time out; back, all of it arrives."""
    run_in_namespace(_a_port_vanishes, tmp_path)


def _a_port_vanishes(_folder: Path) -> None:
    hosts = ["127.0.0.1", *(["::1"] if has_ipv6_loopback() else [])]
    port, other_port = free_port(), free_port()
    with ExitStack() as stack:
        pairs = []
        for host in hosts:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = stack.enter_context(socket.create_server((host, port), family=family))
            stack.enter_context(socket.create_server((host, other_port), family=family))
            client = stack.enter_context(socket.create_connection((host, port)))
            server, _ = listening.accept()
            pairs += [(client, stack.enter_context(server)), (server, client)]

        vanish(port)
        vanish(port)  # twice is as once
        for sender, _receiver in pairs:
            sender.sendall(SENT)
        for host in hosts:
            with pytest.raises(TimeoutError):
                socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S)
            assert accepts(other_port, host)
        for sender, receiver in pairs:
            assert _unacknowledged(sender) == len(SENT)
            with pytest.raises(BlockingIOError):
                receiver.recv(1, socket.MSG_DONTWAIT)

        reappear(port)
        for _sender, receiver in pairs:
            receiver.settimeout(PATIENCE_S)
            assert receiver.recv(len(SENT), socket.MSG_WAITALL) == SENT
        wait_until(lambda: not any(_unacknowledged(sender) for sender, _ in pairs), PATIENCE_S, "acknowledgements")
        for host in hosts:
            assert accepts(port, host)


def _unacknowledged(sender: socket.socket) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(sender, termios.TIOCOUTQ, bytes(4)))
    return int(count)


@pytest.mark.usefixtures("_allowed")
def test_a_small_disk_is_full_then_read_only_then_well(tmp_path: Path) -> None:
    """ENOSPC when it is full; EROFS when read-only, even with a file open to write; and nothing of it outside."""
    (tmp_path / "disk").mkdir()
    run_in_namespace(_a_disk_has_faults, tmp_path)
    assert list((tmp_path / "disk").iterdir()) == []


def _a_disk_has_faults(folder: Path) -> None:
    disk = folder / "disk"
    small_disk(disk, 64)
    with pytest.raises(OSError, match="No space") as full:
        (disk / "large").write_bytes(bytes(65 * 1024))
    assert full.value.errno == errno.ENOSPC
    (disk / "large").unlink()
    (disk / "large").write_bytes(bytes(60 * 1024))

    with (disk / "open").open("wb", buffering=0) as held:
        make_read_only(disk)
        for change in (
            lambda: (disk / "new").touch(),
            lambda: (disk / "large").write_bytes(b""),
            lambda: (disk / "large").rename(disk / "other"),
            lambda: (disk / "large").unlink(),
        ):
            with pytest.raises(OSError, match="Read-only") as refused:
                change()
            assert refused.value.errno == errno.EROFS
        held.write(b"x")
        with (disk / "large").open("rb"):
            make_writable(disk)
    (disk / "new").touch()
    assert {path.name for path in disk.iterdir()} == {"large", "new", "open"}


@pytest.mark.usefixtures("_allowed")
def test_a_body_that_fails_or_hangs_fails_its_test(tmp_path: Path) -> None:
    """With what it wrote; the time-out ends one that does not end."""
    with pytest.raises(PeerError, match=r"(?s)_fails ended with 1.*made up"):
        run_in_namespace(_fails, tmp_path)
    with pytest.raises(PeerError, match=r"_hangs did not end within 0\.5 s"):
        run_in_namespace(_hangs, tmp_path, timeout_s=0.5)


def _fails(_folder: Path) -> None:
    raise AssertionError("made up")


def _hangs(_folder: Path) -> None:
    time.sleep(PATIENCE_S)


def test_nothing_is_done_to_the_machine_itself(tmp_path: Path) -> None:
    """Outside a namespace every one of the faults is refused; and there is a prefix or a reason why not."""
    with pytest.raises(PeerError, match="here is none"):
        vanish(free_port())
    with pytest.raises(PeerError, match="here is none"):
        small_disk(tmp_path, 4)
    assert (namespace_prefix() is None) == (why_not() is not None)
