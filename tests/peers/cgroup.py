"""A control group of a test's own, in which some of its processes run short of memory or of processes for real.

reason = why_no_cgroup("memory")
with Cgroup("memory") as group, Hog(folder) as hog:
    group.limit(64 << 20)
    group.add(remux.pid)
    group.add(hog.pid)
    hog.eat()

It is made below the group that the test itself runs in, so it takes nothing out of a limit that stands already.
"""

from __future__ import annotations

import secrets
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from tests.peers.process import Peer, PeerError, wait_until

Controller = Literal["memory", "pids"]

REMOVE_TIMEOUT_S: Final = 10.0
_MOUNTS: Final = Path("/proc/self/mounts")
_OWN: Final = Path("/proc/self/cgroup")
# The names of the limit in the first and in the second version of the kernel's interface.
_LIMITS: Final = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "pids": ("pids.max", "pids.max"),
}
# Where these are, they keep the kernel from moving to a disk what there is no memory for.
_NO_SWAP: Final = (("memory.swappiness", "0"), ("memory.swap.max", "0"))
_NO_LIMIT: Final = {"memory.limit_in_bytes": "-1", "memory.max": "max", "pids.max": "max"}


@cache
def why_no_cgroup(controller: Controller) -> str | None:
    """Give the reason why this machine lets nobody make such a group, or None if it does; decided by a trial, once."""
    try:
        with Cgroup(controller) as group:
            group.limit(1 << 20)
    except (OSError, PeerError) as error:
        return f"no control group for {controller}: {error}"
    return None


class Cgroup:
    """One group; a context manager that ends, by moving them back, with its processes where they were before."""

    def __init__(self, controller: Controller) -> None:
        self._parent, limit_number = _home(controller)
        self._folder = self._parent / f"yiagent-faults-{secrets.token_hex(4)}"
        self._limit_file = self._folder / _LIMITS[controller][limit_number]

    def add(self, pid: int) -> None:
        """Move a process into it; what it starts from now on is in it too."""
        (self._folder / "cgroup.procs").write_text(f"{pid}")

    def limit(self, most: int) -> None:
        """No more than so many bytes of memory, or so many processes and threads."""
        self._limit_file.write_text(f"{most}")

    def lift(self) -> None:
        """No limit any more."""
        self._limit_file.write_text(_NO_LIMIT[self._limit_file.name])

    def __enter__(self) -> Self:
        self._folder.mkdir()
        for name, value in _NO_SWAP:
            if (self._folder / name).exists():
                (self._folder / name).write_text(value)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lift()
        wait_until(self._is_removed, REMOVE_TIMEOUT_S, f"{self._folder} to be empty")

    def _is_removed(self) -> bool:
        for pid in (self._folder / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (self._parent / "cgroup.procs").write_text(pid)
        try:
            self._folder.rmdir()
        except OSError:
            # Its last process is not quite gone.
            return False
        return True


class Hog(Peer):
    """A process that takes so much memory when it is told to, and keeps it until it ends or is ended."""

    def __init__(self, folder: Path, most: int = 256 << 20) -> None:
        super().__init__("hog", folder)
        self._most = most

    def command(self) -> list[str]:
        """Written to, not only reserved."""
        take = (
            f"import sys; print('ready', flush=True); sys.stdin.readline(); x = b'x' * {self._most}; sys.stdin.read()"
        )
        return [sys.executable, "-c", take]

    def is_ready(self) -> bool:
        """It waits for its word."""
        return "ready" in self.log_text

    def eat(self) -> None:
        """Take it, now."""
        self.write_line("eat")


def _home(controller: Controller) -> tuple[Path, int]:
    """The folder to make a group in, and the number of the limit's name. Raises PeerError where there is none."""
    own = [line.split(":", 2) for line in _OWN.read_text().splitlines()]
    mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    for _, mounted_at, kind, options, *_ in mounts:
        if kind == "cgroup" and controller in options.split(","):
            path = next(path for _, names, path in own if controller in names.split(","))
            return Path(mounted_at) / path.lstrip("/"), 0
        if kind == "cgroup2":
            path = next(path for number, _, path in own if number == "0")
            folder = Path(mounted_at) / path.lstrip("/")
            # There, a group with processes of its own hands no controller on: the nearest above it that does.
            while folder.is_relative_to(mounted_at):
                control = folder / "cgroup.subtree_control"
                if control.is_file() and controller in control.read_text().split():
                    return folder, 1
                folder = folder.parent
    raise PeerError(f"the kernel offers no {controller} controller here")
