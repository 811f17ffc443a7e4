"""Whether what the agent says and what the server receives are at odds, moment by moment. Pure: moments come in."""

from __future__ import annotations

from typing import Final

# What is said may be behind what is so by this much, and no more.
LIE_S: Final = 10.0
# Media that comes with breaks no longer than this is arriving all the time; a slow uplink breaks off for 2.3 s.
BREAK_S: Final = 3.0
STREAMING: Final = "streaming"


class Judge:
    """Told of everything in the order of time, it finds the lie.

    A lie is `streaming` said for more than 10 s with nothing arriving; media arriving for more than 10 s while another
    phase is said; or media that still arrives 10 s after the owner wanted none.
    """

    def __init__(self) -> None:
        self._phase: str | None = None
        self._said_since = 0.0
        self._total: int | None = None
        self._arrived_at: float | None = None
        self._arriving_since = 0.0
        self._unwanted_since: float | None = None

    def says(self, at: float, phase: str | None) -> None:
        """This phase is said from now on; None: nothing is (no agent runs, or nobody can hear it)."""
        # `stalled` after `starting` is the same claim: no media.
        if phase is None or self._phase is None or (phase == STREAMING) is not (self._phase == STREAMING):
            self._said_since = at
        self._phase = phase

    def receives(self, at: float, total: int) -> None:
        """The server has received so many bytes in all by now."""
        if self._total is not None and total > self._total:
            if not self._is_arriving(at):
                self._arriving_since = at
            self._arrived_at = at
        self._total = total

    def wants(self, at: float, *, on: bool) -> None:
        """The owner wants the stream from now on, or wants none."""
        self._unwanted_since = None if on else at

    def lie(self, at: float) -> str | None:
        """What is a lie by now, in a sentence; None where nothing is."""
        if self._phase == STREAMING:
            silent_s = at - max(self._said_since, self._arrived_at or 0.0)
            if silent_s > LIE_S:
                return f"“streaming” is said, and nothing has arrived for {silent_s:.1f} s"
        elif self._phase is not None and self._arrived_at is not None:
            arriving_s = self._arrived_at - max(self._said_since, self._arriving_since)
            if arriving_s > LIE_S:
                return f"“{self._phase}” is said, and media has been arriving for {arriving_s:.1f} s"
        if self._unwanted_since is not None and self._arrived_at is not None:
            unwanted_s = self._arrived_at - self._unwanted_since
            if unwanted_s > LIE_S:
                return f"media arrives {unwanted_s:.1f} s after OFF"
        return None

    def _is_arriving(self, at: float) -> bool:
        return self._arrived_at is not None and at - self._arrived_at <= BREAK_S
