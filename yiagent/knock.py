"""Whether camera and server can be reached at all: a TCP connect costs nothing, a doomed ffmpeg 100 ms of processor.

What keeps a peer from answering is told in the words that ffmpeg's own failure to connect would have.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from yiagent.diagnosis import Diagnosis
from yiagent.model import Failure
from yiagent.network import ADDRESS_TIMEOUT_S, addresses_of, connect, is_far, port_of
from yiagent.progress import parse_message
from yiagent.urls import Url

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


def camera_failure(message: str) -> Failure:
    """What the agent makes of ffmpeg ending with `message` while it opens the camera."""
    diagnosis = Diagnosis(encrypted=False)
    diagnosis.hear(parse_message(message))
    return diagnosis.late()


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
