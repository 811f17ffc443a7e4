"""The state folder, and the lock that keeps a second agent out of it.

The guard holds the lock too: while the ffmpeg of a killed agent may still be alive, the next agent waits, and the
server does not see the same key twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from yiagent.store import Journal

LOCK_NAME: Final = "lock"
# The guard of a killed agent ends its ffmpeg within 6 s.
WAIT_S: Final = 12.0
POLL_S: Final = 0.1


class AlreadyRunning(Exception):
    """Another agent holds the state folder."""


@contextlib.contextmanager
def state_folder(folder: Path, journal: Journal) -> Iterator[int | None]:
    """Make the folder and hold its lock; None where the folder cannot be written. Raises `AlreadyRunning`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        journal.error(
            f"state_dir {folder} cannot be written ({error.strerror}): "
            "what is commanded now will not survive a restart of the agent"
        )
        yield None
        return
    try:
        _wait_for_lock(descriptor, journal)
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool | None:
    """Whether an agent holds the folder now; None where that cannot be seen."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def _wait_for_lock(descriptor: int, journal: Journal) -> None:
    deadline = time.monotonic() + WAIT_S
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise AlreadyRunning from None
        except OSError:
            # A file system without locks: two agents on one folder then go unnoticed, which is no reason not to run.
            return
        if not told:
            told = True
            journal.info("Waiting for the agent before this one, or its ffmpeg, to be gone")
        time.sleep(POLL_S)
