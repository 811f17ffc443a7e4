"""The agent's own words for what the doctor finds out without ffmpeg: one fault is told in one way. Pure."""

from __future__ import annotations

import socket

from yiagent.diagnosis import Diagnosis
from yiagent.progress import parse_message


def camera_words(message: str) -> str:
    """What the agent says when ffmpeg ends with `message` while it opens the camera."""
    diagnosis = Diagnosis(encrypted=False)
    diagnosis.hear(parse_message(message))
    return diagnosis.late().reason.message


def server_words(message: str, *, encrypted: bool) -> str:
    """What the agent says when ffmpeg ends with `message` while it opens the server; "" for no word at all."""
    diagnosis = Diagnosis(encrypted=encrypted)
    diagnosis.hear(parse_message("Input #0, rtsp"))
    diagnosis.hear(parse_message(message))
    return diagnosis.late().reason.message


def ffmpeg_message(error: OSError) -> str:
    """How ffmpeg tells of this failure to connect."""
    if isinstance(error, socket.gaierror):
        return "Failed to resolve hostname"
    return f"Connection to tcp://there failed: {'Connection timed out' if _is_late(error) else error.strerror}"


def _is_late(error: OSError) -> bool:
    # A socket's own time-out carries no strerror.
    return isinstance(error, TimeoutError)
