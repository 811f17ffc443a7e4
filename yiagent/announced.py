"""What this agent has announced to Home Assistant: a file, so that a later start finds and removes what is no more."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from yiagent.files import replace_file

VERSION: Final = 1
FILE_NAME: Final = "announced.json"
MAX_FILE_BYTES: Final = 64 * 1024

# The platform of each component that stands at one topic.
Parts = dict[str, str]


@dataclass(frozen=True, slots=True)
class Announced:
    """`topics`: what stands at the broker. `dropped`: components that the device's message names as removed.

    `root`: of the device's own topics. `macs`: of the machine that wrote this. `has_mac`: whether the camera was
    announced with this machine's hardware address; None: not decided yet.
    """

    root: str | None = None
    topics: dict[str, Parts] = field(default_factory=dict)
    dropped: Parts = field(default_factory=dict)
    macs: tuple[str, ...] = ()
    has_mac: bool | None = None

    @property
    def parts(self) -> Parts:
        """All components that stand somewhere."""
        return {component: platform for parts in self.topics.values() for component, platform in parts.items()}


class AnnouncedFile:
    """The record in one folder. Nothing in it is worth a failed start: what cannot be read counts as nothing."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def load(self) -> Announced:
        """What was announced last; nothing where there is no file, or no readable one."""
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError:
            return Announced()
        return parse_announced(data)

    def save(self, announced: Announced) -> None:
        """Make it what is on disk. Raises `OSError`; the old record then stays."""
        replace_file(self._path, render_announced(announced))


def render_announced(announced: Announced) -> bytes:
    """The file's content."""
    document = {
        "version": VERSION,
        "root": announced.root,
        "topics": announced.topics,
        "dropped": announced.dropped,
        "macs": announced.macs,
        "has_mac": announced.has_mac,
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def parse_announced(data: bytes) -> Announced:
    """The record in a file's content; an empty one where it is damaged or from a newer version."""
    try:
        document = json.loads(data)
        if document["version"] != VERSION or len(data) > MAX_FILE_BYTES:
            return Announced()
        root, has_mac = document["root"], document["has_mac"]
        return Announced(
            root=root if root is None else _text(root),
            topics={_text(topic): _parts(parts) for topic, parts in document["topics"].items()},
            dropped=_parts(document["dropped"]),
            macs=tuple(map(_text, document["macs"])),
            has_mac=has_mac if isinstance(has_mac, bool) else None,
        )
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return Announced()


def _parts(value: Any) -> Parts:
    return {_text(component): _text(platform) for component, platform in value.items()}


def _text(value: Any) -> str:
    # It becomes a topic: wildcards and a NUL would end the connection.
    if not isinstance(value, str) or not value.isprintable() or set("+#") & set(value):
        raise ValueError
    return value
