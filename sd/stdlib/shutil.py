"""Stands in for `shutil` on the card: where a program lies, how full a disk and how wide a terminal is. Saves 0.06 MB.

Used by the agent and argparse. Left out: everything that copies, moves, removes or packs files.
"""

import collections
import os
from pathlib import Path

Usage = collections.namedtuple("Usage", ("total", "used", "free"))


def which(program, mode=os.F_OK | os.X_OK, path=None):
    if "/" in program:
        return program if _is_program(program, mode) else None
    if path is None:
        path = os.environ.get("PATH", os.defpath)
    for folder in path.split(os.pathsep) if path else ():
        file = f"{folder.rstrip('/')}/{program}" if folder else program
        if _is_program(file, mode):
            return file
    return None


def _is_program(file, mode):
    return os.access(file, mode) and not Path(file).is_dir()


def disk_usage(folder):
    disk = os.statvfs(folder)
    return Usage(
        disk.f_blocks * disk.f_frsize, (disk.f_blocks - disk.f_bfree) * disk.f_frsize, disk.f_bavail * disk.f_frsize
    )


def get_terminal_size(fallback=(80, 24)):
    given = (os.environ.get(name, "") for name in ("COLUMNS", "LINES"))
    columns, lines = (int(text) if text.isdigit() else 0 for text in given)
    try:
        size = os.get_terminal_size(1)
    except OSError:
        size = fallback
    return os.terminal_size((columns or size[0], lines or size[1]))
