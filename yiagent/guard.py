"""Sees to it that no ffmpeg outlives the agent, whatever ends the agent (`kill -9` included).

A `/bin/sh` waits on a pipe from the agent. When the agent is gone the pipe closes, and the shell ends the process
groups it was last told of. It takes the place of PR_SET_PDEATHSIG, which Python reaches only through ctypes: not part
of the camera's static interpreter, and a megabyte there.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable
from typing import Final

# The same escalation as the agent's own, in less time. Only numbers come through the pipe, written by the agent itself.
_SCRIPT: Final = """
trap '' HUP INT TERM
groups=
while read -r line; do groups=$line; done
[ -n "$groups" ] || exit 0
send() {
  alive=
  for group in $groups; do kill "-$1" "-$group" 2>/dev/null && alive=1; done
  [ -n "$alive" ] || exit 0
}
for signal in TERM 0 TERM 0 KILL KILL; do send "$signal"; sleep 1; done
"""


class Guard:
    """The watching shell. `keep_open`: descriptors it holds for as long as a child may live (the instance lock)."""

    def __init__(self, keep_open: tuple[int, ...] = ()) -> None:
        self._keep_open = keep_open
        self._groups: dict[str, frozenset[int]] = {}
        self._shell: subprocess.Popen[bytes] | None = None
        self._started = False

    def start(self) -> None:
        """Start the shell. Raises `OSError` on a machine without one."""
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # Its own session: a Ctrl-C in the terminal, or a signal to the agent's group, must not end it first.
            start_new_session=True,
            pass_fds=self._keep_open,
        )
        self._started = True

    def watch(self, groups: Iterable[int], *, of: str = "remux") -> None:
        """From now on these process groups, and no others `of` the same owner, are ended when the agent is gone."""
        self._groups[of] = frozenset(groups)
        if self._started and not self._tell():
            self._renew()

    def check(self) -> bool:
        """Whether something had ended the shell (memory run short, say): then there is another. Called now and then."""
        if not self._started or (self._shell is not None and self._shell.poll() is None):
            return False
        return self._renew()

    def close(self) -> None:
        """Let the shell go; called when no child is left."""
        self._started = False
        self._end()

    def _renew(self) -> bool:
        # Without the shell a crash would leave an ffmpeg behind. Where none can be started now, `check` tries again.
        try:
            self._end()
            self.start()
        except OSError:
            return False
        return self._tell()

    def _end(self) -> None:
        if self._shell is None:
            return
        assert self._shell.stdin is not None
        with contextlib.suppress(OSError):
            self._shell.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._shell.wait(timeout=1)
        self._shell = None

    def _tell(self) -> bool:
        if self._shell is None:
            return False
        assert self._shell.stdin is not None
        try:
            groups = sorted(frozenset().union(*self._groups.values()))
            self._shell.stdin.write(" ".join(map(str, groups)).encode() + b"\n")
            self._shell.stdin.flush()
        except OSError:
            return False
        return True
