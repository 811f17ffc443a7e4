"""A fleet on a broker, and what is waited for and counted there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.fleet_cameras import PASSWORD, Part, device_of
from tests.bench.fleet_crowd import Crowd
from tests.bench.fleet_links import START
from tests.bench.fleet_watch import Watch, retained
from tests.bench.process import Memory, memory_of
from tests.peers.process import Peer, wait_until
from tests.peers.shipped import ShippedBroker
from yiagent.topics import ONLINE, DiscoveryTopics, Topics

HOME: Final = ("homeassistant", PASSWORD)
BACK_S: Final = 120.0
# What a camera has kept at the broker beside its availability: info, state, announcement.
KEPT: Final = 3
# How long a broker is away.
AWAY_S: Final = 2.0
SWAY_S: Final = 0.5
AWAY: Final = f"{AWAY_S:g} ± {SWAY_S:g}"


@dataclass(frozen=True)
class Size:
    """How many real links and how many simulated sessions; the simulated ones are numbered first."""

    links: int
    sessions: int

    @property
    def cameras(self) -> int:
        """All of them."""
        return self.links + self.sessions

    @property
    def first_link(self) -> int:
        """Its number."""
        return self.sessions + 1

    def passwords(self) -> dict[str, str]:
        """Of all users of the broker."""
        return dict.fromkeys((HOME[0], *(device_of(number) for number in range(1, self.cameras + 1))), PASSWORD)


@dataclass(frozen=True)
class Fleet:
    """The two processes, and what the links' one took before it had any."""

    size: Size
    sessions: Crowd
    links: Crowd
    links_empty: Memory

    def attempts(self) -> list[tuple[float, bool]]:
        """Of both, since they were asked last."""
        return [*self.sessions.attempts(), *self.links.attempts()]


@contextmanager
def fleet_on(broker: ShippedBroker, watch: Watch, folder: Path, size: Size) -> Iterator[Fleet]:
    """All cameras, online, as `watch` sees it."""
    with (
        Crowd("fleet_sessions", folder / "sessions", Part(broker.port, 1, size.sessions)) as sessions,
        Crowd("fleet_links", folder / "links", Part(broker.port, size.first_link, size.links)) as links,
    ):
        empty = memory_of(links.pid)
        links.ask(START)
        wait_for_all(watch, size)
        yield Fleet(size, sessions, links, empty)


def wait_for_all(watch: Watch, size: Size, *, kept: int = KEPT) -> float:
    """When the last of them was online and had said all that the broker keeps, `kept` messages: monotonic seconds."""
    wait_until(
        lambda: len(watch.online) >= size.cameras and len(watch.told) >= size.cameras * kept,
        BACK_S,
        f"{size.cameras} cameras",
        poll_s=0.1,
    )
    return max(*watch.online.values(), watch.told_at)


def restart(broker: Peer, watch: Watch, away_s: float) -> float:
    """Kill the broker and start it again; when it listened again. What `watch` has seen is what came after."""
    broker.kill()
    wait_until(lambda: not watch.hears.is_set(), BACK_S, "the watch's loss")
    watch.forget()
    time.sleep(away_s)
    broker.start()
    return time.monotonic()


def swayed(number: int, count: int) -> float:
    """How long a broker is away in this run of so many, so that its end meets the cameras' waits at any point."""
    return AWAY_S + SWAY_S * ((2 * number - 1) / count - 1)


def missing(port: int, size: Size, discovery_prefix: str = "homeassistant") -> list[str]:
    """Of all that a broker is to keep of these cameras, the topics that one who comes now is not sent."""
    kept = retained(port, HOME)
    lacking = []
    for number in range(1, size.cameras + 1):
        device = device_of(number)
        topics = Topics.of("yiagent", device)
        wanted = (topics.availability, topics.info, topics.state, DiscoveryTopics(discovery_prefix, device).camera)
        lacking += [topic for topic in wanted if not kept.get(topic)]
        if kept.get(topics.availability) != ONLINE.encode():
            lacking.append(topics.availability)
    return lacking
