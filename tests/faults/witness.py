"""What the server really receives, by the server's own count: independent of everything the agent says."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from xml.etree import ElementTree

from tests.peers.process import PeerError
from tests.peers.rtmp import HEADERS_BYTES, RtmpServer

POLL_S: Final = 0.1
# An hour of looks; older ones are of no use to anyone.
MOST_LOOKS: Final = 36_000


@dataclass(frozen=True)
class Look:
    """One look at the server: `at` is monotonic seconds, `received` bytes of media since the witness began.

    `began`: when the publisher that was seen began, None for none; `of_it`: bytes of media received of that one.
    """

    at: float
    received: int
    began: float | None
    of_it: int


class Witness:
    """Looks at one stream of an nginx ten times a second, on a thread of its own.

    A server that is away receives nothing. A stream begins anew with every publisher; `received` only ever grows.
    """

    def __init__(self, server: RtmpServer, key: str) -> None:
        self._server = server
        self._name = key.partition("?")[0]
        self._looks: deque[Look] = deque(maxlen=MOST_LOOKS)
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._total = 0
        self._last = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def received(self) -> int:
        """Bytes of media that came in since the witness began."""
        with self._changed:
            return self._looks[-1].received if self._looks else 0

    def received_at(self, moment: float) -> int:
        """The same, as it stood at a moment of monotonic seconds."""
        with self._changed:
            return next((look.received for look in reversed(self._looks) if look.at <= moment), 0)

    def wait_for_media(self, moment: float, more_than_bytes: int, timeout_s: float) -> float:
        """Seconds from `moment` until more than so many bytes have come since then."""
        wanted = self.received_at(moment) + more_than_bytes
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = next((look.at for look in self._looks if look.at >= moment and look.received > wanted), None)
                if found is not None:
                    return found - moment
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    raise PeerError(f"no media reached the server within {timeout_s:g} s")

    def wait_for_new_publisher(self, moment: float, more_than_bytes: int, timeout_s: float) -> float:
        """Seconds from `moment` until a publisher that came after it has sent more than so many bytes."""
        # nginx and this process do not read their clocks at the same instant.
        began_after = moment - POLL_S
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = (look for look in self._looks if look.began is not None and look.began >= began_after)
                at = next((look.at for look in found if look.of_it > more_than_bytes), None)
                if at is not None:
                    return max(0.0, at - moment)
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    raise PeerError(f"no media of a new publisher reached the server within {timeout_s:g} s")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(POLL_S):
            self._look()

    def _look(self) -> None:
        now = 0
        began = None
        with suppress(OSError, ElementTree.ParseError):
            found = [stream for stream in self._server.streams() if stream.name == self._name and stream.publishing]
            # A look that a frozen server answers late is one of now: the count is what it has by now.
            began = time.monotonic() - found[0].publishing_s if found else None
            now = max(0, sum(stream.bytes_in for stream in found) - HEADERS_BYTES)
            self._total += now - self._last if now >= self._last else now
            self._last = now
        with self._changed:
            self._looks.append(Look(time.monotonic(), self._total, began, now))
            self._changed.notify_all()
