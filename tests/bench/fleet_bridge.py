"""Two brokers: the fleet on one, which a bridge (config/mosquitto-bridge.conf) joins to a hub with Home Assistant."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.fleet_cameras import INTERVAL_S, PASSWORD, device_of
from tests.bench.fleet_child import DROP
from tests.bench.fleet_stand import AWAY, BACK_S, HOME, Fleet, Size, fleet_on, missing, restart, swayed, wait_for_all
from tests.bench.fleet_watch import Watch
from tests.bench.options import Options
from tests.bench.process import memory_of, processor_s
from tests.peers.process import wait_until
from tests.peers.shipped import ShippedBroker

SETTLE_S = 2.0
ASKS_PER_RUN = 4


@dataclass
class Costs:
    """What was measured, run by run."""

    memory_kb: list[float | None] = field(default_factory=list)
    hub_processor: list[float | None] = field(default_factory=list)
    processor: list[float | None] = field(default_factory=list)
    far_ms: list[float | None] = field(default_factory=list)
    near_ms: list[float | None] = field(default_factory=list)
    death_ms: list[float | None] = field(default_factory=list)
    back_s: list[float | None] = field(default_factory=list)
    fleet_back_s: list[float | None] = field(default_factory=list)
    missing: list[float | None] = field(default_factory=list)


def measure_bridge(folder: Path, options: Options, size: Size) -> list[Figure]:
    """What the hub costs, how soon a command reaches across, and that both brokers' restarts are mended."""
    costs = Costs()
    passwords = {HOME[0]: PASSWORD, ShippedBroker.BRIDGE_USER: PASSWORD}
    with (
        ShippedBroker(folder / "hub", passwords, with_bridge_rules=True) as hub,
        Watch(hub.port, HOME) as watch,
    ):
        empty_mb = memory_of(hub.pid).private_dirty_mb
        leaf = ShippedBroker(folder / "leaf", size.passwords(), bridge_to=hub.port, bridge_password=PASSWORD)
        with leaf, Watch(leaf.port, HOME) as near, fleet_on(leaf, watch, folder, size) as fleet:
            for run in range(1, options.runs + 1):
                time.sleep(SETTLE_S)
                costs.memory_kb.append((memory_of(hub.pid).private_dirty_mb - empty_mb) * 1024 / size.cameras)
                _processors(costs, hub, leaf)
                _ask(costs, watch, near, fleet)
                _lose_one(costs, watch, fleet)
                listens_at = restart(hub, watch, swayed(run, options.runs))
                costs.back_s.append(wait_for_all(watch, size) - listens_at)
                _tell(f"hub's restart {run} of {options.runs}: {costs.back_s[-1]:.1f} s")
            costs.missing.append(len(missing(hub.port, size)))
            watch.forget()
            listens_at = restart(leaf, near, swayed(1, 1))
            costs.fleet_back_s.append(wait_for_all(watch, size) - listens_at)
            _ask(Costs(), watch, near, fleet)
            costs.missing.append(len(missing(hub.port, size)))
    return _figures(costs, size)


def _processors(costs: Costs, hub: ShippedBroker, leaf: ShippedBroker) -> None:
    """Of both, over one interval: every camera's sample crosses once."""
    before, began = [processor_s(broker.pid) for broker in (hub, leaf)], time.monotonic()
    time.sleep(INTERVAL_S)
    per_min = 60 / (time.monotonic() - began)
    used = [processor_s(broker.pid) - used_s for broker, used_s in zip((hub, leaf), before, strict=True)]
    costs.hub_processor.append(used[0] * per_min)
    costs.processor.append(used[1] * per_min)


def _ask(costs: Costs, watch: Watch, near: Watch, fleet: Fleet) -> None:
    """A request to one camera and its answer, from the hub and from the camera's own broker, in turn."""
    for ask in range(ASKS_PER_RUN):
        device = device_of(fleet.size.first_link + ask % fleet.size.links)
        for who, values in ((watch, costs.far_ms), (near, costs.near_ms)):
            who.answers.pop(device, None)
            asked = time.monotonic()
            who.publish(f"yiagent/{device}/request", '{"transaction":"bench"}')
            wait_until(lambda who=who, device=device: device in who.answers, BACK_S, "an answer", poll_s=0.001)  # type: ignore[misc]
            values.append((who.answers[device] - asked) * 1000)
            # The other one hears the answer too, some later; it is not to be taken for the next one's.
            wait_until(
                lambda device=device: device in watch.answers and device in near.answers,  # type: ignore[misc]
                BACK_S,
                "the answer at the other broker",
                poll_s=0.001,
            )


def _lose_one(costs: Costs, watch: Watch, fleet: Fleet) -> None:
    """A camera's connection breaks: when the hub says that it is offline. It comes back by itself."""
    watch.offline.clear()
    lost_at, device = fleet.sessions.ask(DROP)
    wait_until(lambda: device in watch.offline, BACK_S, "its last will at the hub", poll_s=0.005)
    costs.death_ms.append((watch.offline[device] - lost_at) * 1000)
    wait_until(lambda: device in watch.online, BACK_S, "its return at the hub", poll_s=0.005)


def _figures(costs: Costs, size: Size) -> list[Figure]:
    cameras = size.cameras
    asked, both = (
        "a request to a camera of the other broker, asked and answered at the hub",
        "each sample passed on there",
    )
    return [
        Figure(f"hub's memory (private dirty) per camera, {cameras} on a broker bridged to it", "kB", costs.memory_kb),
        Figure(f"hub's processor for these, {both} to one listener", "s/min", costs.hub_processor),
        Figure("the other broker's, each passed on to the hub and one listener", "s/min", costs.processor),
        Figure(asked, "ms", costs.far_ms),
        Figure(asked, "ms", costs.near_ms, "without the bridge"),
        Figure("a camera's connection breaks: to offline at the hub", "ms", costs.death_ms),
        Figure(
            f"hub killed and started {AWAY} s later: from listening to all {cameras} right there", "s", costs.back_s
        ),
        Figure("the same done to the other broker: from listening to all right at the hub", "s", costs.fleet_back_s),
        Figure(
            "retained messages that the hub lacks after its restarts, and after the other's", "", costs.missing, aim=0
        ),
    ]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
