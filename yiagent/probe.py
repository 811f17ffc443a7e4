"""A short connection to a broker, under a client id of its own, that is asked one thing after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from yiagent.broker import Acknowledged, Closed, Connected, Connection, Ended, Event, Received
from yiagent.settings import MqttConfig

CONNECT_TIMEOUT_S: Final = 11.0
ANSWER_TIMEOUT_S: Final = 4.0

T = TypeVar("T", Connected, Acknowledged, Received)


class BrokerLost(Exception):
    """The broker refused the connection, or it ended; the message says why, for a person."""

    def __init__(self, closed: Closed) -> None:
        super().__init__(closed.message)
        self.how = closed.how


class Probe:
    """One connection. Made by `probe_broker`."""

    def __init__(self, config: MqttConfig, client_id: str, *, mqtt5: bool) -> None:
        self._heard: asyncio.Queue[Event] = asyncio.Queue()
        self.connection = Connection(
            config,
            client_id=client_id,
            mqtt5=mqtt5,
            will=None,
            loop=asyncio.get_running_loop(),
            post=self._heard.put_nowait,
        )

    async def next(self, kind: type[T], timeout_s: float) -> T:
        """The next event of this kind; others are passed over. Raises `BrokerLost` and `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while True:
                event = await self._heard.get()
                if isinstance(event, kind):
                    return event
                if isinstance(event, Closed):
                    raise BrokerLost(event)

    async def may_subscribe(self, topic: str) -> bool:
        """Whether the broker takes a subscription to `topic`. Raises `BrokerLost` and `TimeoutError`."""
        self.connection.subscribe([topic])
        return (await self.next(Acknowledged, ANSWER_TIMEOUT_S)).allowed


@asynccontextmanager
async def probe_broker(config: MqttConfig, client_id: str) -> AsyncIterator[Probe]:
    """A connection that the broker has accepted: by MQTT 5, else by 3.1.1. Raises `BrokerLost` and `TimeoutError`."""
    probe = Probe(config, client_id, mqtt5=True)
    opening = asyncio.create_task(probe.connection.open())
    try:
        try:
            await probe.next(Connected, CONNECT_TIMEOUT_S)
        except BrokerLost as lost:
            if lost.how not in (Ended.OLD_PROTOCOL, Ended.HUNG_UP):
                raise
            await probe.connection.close(say_goodbye=True)
            probe = Probe(config, client_id, mqtt5=False)
            opening = asyncio.create_task(probe.connection.open())
            await probe.next(Connected, CONNECT_TIMEOUT_S)
        yield probe
    finally:
        opening.cancel()
        await probe.connection.close(say_goodbye=True)
