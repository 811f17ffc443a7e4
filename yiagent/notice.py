"""One thing that the broker is to know, told until it has taken it. Pure: the moment comes in as an argument."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, Generic, TypeVar

# An access list is mended by someone who thinks of no agent: what it refused is tried again this often.
REFUSED_AGAIN_S: Final = 30.0

T = TypeVar("T")


class Notice(Generic[T]):
    """`read` gives what is so; `say` hands it on, and gives whether that was possible at all just now.

    One at a time is on its way, and what has changed meanwhile counts by its latest: a broker that did not read for a
    minute gets what is so then, and not a queue of all that was so before.
    """

    def __init__(self, read: Callable[[], T], say: Callable[[T], bool]) -> None:
        self._read = read
        self._say = say
        self._told: T | None = None
        self._since: float | None = None
        self._once_more = False
        self._again_at = -inf

    def tell(self, now: float) -> bool:
        """Say what the broker does not know yet, unless something is on its way; whether it knows all by now."""
        if self._since is not None:
            return False
        value = self._read()
        if value == self._told and now < self._again_at and not self._once_more:
            return self._again_at == inf
        if self._say(value):
            self._told, self._since = value, now
            self._once_more = False
        return False

    def say_again(self) -> None:
        """Say it once more though the broker knows it: somebody has come who does not."""
        self._once_more = True

    def answered(self, now: float, *, allowed: bool) -> None:
        """The broker has taken what was on its way, or refused it."""
        if self._since is not None:
            self._since = None
            self._again_at = inf if allowed else now + REFUSED_AGAIN_S

    @property
    def is_known(self) -> bool:
        """Whether the broker has taken it, as it was when it was last told."""
        return self._told is not None and self._since is None and self._again_at == inf

    def unanswered_s(self, now: float) -> float:
        """For how long an answer has been missing; 0 where none is."""
        return 0.0 if self._since is None else now - self._since
