"""The page as one document: its script and style stand in it, named to the browser by their hashes.

One request paints it, and nothing else may run in it: the Content-Security-Policy allows exactly these two, and no
other host.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_FOLDER: Final = Path(__file__).parent / "static"
# One script in the page: each uses what those before it have.
_SCRIPTS: Final = ("words", "ask", "state", "settings", "chart", "log", "picture", "broker", "live")
_GZIP_WINDOW: Final = 31


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
    style = _squeezed(_read("page.css"))
    script = "\n".join(_squeezed(_read(f"{name}.js")) for name in _SCRIPTS)
    document = _squeezed(_read("page.html"))
    if not takes_pictures:
        # Known before anything is painted: what was painted must not move when the agent is heard.
        document = document.replace('class="frame"', 'class="frame small"', 1)
    document = document.replace("/*STYLE*/", style, 1).replace("/*SCRIPT*/", script, 1)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    compressed = compress(document.encode())
    return Page(compressed, policy, f'"{hashlib.sha256(compressed).hexdigest()[:16]}"')


def compress(data: bytes) -> bytes:
    """`data` as gzip."""
    # Not the module gzip: it is a file object and a command line around this.
    packer = zlib.compressobj(9, wbits=_GZIP_WINDOW)
    return packer.compress(data) + packer.flush()


def _read(name: str) -> str:
    # By the loader, so that it also works from a zip, as on a camera's card.
    loader: Any = globals()["__spec__"].loader
    data: bytes = loader.get_data(str(_FOLDER / name))
    return data.decode()


def _squeezed(text: str) -> str:
    """Without indentation and lines that hold a comment alone: for people, a third of the whole."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not re.fullmatch(r"//.*|/\*(?!STYLE|SCRIPT).*\*/", line))


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
