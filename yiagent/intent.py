"""What the owner wants, kept on disk so that a power cut at any instant leaves the old wish or the new one, whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from yiagent.files import replace_file, set_aside
from yiagent.model import Channel
from yiagent.redact import Secret
from yiagent.urls import BadUrl, check_key, parse_server

VERSION: Final = 1
FILE_NAME: Final = "intent.json"
MAX_FILE_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Intent:
    """The owner's wishes by command; None: none was ever given, so the configuration's value holds."""

    stream: bool | None = None
    server: str | None = None
    key: Secret | None = None
    channel: Channel | None = None


class IntentUnreadable(Exception):
    """The file does not hold an intent this version understands; the message says why, without its content."""


class IntentFile:
    """The intent in one folder, written by temporary file, fsync, rename, fsync of the folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    @property
    def path(self) -> Path:
        """Where the intent is kept."""
        return self._path

    def load(self) -> Intent:
        """The intent on disk; an empty one where none was ever saved. Raises `IntentUnreadable`."""
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return Intent()
        except OSError as error:
            raise IntentUnreadable(f"it cannot be read: {error.strerror}") from None
        return parse_intent(data)

    def set_aside(self) -> Path | None:
        """Rename an unreadable file so that it is neither used nor lost; its new name, or None where that failed."""
        return set_aside(self._path)

    def save(self, intent: Intent) -> None:
        """Make `intent` the one on disk. Raises `OSError`; the old file is then untouched."""
        replace_file(self._path, render_intent(intent))


def render_intent(intent: Intent) -> bytes:
    """The file's content. It holds the stream key: the file's mode is 0600 where the file system has modes."""
    document = {
        "version": VERSION,
        "stream": None if intent.stream is None else "ON" if intent.stream else "OFF",
        "server": intent.server,
        "key": intent.key.reveal() if intent.key is not None else None,
        "channel": intent.channel,
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def parse_intent(data: bytes) -> Intent:
    """The intent in a file's content. Raises `IntentUnreadable`."""
    if len(data) > MAX_FILE_BYTES:
        raise IntentUnreadable("it is too large")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise IntentUnreadable("it is damaged") from None
    if not isinstance(document, dict) or not isinstance(document.get("version"), int):
        raise IntentUnreadable("it is damaged")
    if document["version"] > VERSION:
        raise IntentUnreadable("it was written by a newer version of yiagent")
    try:
        return Intent(
            stream=_stream(document.get("stream")),
            server=_server(document.get("server")),
            key=Secret(check_key(_text(document["key"]))) if document.get("key") is not None else None,
            channel=Channel(document["channel"]) if document.get("channel") is not None else None,
        )
    except (BadUrl, ValueError):
        raise IntentUnreadable("it holds a value that this version does not know") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _stream(value: Any) -> bool | None:
    if value not in (None, "ON", "OFF"):
        raise ValueError
    return None if value is None else value == "ON"


def _server(value: Any) -> str | None:
    if value is None:
        return None
    parse_server(_text(value))
    return str(value)
