"""Writes zips that are the same for the same content: sorted, and at a time of their own.

zips.py ZIP FOLDER     what lies in FOLDER, empty folders too
"""

from __future__ import annotations

import os
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

FILE_MODE = 0o100644
PROGRAM_MODE = 0o100755
FOLDER_MODE = 0o40755
DOS_FOLDER = 0x10


def write_zip(target: Path, entries: Iterable[tuple[str, bytes, int]]) -> None:
    """A zip of these: name (that of a folder ends with a slash), content, and Unix mode."""
    then = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data, mode in sorted(entries):
            entry = zipfile.ZipInfo(name, then)
            entry.create_system = 3  # Unix, whose modes they are
            entry.external_attr = mode << 16 | (DOS_FOLDER if name.endswith("/") else 0)
            entry.compress_type = zipfile.ZIP_DEFLATED if data else zipfile.ZIP_STORED
            archive.writestr(entry, data)


def _tree(folder: Path) -> Iterator[tuple[str, bytes, int]]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            yield f"{name}/", b"", FOLDER_MODE
        else:
            yield name, path.read_bytes(), PROGRAM_MODE if os.access(path, os.X_OK) else FILE_MODE


if __name__ == "__main__":
    write_zip(Path(sys.argv[1]), _tree(Path(sys.argv[2])))
