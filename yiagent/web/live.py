"""Server-sent events: whoever listens hears what is so now, and then what is new, no faster than it reads.

Nothing is queued for anyone. A listener that was slow, or away, gets the latest state and sample, and of the log what
the journal still holds. Source of the format: the HTML standard, "Server-sent events".
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any, Final

from yiagent.payloads import log_json, state_json, telemetry_json, timestamp
from yiagent.store import Journal, Store

# A word now and then tells a listener that the agent is there, and the agent that the listener is not.
HEARTBEAT_S: Final = 15.0
# Lines that come together leave together; no reader is woken more often than this.
LEAST_PAUSE_S: Final = 0.1
MOST_LINES_AT_ONCE: Final = 50
RETRY_MS: Final = 2000


class Live:
    """What there is to listen to. Line numbers begin anew with each agent, so an event's id names the agent too."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self.boot = os.urandom(4).hex()

    def since(self, last_event_id: str | None) -> int:
        """The log's line after which a listener goes on, by the id of the last event that it has."""
        boot, dash, number = (last_event_id or "").rpartition("-")
        if (dash and boot != self.boot) or not (number.isascii() and number.isdigit() and len(number) < 16):
            return 0
        seq = int(number)
        # A number from the future is of another agent.
        return seq if seq <= self._journal.last_seq else 0

    async def listen(self, last_event_id: str | None) -> AsyncIterator[bytes]:
        """Events for one listener, for ever."""
        news = asyncio.Event()
        self._store.listen(news.set)
        self._journal.listen(news.set)
        feed = _Feed(self._store, self._journal, self.boot, self.since(last_event_id))
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            while True:
                news.clear()
                if piece := feed.next():
                    yield piece
                    await asyncio.sleep(LEAST_PAUSE_S)
                    continue
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await news.wait()
                except TimeoutError:
                    yield b": here\n\n"
        finally:
            self._store.forget(news.set)
            self._journal.forget(news.set)


class _Feed:
    """What one listener has been told."""

    def __init__(self, store: Store, journal: Journal, boot: str, seq: int) -> None:
        self._store = store
        self._journal = journal
        self._boot = boot
        self._seq = seq
        self._told: dict[str, object] = {}

    def next(self) -> bytes:
        """What is new, the latest of each; empty where nothing is."""
        store = self._store
        parts: list[str] = []
        if self._is_news("state", store.snapshot):
            parts.append(_event("state", state_json(store.snapshot)))
        if self._is_news("broker", store.broker):
            parts.append(_event("broker", _compact(asdict(store.broker))))
        if store.telemetry is not None and self._is_news("telemetry", store.telemetry):
            parts.append(_event("telemetry", telemetry_json(store.telemetry)))
        if store.picture is not None and self._is_news("snapshot", store.picture):
            parts.append(_event("snapshot", _compact({"ts": timestamp(store.picture.ts)})))
        for line in self._journal.since(self._seq)[:MOST_LINES_AT_ONCE]:
            parts.append(_event("log", log_json(line), id=f"{self._boot}-{line.seq}"))
            self._seq = line.seq
        return "".join(parts).encode()

    def _is_news(self, name: str, value: object) -> bool:
        if self._told.get(name) is value:
            return False
        self._told[name] = value
        return True


def _event(name: str, data: str, id: str | None = None) -> str:
    # JSON here has no line breaks: one line of data is the whole of it.
    mark = f"id: {id}\n" if id is not None else ""
    return f"event: {name}\n{mark}data: {data}\n\n"


def _compact(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
