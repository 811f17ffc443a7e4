"""Small files that survive a power cut: at any instant the old content stands there or the new one, whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

MOST_KEPT_ASIDE: Final = 9


def replace_file(path: Path, content: bytes) -> None:
    """Make `content` what stands in `path`, readable by its owner alone. Raises `OSError`; the old file then stays.

    By temporary file, fsync, rename, fsync of the folder.
    """
    temporary = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            # Without this the rename could reach the disk before the content: an empty file after a power cut.
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove `path` for good; one that is not there is no error. Raises `OSError`."""
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


def set_aside(path: Path) -> Path | None:
    """Rename an unreadable file so that it is neither used nor lost; its new name, or None where that failed."""
    for number in range(1, MOST_KEPT_ASIDE + 1):
        aside = path.with_name(f"{path.name}.unreadable-{number}")
        try:
            # Of a card that fails or is gone, not even this can be asked.
            if aside.exists() and number < MOST_KEPT_ASIDE:
                continue
            path.replace(aside)
        except OSError:
            return None
        _sync_folder(path.parent)
        return aside
    return None


def _sync_folder(folder: Path) -> None:
    # Some file systems (FAT on old kernels) refuse to sync a folder; the rename itself is done by then.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
