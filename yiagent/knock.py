"""Whether camera and server can be reached at all: a TCP connect costs nothing, a doomed ffmpeg 100 ms of processor.

What keeps a peer from answering is told in the words that ffmpeg's own failure to connect would have.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from yiagent.chance import between
from yiagent.diagnosis import Diagnosis
from yiagent.model import Failure
from yiagent.network import ADDRESS_TIMEOUT_S, addresses_of, connect, is_far, port_of
from yiagent.progress import parse_message
from yiagent.threads import in_daemon_thread
from yiagent.urls import Url

# How often absent peers are knocked at: on the local network, where most are back within minutes, and beyond it, where
# it is somebody else's server. Twice a second costs 0.06 s of processor a minute (measured, x86-64).
EARLY_PERIOD_S: Final = 0.5
EARLY_S: Final = 300.0
NEAR_PERIOD_S: Final = 1.0
FAR_PERIOD_S: Final = 5.0
# Agents of one household must not all come back in the same instant.
JITTER: Final = 0.25
# That one which swallowed packets is back shows at the next knock: the sooner one gives up, the sooner it is noticed.
# Not before the kernel has asked a second time, after one second.
NEAR_TIMEOUT_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Knock:
    """What came of one try. `failure` None: both answered. `far`: who did not is beyond the local network."""

    failure: Failure | None
    far: bool = False


def knock(camera: Url, server: Url) -> Knock:
    """Connect to both and hang up again; carries no data. Blocks for some seconds where one does not answer."""
    for url in (camera, server):
        far = False
        try:
            port = port_of(url)
            addresses = addresses_of(url.host, port)
            far = any(map(is_far, addresses))
            connect(addresses, port, address_timeout_s=ADDRESS_TIMEOUT_S if far else NEAR_TIMEOUT_S).close()
        except OSError as error:
            message = ffmpeg_message(error)
            is_encrypted = url.scheme == "rtmps"
            failure = camera_failure(message) if url is camera else server_failure(message, encrypted=is_encrypted)
            return Knock(failure, far)
    return Knock(None)


# An absent peer gives the same answer for hours, and the rules are many.
@lru_cache(maxsize=32)
def camera_failure(message: str) -> Failure:
    """What the agent makes of ffmpeg ending with `message` while it opens the camera."""
    diagnosis = Diagnosis(encrypted=False)
    diagnosis.hear(parse_message(message))
    return diagnosis.late()


@lru_cache(maxsize=32)
def server_failure(message: str, *, encrypted: bool) -> Failure:
    """What the agent makes of ffmpeg ending with `message` while it opens the server; "" for no word at all."""
    diagnosis = Diagnosis(encrypted=encrypted)
    diagnosis.hear(parse_message("Input #0, rtsp"))
    diagnosis.hear(parse_message(message))
    return diagnosis.late()


def ffmpeg_message(error: OSError) -> str:
    """How ffmpeg tells of this failure to connect."""
    if isinstance(error, socket.gaierror):
        return "Failed to resolve hostname"
    # A socket's own time-out carries no strerror.
    return f"Connection to tcp://there failed: {error.strerror or 'Connection timed out'}"


class Knocker:
    """Knocks at one camera and one server again and again until both answer.

    `on_knock` is called with what came of each try, in the loop's thread; `on_bug` with an error of our own.
    """

    def __init__(self, on_knock: Callable[[Knock], None], on_bug: Callable[[Exception], None]) -> None:
        self._on_knock = on_knock
        self._on_bug = on_bug
        self._task: asyncio.Task[None] | None = None

    def begin(self, camera: Url, server: Url) -> None:
        """Begin anew, with these two."""
        self.end()
        self._task = asyncio.create_task(self._run(camera, server))

    def end(self) -> None:
        """Knock no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, camera: Url, server: Url) -> None:
        began = time.monotonic()
        try:
            while True:
                period_s = NEAR_PERIOD_S
                try:
                    result = await in_daemon_thread(lambda: knock(camera, server))
                except OSError:
                    # No room for a thread just now; what becomes of the peers will show at the next knock.
                    pass
                else:
                    self._on_knock(result)
                    if result.failure is None:
                        return
                    is_early = time.monotonic() - began < EARLY_S
                    period_s = FAR_PERIOD_S if result.far else EARLY_PERIOD_S if is_early else NEAR_PERIOD_S
                await asyncio.sleep(period_s * between(1 - JITTER, 1 + JITTER))
        except Exception as error:
            self._on_bug(error)
