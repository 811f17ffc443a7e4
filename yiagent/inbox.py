"""What a connection to the broker reports, in its order, until the link has time for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from yiagent.broker import Event, Received

MOST_EVENTS: Final = 200


class Inbox:
    """A connection's events in their order. In a flood the oldest messages go: of an owner's wishes the last counts."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self.left_out = 0

    def put(self, event: Event) -> None:
        """Add an event; what ends the connection always gets through."""
        self._events.append(event)
        if len(self._events) > MOST_EVENTS:
            oldest = next((waiting for waiting in self._events if isinstance(waiting, Received)), None)
            if oldest is not None:
                self._events.remove(oldest)
                self.left_out += 1
        self._arrived.set()

    async def get(self) -> Event:
        """The next event, as soon as there is one."""
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()
