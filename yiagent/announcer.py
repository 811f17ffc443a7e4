"""Keeps what Home Assistant is told of this device as it should be: says what is so, and takes back what is no more."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from yiagent.announced import Announced, AnnouncedFile, Parts
from yiagent.discovery import MIGRATE, Announcement, Card, Machine, announcements, parts_of, removal
from yiagent.hardware import claim, is_this_machine, machine_id, machine_name, own_macs
from yiagent.model import Info
from yiagent.settings import Config
from yiagent.store import Journal
from yiagent.threads import in_daemon_thread
from yiagent.topics import DiscoveryTopics, Topics

# Home Assistant lets go of an entity, and takes it up, in tasks of its own; a message that comes in between is lost.
MIGRATION_S: Final = 3.0
# So long it waits for the disk; nobody's camera is to wait for Home Assistant on account of a card that hangs.
NOTE_S: Final = 5.0
# Whoever has it is the one agent of this machine whose camera is announced with the machine's own hardware address.
_CLAIM: Final = "yiagent-hardware-address"


class Say(Protocol):
    """Publishes at QoS 1; gives whether the broker has taken it."""

    def __call__(self, topic: str, payload: str, *, retain: bool) -> Awaitable[bool]: ...


class Announcer:
    """One device's announcement, over all connections. The link says `payload` of each of `topics`, and runs `tidy`."""

    def __init__(self, config: Config, info: Callable[[], Info], file: AnnouncedFile, journal: Journal) -> None:
        discovery = config.mqtt.discovery
        self._config = config
        self._format = discovery.format
        self._topics = Topics.of(config.mqtt.prefix, config.device.id)
        self._places = DiscoveryTopics(discovery.prefix, config.device.id)
        self._info = info
        self._file = file
        self._journal = journal
        self._record = file.load()
        self._macs = own_macs()
        if self._is_a_copy():
            journal.info("The state folder comes from another machine: what that one announced is left as it is")
            self._record = Announced()
        self._machine: Machine | None = None
        self._mac: str | None = None
        self._claim: socket.socket | None = None
        self._has_mac = self._record.has_mac
        if discovery.enabled:
            self._look_at_hardware()
        self._made_for: Info | None = None
        self._made: dict[str, Announcement] = {}
        self._dropped: Parts = {}
        self._stale, self._moving, self._dropped = self._compare()
        self._held = bool(self._moving)

    @property
    def birth_topic(self) -> str | None:
        """Where Home Assistant says that it is there; None where it is told nothing."""
        return self._config.mqtt.discovery.status_topic if self._config.mqtt.discovery.enabled else None

    @property
    def topics(self) -> list[str]:
        """Where something is to stand, retained, in the order to be said."""
        return list(self._announcements())

    def payload(self, topic: str) -> str:
        """What is to stand there, as it is now."""
        return self._announcements()[topic].payload

    @property
    def is_held(self) -> bool:
        """Whether nothing may be said yet: Home Assistant has to let go of what was announced in the other form."""
        return self._held

    def connected(self) -> None:
        """A new connection: whatever was under way on the old one begins anew."""
        self._held = bool(self._moving)

    async def tidy(self, say: Say, until_said: Callable[[], Awaitable[None]], resume: Callable[[], None]) -> None:
        """Take back what an earlier configuration or version announced, and keep on disk what stands there now.

        Once for each connection. `until_said` returns when the broker has all of `topics`; `resume` wakes who says
        them, and availability and state after them.
        """
        moving = self._moving
        # Beforehand: where the power fails, or the broker refuses one of them, the others stand there all the same.
        await self._note(self._announced({**self._stale, **self._parts()}, self._record.root))
        if moving:
            await self._let_go(say)
        left = await self._remove(moving, say)
        if moving:
            self._held = False
            resume()
        await until_said()
        # The other way round than they were said: the machine last, which the camera names.
        left |= await self._remove([topic for topic in reversed(self._stale) if topic not in moving], say)
        self._stale, self._moving = left, []
        topics = {**left, **self._parts()}
        await self._note(self._announced(topics, self._topics.root if topics else None))

    # --- what is, and what was ---

    def _announcements(self) -> dict[str, Announcement]:
        if not self._config.mqtt.discovery.enabled:
            return {}
        info = self._info()
        if info != self._made_for:
            self._made = announcements(self._card(info), self._format, self._topics, self._places, self._dropped)
            self._made_for = info
        return self._made

    def _card(self, info: Info) -> Card:
        config = self._config
        return Card(
            id=config.device.id,
            name=config.device.name,
            manufacturer=config.device.manufacturer,
            model=config.device.model,
            version=info.agent,
            page=info.web,
            mac=self._mac,
            machine=self._machine,
            has_pictures=config.snapshot_enabled,
            interval_s=config.telemetry.interval_s,
            latest=config.mqtt.discovery.latest,
        )

    def _look_at_hardware(self) -> None:
        device, source = self._config.device, self._config.source
        hosts = [url.host for url in (source.hd, source.sd) if url is not None]
        if not all(map(is_this_machine, hosts)):
            self._machine = Machine(f"yiagent_machine_{machine_id()}", machine_name())
        elif device.mac is None and self._has_mac is not False:
            # Two devices with one address would be one device to Home Assistant: of two agents on a machine whose
            # cameras are streams of that machine, the first has it, and has it for good.
            self._claim = claim(_CLAIM)
            self._has_mac = self._has_mac or self._claim is not None
            self._mac = next(iter(self._macs), None) if self._has_mac else None
        if device.mac is not None:
            self._mac = device.mac or None

    def _is_a_copy(self) -> bool:
        """Whether the record was made on another machine, for a device of another name, which may well go on there."""
        record = self._record
        elsewhere = bool(record.macs and self._macs) and not set(record.macs) & set(self._macs)
        return elsewhere and record.root != self._topics.root

    def _compare(self) -> tuple[dict[str, Parts], list[str], Parts]:
        """What is to be removed from the broker, which of it only moves, and what the device's message drops."""
        record = self._record
        now = self._announcements()
        parts = parts_of(now.values())
        stale = {topic: parts for topic, parts in record.topics.items() if topic not in now}
        moving: list[str] = []
        if record.root is not None and record.root != self._topics.root:
            stale |= {topic: {} for topic in Topics(record.root).retained}
        else:
            # What a broker did not let go of may be a device's that had another name: that one does not move.
            moving = [topic for topic in stale if self._places.is_ours(topic) and stale[topic].keys() & parts.keys()]
        before = {**record.dropped, **record.topics.get(self._places.camera, {})}
        dropped = {component: platform for component, platform in before.items() if component not in parts}
        if now and "camera_snapshot" in record.parts and "camera_snapshot" not in parts:
            stale[self._topics.snapshot] = {}
        self._made_for = None
        return stale, moving, dropped if self._places.camera in now else {}

    async def _let_go(self, say: Say) -> None:
        """Have Home Assistant unload what it has by the other form's topics, without forgetting it.

        Its own description would have the new form announced before the old one is cleared. But with one id in both
        forms, as migration needs, it takes the clearing of a device's message for that of the new ones, and complains.
        """
        card = self._card(self._info())
        parts = parts_of(self._announcements().values())
        for topic in self._moving:
            gone = {name: platform for name, platform in self._record.topics[topic].items() if name not in parts}
            if gone and topic == self._places.camera:
                await say(topic, removal(card, gone), retain=False)
                await asyncio.sleep(MIGRATION_S)
            await say(topic, MIGRATE, retain=False)
        await asyncio.sleep(MIGRATION_S)

    async def _remove(self, topics: list[str], say: Say) -> dict[str, Parts]:
        """Remove what stands there; what the broker would not remove."""
        left: dict[str, Parts] = {}
        for topic in topics:
            if not await say(topic, "", retain=True):
                left[topic] = self._stale[topic]
                self._journal.warning(
                    f"What stands at {topic} is of the past, but the MQTT broker did not let this user remove it. "
                    f"As one who may: mosquitto_pub -r -n -t '{topic}'"
                )
        return left

    def _parts(self) -> dict[str, Parts]:
        return {topic: one.parts for topic, one in self._announcements().items()}

    def _announced(self, topics: dict[str, Parts], root: str | None) -> Announced:
        return Announced(
            root=root or (self._topics.root if topics else None),
            topics=topics,
            dropped=self._dropped,
            macs=tuple(self._macs),
            has_mac=self._has_mac,
        )

    async def _note(self, record: Announced) -> None:
        """Keep it on disk; where that fails, the agent goes on, and what it leaves behind one day stays there."""
        if record == self._record:
            return
        try:
            async with asyncio.timeout(NOTE_S):
                await in_daemon_thread(lambda: self._file.save(record))
        except OSError as error:
            # A disk that does not answer is one too: `TimeoutError`.
            self._journal.debug(f"What is announced could not be noted down ({error.strerror or 'the disk hangs'})")
            return
        self._record = record
