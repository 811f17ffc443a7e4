"""A process of simulated agents, as many as it is told: plain sockets that do on the wire what an agent's link does.

The same packets, the same back-off by the same function; what an agent would have to think of is made beforehand.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any, cast

from tests.bench import mqtt_packets as wire
from tests.bench.fleet_cameras import (
    INTERVAL_S,
    PASSWORD,
    Part,
    config_of,
    info_of,
    sample,
    snapshot_of,
)
from tests.bench.fleet_child import ATTEMPTS, DROP, Attempts, obey
from yiagent.announced import AnnouncedFile
from yiagent.announcer import Announcer
from yiagent.broker import CONNECT_TIMEOUT_S, Ended
from yiagent.model import Level, LogLine, Origin
from yiagent.mqtt import ANSWER_TIMEOUT_S, failures_after, pause_s
from yiagent.mqttclient import longest_packet_bytes
from yiagent.payloads import info_json, log_json, state_json, telemetry_json
from yiagent.protocol import Version
from yiagent.redact import Redactor
from yiagent.settings import Config
from yiagent.store import Journal
from yiagent.topics import OFFLINE, ONLINE, Topics

LONGEST_BYTES = longest_packet_bytes()
attempts = Attempts()


class Wire(asyncio.Protocol):
    """One connection of one session, from CONNECT on."""

    def __init__(self, session: Session, *, mqtt5: bool) -> None:
        self._session = session
        self._mqtt5 = mqtt5
        self._reader = wire.Reader()
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard_at = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce the camera."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._session.connect(mqtt5=self._mqtt5))

    def data_received(self, data: bytes) -> None:
        """Only the broker's yes or no matters."""
        self.heard_at = time.monotonic()
        for packet in self._reader.feed(data):
            if packet.kind == wire.CONNACK and not self.answered.done():
                self.answered.set_result(packet.accepts)

    def connection_lost(self, error: Exception | None) -> None:
        """The end of it."""
        for future in (self.answered, self.closed):
            if not future.done():
                future.set_result(None if future is self.closed else False)  # type: ignore[arg-type]


class Session:
    """One simulated agent."""

    def __init__(self, number: int, part: Part, telemetry: bytes) -> None:
        self.config = config_of(number, part, Path("/nonexistent"))
        self.device = self.config.device.id
        topics = self._topics = Topics.of(self.config.mqtt.prefix, self.device)
        self._notices = _notices(self.config, number)
        self._sample = wire.publish(topics.telemetry, telemetry)
        self._log: list[bytes] = []
        self._lines = 0
        self._told: str | None = None
        self._wire: Wire | None = None

    def connect(self, *, mqtt5: bool) -> bytes:
        """Its first packet."""
        return wire.connect(
            f"yiagent-{self.device}",
            mqtt5=mqtt5,
            keepalive_s=self.config.mqtt.keepalive_s,
            longest_bytes=LONGEST_BYTES,
            will=(self._topics.availability, OFFLINE),
            login=(self.device, PASSWORD),
        )

    async def run(self) -> None:
        """As `MqttLink.run`."""
        version, failures = Version(), 0
        while True:
            began = time.monotonic()
            how, accepted = await self._one_connection(version)
            if version.try_another(how, accepted=accepted):
                continue
            lasted_s = time.monotonic() - began
            self._tell(how, accepted=accepted)
            failures = failures_after(failures, accepted=accepted, lasted_s=lasted_s)
            await asyncio.sleep(pause_s(failures))

    def tick(self) -> None:
        """An interval is over: a sample, unless the broker lags behind; and a ping where it has been silent."""
        if (wired := self._wire) is None:
            return
        if not wired.transport.get_write_buffer_size():
            wired.transport.write(self._sample)
        now = time.monotonic()
        if now - wired.heard_at >= self.config.mqtt.keepalive_s:
            wired.heard_at = now
            wired.transport.write(wire.PINGREQ_PACKET)

    def drop(self) -> bool:
        """Lose the connection as a camera does whose plug is pulled; whether there was one."""
        if self._wire is None:
            return False
        self._wire.transport.abort()
        return True

    async def _one_connection(self, version: Version) -> tuple[Ended, bool]:
        host, port = "127.0.0.1", self.config.mqtt.port
        accepted = attempts.begin()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, wired = await loop.create_connection(lambda: Wire(self, mqtt5=version.mqtt5), host, port)
        except (OSError, TimeoutError):
            return Ended.LOST, False
        try:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    is_in = await wired.answered
            except TimeoutError:
                return Ended.LOST, False
            if not is_in:
                return (Ended.HUNG_UP if wired.closed.done() else Ended.REFUSED), False
            accepted()
            if version.is_doubtful:
                wired.transport.write(wire.DISCONNECT_311_PACKET)
                return Ended.LOST, True
            self._note(Level.INFO, f"Connected to the MQTT broker at {host} (MQTT 5)")
            self._told = None
            wired.transport.write(self._notices + b"".join(self._log))
            self._log.clear()
            self._wire = wired
            await wired.closed
            return Ended.LOST, True
        finally:
            self._wire = None
            wired.transport.abort()

    def _tell(self, how: Ended, *, accepted: bool) -> None:
        """As the link does: the same line again is not said again."""
        what = "Lost the MQTT broker" if accepted else "Cannot connect to the MQTT broker at 127.0.0.1"
        why = "the connection was lost" if accepted else "nothing answers at port 1883 (mqtt.host, mqtt.port)"
        if why != self._told:
            self._note(Level.WARNING, f"{what}: {why}. Streaming goes on; trying again for ever")
        self._told = why

    def _note(self, level: Level, message: str) -> None:
        self._lines += 1
        line = LogLine(self._lines, time.time(), level, Origin.AGENT, message)
        self._log.append(wire.publish(self._topics.log, log_json(line).encode()))


def _notices(config: Config, number: int) -> bytes:
    """All that an agent says when it is let in: subscriptions, and what the broker is to keep."""
    topics, info = Topics.of(config.mqtt.prefix, config.device.id), info_of(config)
    journal = Journal(Redactor(), level=Level.INFO, clock=time.time, monotonic=time.monotonic)
    announcer = Announcer(config, lambda: info, AnnouncedFile(config.state_dir), journal)
    subscriptions = [topics.any_command, topics.request]
    if announcer.birth_topic is not None:
        subscriptions.append(announcer.birth_topic)
    kept = {
        **{topic: announcer.payload(topic) for topic in announcer.topics},
        topics.availability: ONLINE,
        topics.info: info_json(info),
        topics.state: state_json(snapshot_of(number)),
    }
    packets = [wire.subscribe(mid, topic) for mid, topic in enumerate(subscriptions, start=1)]
    for mid, (topic, payload) in enumerate(kept.items(), start=len(packets) + 1):
        packets.append(wire.publish(topic, payload.encode(), mid=mid, retain=True))
    return b"".join(packets)


async def _beat(sessions: list[Session]) -> None:
    """Every session's intervals, spread evenly; one timer for all."""
    due = time.monotonic()
    while True:
        for session in sessions:
            due += INTERVAL_S / len(sessions)
            if (ahead_s := due - time.monotonic()) > 0:
                await asyncio.sleep(ahead_s)
            session.tick()


async def _main() -> None:
    part = Part.of_arguments()
    telemetry = telemetry_json(sample()).encode()
    sessions = [Session(number, part, telemetry) for number in part.numbers()]
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(_beat(sessions))]

    # One after the other: who loses several connections in a row stays away for longer.
    losers = itertools.cycle(sessions)

    def drop() -> list[float | str]:
        """The next one that is connected."""
        session = next(session for session in losers if session.drop())
        return [time.monotonic(), session.device]

    async def arrive() -> None:
        for session in sessions:
            tasks.append(asyncio.create_task(session.run()))
            await asyncio.sleep(part.spread_s / part.count)

    tasks.append(asyncio.create_task(arrive()))
    await obey({ATTEMPTS: attempts.take, DROP: drop})


if __name__ == "__main__":
    asyncio.run(_main())
