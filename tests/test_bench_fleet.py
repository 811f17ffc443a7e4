"""What the bench's fleet is made of: its simulated agents say what real ones say, and its counts are counted right."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.bench import fleet_sessions
from tests.bench import mqtt_packets as wire
from tests.bench.fleet_cameras import PASSWORD, Part, config_of, device_of, info_of, sample, snapshot_of
from tests.bench.fleet_crowd import Return, most_within
from tests.harness import WAIT_TIMEOUT_S
from yiagent.announced import AnnouncedFile
from yiagent.announcer import Announcer
from yiagent.commands import Command
from yiagent.model import DiscoveryFormat, Level
from yiagent.mqtt import MqttLink
from yiagent.payloads import telemetry_json
from yiagent.redact import Redactor
from yiagent.store import Journal, Store

NUMBER = 17
SAMPLE = sample()


class Scribe:
    """A broker that agrees to everything and writes down what it is told."""

    def __init__(self) -> None:
        self.packets: list[wire.Packet] = []
        self.changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        cut = wire.Reader()
        while data := await reader.read(1 << 16):
            for packet in cut.feed(data):
                self.packets.append(packet)
                self.changed.set()
                writer.write(_answer(packet))
        writer.close()

    async def told(self, *topics: str) -> list[wire.Packet]:
        """All up to when there is a message on each of these topics, and forget them."""
        async with asyncio.timeout(WAIT_TIMEOUT_S):
            while not all(any(_is_on(packet, topic) for packet in self.packets) for topic in topics):
                self.changed.clear()
                await self.changed.wait()
        packets, self.packets = self.packets, []
        return packets


def _is_on(packet: wire.Packet, topic: str) -> bool:
    return packet.kind == wire.PUBLISH and packet.published()[0].endswith(topic)


def _answer(packet: wire.Packet) -> bytes:
    kind = packet.kind
    if kind == 1:
        return b"\x20\x03\x00\x00\x00"
    if kind == 8:
        return wire.packet(wire.SUBACK << 4, packet.body[:2] + b"\x00\x01")
    if kind == wire.PUBLISH and packet.first & 0x06:
        length = int.from_bytes(packet.body[:2])
        return wire.packet(wire.PUBACK << 4, packet.body[2 + length : 4 + length])
    return b""


def _plain(packet: wire.Packet) -> tuple[int, Any]:
    """A packet without its number, and without the moment of a line of the log."""
    if packet.kind == wire.PUBLISH:
        topic, payload, _ = packet.published()
        if topic.endswith("/log"):
            return packet.first, (topic, {**json.loads(payload), "ts": ""})
        return packet.first, (topic, payload)
    return packet.first, packet.body[2:] if packet.kind == 8 else packet.body


async def _nothing(command: Command) -> None:
    """Carry nothing out."""


async def _real(part: Part, scribe: Scribe, folder: Path) -> list[wire.Packet]:
    config = config_of(NUMBER, part, folder)
    config.state_dir.mkdir()
    journal = Journal(Redactor(), level=Level.INFO, clock=time.time, monotonic=time.monotonic)
    store = Store(snapshot_of(NUMBER))
    announcer = Announcer(config, lambda: info_of(config), AnnouncedFile(config.state_dir), journal)
    link = MqttLink(
        config=config.mqtt,
        device=config.device.id,
        store=store,
        journal=journal,
        info=lambda: info_of(config),
        execute=_nothing,
        announcer=announcer if config.mqtt.discovery.enabled else None,
    )
    running = asyncio.create_task(link.run())
    told = await scribe.told("/state", "/log")
    store.put_telemetry(SAMPLE)
    told += await scribe.told("/telemetry")
    await link.stop()
    await running
    return told


async def _simulated(part: Part, scribe: Scribe) -> list[wire.Packet]:
    session = fleet_sessions.Session(NUMBER, part, telemetry_json(SAMPLE).encode())
    running = asyncio.create_task(session.run())
    told = await scribe.told("/state", "/log")
    session.tick()
    told += await scribe.told("/telemetry")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return told


@pytest.mark.parametrize("discovery", [*DiscoveryFormat, "none"])
def test_a_simulated_agent_says_what_a_real_one_says(discovery: str, tmp_path: Path) -> None:
    """Packet by packet, byte by byte but for their numbers: CONNECT, subscriptions, what is kept, log and sample."""

    async def both() -> tuple[list[wire.Packet], list[wire.Packet]]:
        scribe = Scribe()
        async with await asyncio.start_server(scribe.serve, "127.0.0.1", 0) as server:
            part = Part(server.sockets[0].getsockname()[1], NUMBER, 1, str(discovery))
            real = await _real(part, scribe, tmp_path)
            scribe.packets.clear()
            return real, await _simulated(part, scribe)

    real, simulated = asyncio.run(both())
    ours, theirs = ([_plain(packet) for packet in packets] for packets in (simulated, real))
    if discovery == DiscoveryFormat.ENTITY:
        # paho has 20 messages on their way at the most, and what needs no answer overtakes the others.
        ours, theirs = sorted(ours, key=repr), sorted(theirs, key=repr)
    assert ours == theirs
    assert real[0].kind == 1
    announced = [packet for packet in real if _is_on(packet, "/config")]
    assert len(announced) == {"device": 1, "none": 0}.get(discovery, 21)


def test_every_camera_is_another() -> None:
    """In what makes it one: id, user, hardware address, name."""
    part = Part(1883, 1, 2000)
    configs = [config_of(number, part, Path("/x")) for number in part.numbers()]
    for of in (lambda one: one.device.id, lambda one: one.device.mac, lambda one: one.device.name):
        assert len({of(config) for config in configs}) == 2000  # type: ignore[no-untyped-call]
    assert configs[0].device.id == configs[0].mqtt.username == device_of(1)
    password = configs[0].mqtt.password
    assert password is not None
    assert password.reveal() == PASSWORD


def test_packets_come_out_as_they_went_in() -> None:
    """However the stream is cut: a length of one to three bytes, and the last packet not whole."""
    packets = [wire.publish("a/b", bytes(size), mid=size % 3) for size in (0, 1, 119, 120, 16_370, 16_380)]
    stream = b"".join(packets) + packets[-1][:2]
    for step in (1, 7, 1000, len(stream)):
        reader = wire.Reader()
        found = [packet for at in range(0, len(stream), step) for packet in reader.feed(stream[at : at + step])]
        assert [wire.packet(packet.first, packet.body) for packet in found] == packets
        assert [packet.published() for packet in found[:2]] == [("a/b", b"", False), ("a/b", b"\x00", False)]


def test_the_most_in_any_one_second() -> None:
    """Wherever it begins; what is a whole second apart is in two."""
    assert most_within([], 1.0) == 0
    assert most_within([3.0, 1.0, 2.0], 1.0) == 1
    assert most_within([0.0, 0.9, 1.1, 1.8, 1.9, 5.0], 1.0) == 4


def test_a_return_is_told_in_three_counts() -> None:
    """All attempts per camera; in vain are only those that began when the broker listened again."""
    attempts = [(1.0, False), (2.0, False), (3.0, True), (3.5, False), (4.5, True)]
    assert Return.of(attempts, 2, 3.0) == Return(per_camera=2.5, in_vain=1, most_per_s=2)
