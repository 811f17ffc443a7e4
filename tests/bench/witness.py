"""What nginx-rtmp says of its streams, asked often: over one connection, and without a tree of all it says."""

from __future__ import annotations

import http.client
import re
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.peers.process import PeerError

POLL_S = 0.005
TIMEOUT_S = 5.0
# The camera's smallest keyframe has 28 kB in 720p, and what may come before it has less: ffmpeg's headers, and two
# seconds of sound. So this much tells of a picture.
PICTURE_BYTES = 20_000
_STREAM = re.compile(rb"<stream>\s*<name>([^<]*)</name>(.*?)</stream>", re.DOTALL)
_BYTES_IN = re.compile(rb"<bytes_in>(\d+)</bytes_in>")
# A client has such a mark of its own; the stream's stands behind all clients.
_PUBLISHING = re.compile(rb"<nclients>\d+</nclients>\s*<publishing/>")


@dataclass(frozen=True)
class Arrival:
    """When the server had the stream, and when its first picture; `time.monotonic()`, at most `POLL_S` late."""

    published_s: float
    media_s: float


class Witness:
    """nginx-rtmp's statistics at this port of 127.0.0.1; a context manager."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, TIMEOUT_S)

    def wait_for(self, name: str, timeout_s: float) -> Arrival:
        """Return when the stream's first picture has come."""
        deadline = time.monotonic() + timeout_s
        published_s: float | None = None
        while (now := time.monotonic()) < deadline:
            count = self.bytes_in().get(name)
            # When the answer is here: that much is sure by then.
            at_s = time.monotonic()
            if count is not None:
                published_s = published_s or at_s
                if count > PICTURE_BYTES:
                    return Arrival(published_s, at_s)
            time.sleep(max(0.0, now + POLL_S - time.monotonic()))
        raise PeerError(f"no media of {name} within {timeout_s:g} s; published: {published_s is not None}")

    def wait_for_none(self, timeout_s: float) -> None:
        """Return when nobody publishes any more."""
        deadline = time.monotonic() + timeout_s
        while streams := self.bytes_in():
            if time.monotonic() > deadline:
                raise PeerError(f"still published after {timeout_s:g} s: {', '.join(streams)}")
            time.sleep(POLL_S)

    def bytes_in(self) -> dict[str, int]:
        """How much has come of each stream that somebody publishes. Raises where the server is away."""
        try:
            return self._ask()
        except (OSError, http.client.HTTPException):
            # A connection that was idle for long has been closed meanwhile, and one that failed half-way would refuse
            # every other request. Only a new one tells whether the server is away.
            self._connection.close()
        return self._ask()

    def _ask(self) -> dict[str, int]:
        self._connection.request("GET", "/stat")
        return published_bytes(self._connection.getresponse().read())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()


def published_bytes(statistics: bytes) -> dict[str, int]:
    """The streams with a publisher in nginx-rtmp's statistics, and how many bytes have come of each."""
    found = {}
    for name, rest in _STREAM.findall(statistics):
        count = _BYTES_IN.search(rest)
        if count is not None and _PUBLISHING.search(rest):
            found[name.decode()] = int(count[1])
    return found
