"""What the kernel still holds of what was written: by it, frozen is told from slow, and both from healthy.

That they are told apart is stated by rows of `tests/faults`.
"""

from __future__ import annotations

import socket
import threading

import psutil

from tests.peers.process import wait_until
from yiagent.sendqueue import SendQueue

PATIENCE_S = 40.0


def test_the_send_queue_of_a_reader_that_stands_still() -> None:
    """What is written and not taken shows as so many bytes; taken, it is zero; gone, it is unknown."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as sender:
            reader, _ = listening.accept()
            with reader:
                queue = SendQueue(psutil.Process().pid, port)
                assert queue.read() == 0
                sender.setblocking(False)
                written = 0
                try:
                    while True:
                        written += sender.send(b"x" * 65536)
                except BlockingIOError:
                    pass
                held = queue.read()
                assert held is not None
                assert 0 < held <= written
                thread = threading.Thread(target=_drain, args=(reader, written))
                thread.start()
                wait_until(lambda: queue.read() == 0, PATIENCE_S, "an empty queue")
                thread.join()
        assert queue.read() is None
        assert SendQueue(psutil.Process().pid, 1).read() is None
        assert SendQueue(2**22 + 1, port).read() is None


def _drain(reader: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(reader.recv(65536))
