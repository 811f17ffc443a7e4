"""The page as one document: its script and style stand in it, named to the browser by their hashes.

One request paints it, and nothing else may run in it: the Content-Security-Policy allows exactly these two, and no
other host.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_FOLDER: Final = Path(__file__).parent / "static"
# One script in the page: each uses what those before it have.
_SCRIPTS: Final = ("words", "ask", "state", "settings", "chart", "log", "picture", "broker", "live")
_GZIP_WINDOW: Final = 31
# Of 9: what zlib takes while it packs, 144 kB in place of 256; the page even becomes a few bytes smaller.
_PACKING_LEVEL: Final = 5


@dataclass(frozen=True, slots=True)
class Page:
    """The document as sent: compressed. `policy` is its Content-Security-Policy, `tag` changes with its content."""

    compressed: bytes
    policy: str
    tag: str

    @property
    def plain(self) -> bytes:
        """For the rare program that asks for it uncompressed."""
        return zlib.decompress(self.compressed, _GZIP_WINDOW)


def load_page(*, takes_pictures: bool) -> Page:
    """Put the page together from its files, with room for a picture where there will be one."""
    html = _squeezed(_read("page.html"))
    if not takes_pictures:
        # Known before anything is painted: what was painted must not move when the agent is heard.
        html = html.replace('class="frame"', 'class="frame small"', 1)
    head, _, rest = html.partition("/*STYLE*/")
    middle, _, end = rest.partition("/*SCRIPT*/")
    document = _Packed()
    document.add([head])
    style = document.add([_squeezed(_read("page.css"))])
    document.add([middle])
    script = document.add(f"{_squeezed(_read(f'{name}.js'))}\n" for name in _SCRIPTS)
    document.add([end])
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{script}'",
            f"style-src '{style}'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    compressed = document.finish()
    return Page(compressed, policy, f'"{hashlib.sha256(compressed).hexdigest()[:16]}"')


class _Packed:
    """A document that is compressed as it is put together: whole, it would leave a hole in the memory for ever."""

    def __init__(self) -> None:
        # Not the module gzip: it is a file object and a command line around this.
        self._packer = zlib.compressobj(9, wbits=_GZIP_WINDOW, memLevel=_PACKING_LEVEL)
        self._packed: list[bytes] = []

    def add(self, pieces: Iterable[str]) -> str:
        """Add them; their hash, as a Content-Security-Policy names it."""
        digest = hashlib.sha256()
        for piece in pieces:
            data = piece.encode()
            digest.update(data)
            self.add_bytes(data)
        return f"sha256-{b64encode(digest.digest()).decode()}"

    def add_bytes(self, data: bytes) -> None:
        """Add them, whatever they are."""
        self._packed.append(self._packer.compress(data))

    def finish(self) -> bytes:
        """All of it, as gzip."""
        return b"".join((*self._packed, self._packer.flush()))


def compress(data: bytes) -> bytes:
    """`data` as gzip."""
    packed = _Packed()
    packed.add_bytes(data)
    return packed.finish()


def _read(name: str) -> str:
    # By the loader, so that it also works from a zip, as on a camera's card.
    loader: Any = globals()["__spec__"].loader
    data: bytes = loader.get_data(str(_FOLDER / name))
    return data.decode()


def _squeezed(text: str) -> str:
    """Without indentation and lines that hold a comment alone: for people, a third of the whole."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not re.fullmatch(r"//.*|/\*(?!STYLE|SCRIPT).*\*/", line))
