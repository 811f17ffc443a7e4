"""The page's password: the configuration's, or one that is made at the first start and kept in the state folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from yiagent.files import replace_file
from yiagent.redact import Secret
from yiagent.store import Journal

FILE_NAME: Final = "web-password"
MAX_FILE_BYTES: Final = 1024
# No letter or digit that is taken for another one: it is typed on a telephone. 12 of 30 are 58 bits.
ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz2346789"
GROUPS: Final = 3
GROUP_LENGTH: Final = 4


class PagePassword:
    """The password that holds. `fresh`: it was made just now, so its owner does not know it yet."""

    def __init__(self, secret: Secret, *, fresh: bool, file: Path | None) -> None:
        self.secret = secret
        self.fresh = fresh
        self.file = file

    @classmethod
    def load(cls, configured: Secret | None, folder: Path, journal: Journal) -> PagePassword:
        """The configured one, else the one in `folder`, which is made where there is none."""
        if configured is not None:
            return cls(configured, fresh=False, file=None)
        path = folder / FILE_NAME
        kept = _read(path)
        if kept is not None:
            return cls(Secret(kept), fresh=False, file=path)
        made = Secret(_make())
        try:
            replace_file(path, made.reveal().encode() + b"\n")
        except OSError as error:
            journal.warning(
                f"The page's password could not be kept in {folder} ({error.strerror}): there is another one at each "
                "start. Set web.password"
            )
            return cls(made, fresh=True, file=None)
        return cls(made, fresh=True, file=path)


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if text and text.isprintable() else None


def _make() -> str:
    # Taken anew where it would favour the first letters: 240 is the largest multiple of 30 in a byte.
    letters: list[str] = []
    while len(letters) < GROUPS * GROUP_LENGTH:
        letters += [ALPHABET[byte % len(ALPHABET)] for byte in os.urandom(32) if byte < 240]
    groups = ("".join(letters[at * GROUP_LENGTH :][:GROUP_LENGTH]) for at in range(GROUPS))
    return "-".join(groups)
