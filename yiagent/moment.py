"""A moment that is measured by one clock and told by another. Pure but for the clocks."""

from __future__ import annotations

import time
from typing import Final

# The two clocks are read one after the other, and NTP slews the wall clock: that is no reason to tell another time.
TOLERANCE_S: Final = 2.0


class Moment:
    """A moment in monotonic seconds, told as wall-clock seconds by the wall clock as it is when it is asked.

    A camera has no clock until NTP has answered: what was told before is put right when the clock is.
    """

    def __init__(self, at: float) -> None:
        self._at = at
        self._told = self._now()

    @property
    def wall(self) -> float:
        """Wall-clock seconds since the epoch; the same at every asking for as long as the clock was not set."""
        now = self._now()
        if abs(now - self._told) > TOLERANCE_S:
            self._told = now
        return self._told

    def _now(self) -> float:
        return time.time() - (time.monotonic() - self._at)
