"""When the latest picture may go out to the broker. Pure: the moment comes in as an argument.

Beside everything else that is published a picture is a flood: on a slow way nothing gets past it, pings included, until
the connection breaks; and a broker may close the connection for its length. It must not be sent again and again then.
"""

from __future__ import annotations

from math import inf
from typing import Final

from yiagent.model import Picture

# The next picture is sent when the last one has been gone for so many times as long as it took to leave.
REST: Final = 4.0
# A connection that ended so soon after a picture may have ended for it. Once is chance; from then on pictures wait,
# twice as long each time.
SUSPICIOUS_S: Final = 30.0
# How often is looked whether it has left, or whether there is room for it.
LOOK_AGAIN_S: Final = 0.2
FIRST_WAIT_S: Final = 60.0
LONGEST_WAIT_S: Final = 3600.0


class PictureFeed:
    """One for all the connections of a link: each gets the latest picture once, and again only when there is a new."""

    def __init__(self) -> None:
        self._told: Picture | None = None
        self._sent_at: float | None = None
        self._leaving = False
        self._not_before = -inf
        self._in_a_row = 0

    def connected(self, now: float) -> bool:
        """There is a new connection, which knows of no picture. Whether they wait, because others ended for them."""
        ended_for_it = self._sent_at is not None and (self._leaving or now - self._sent_at < SUSPICIOUS_S)
        if ended_for_it:
            self._in_a_row += 1
        elif self._sent_at is not None:
            self._in_a_row = 0
        self._told, self._sent_at, self._leaving = None, None, False
        if not ended_for_it or self._in_a_row < 2:
            return False
        self._not_before = now + min(FIRST_WAIT_S * 2.0 ** min(self._in_a_row - 2, 10), LONGEST_WAIT_S)
        return True

    def next(self, latest: Picture | None, now: float, *, has_room: bool) -> tuple[Picture | None, float | None]:
        """The picture to send now, and how long until it is worth asking again (None: until there is news).

        `has_room`: whether what was sent before has left. Call `sent` when the picture was handed on, or `told` when it
        is not to be sent at all.
        """
        if self._leaving and self._sent_at is not None:
            if not has_room:
                return None, LOOK_AGAIN_S
            self._leaving = False
            self._not_before = now + REST * (now - self._sent_at)
        if latest is None or latest is self._told:
            return None, None
        if now < self._not_before:
            return None, self._not_before - now
        return (latest, LOOK_AGAIN_S) if has_room else (None, LOOK_AGAIN_S)

    def sent(self, picture: Picture, now: float) -> None:
        """This picture was handed on."""
        self._told, self._sent_at, self._leaving = picture, now, True

    def told(self, picture: Picture) -> None:
        """This picture is done with."""
        self._told = picture
