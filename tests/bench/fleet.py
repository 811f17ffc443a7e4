"""A fleet: 200 real agents' links and 2,000 simulated sessions on one mosquitto, as config/ makes it; and on two.

Real is all of the agent that speaks to a broker, without camera and ffmpeg. The simulated do the same on the wire, byte
for byte (tests/test_bench_fleet.py), for a fraction of the processor that 2,000 more agents would take from the broker
on one machine. One who hears all messages, as Home Assistant does, is the witness; what it costs the broker is counted.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.fleet_bridge import measure_bridge
from tests.bench.fleet_cameras import INTERVAL_S, NO_DISCOVERY, Part
from tests.bench.fleet_crowd import Crowd, Return
from tests.bench.fleet_stand import AWAY, HOME, Fleet, Size, fleet_on, missing, restart, swayed, wait_for_all
from tests.bench.fleet_watch import Watch
from tests.bench.options import Options
from tests.bench.process import memory_of, processor_s
from tests.peers.shipped import ShippedBroker
from yiagent.mqtt import STEADY_S

FLEET = Size(links=200, sessions=2000)
QUICK = Size(links=10, sessions=100)
MEMORY_AIM_KB = 15.0
BACK_AIM_S = 15.0
# Whole intervals of telemetry, so that every window holds as many samples.
WINDOW_S = 4 * INTERVAL_S
SETTLE_S = 6.0
# Other ways to announce the cameras, measured with the simulated ones alone.
BESIDE = {NO_DISCOVERY: "without Home Assistant's discovery", "entity": "mqtt.discovery.format: entity"}


@dataclass
class Costs:
    """What was measured, run by run."""

    memory_kb: list[float | None] = field(default_factory=list)
    processor: list[float | None] = field(default_factory=list)
    samples: list[float | None] = field(default_factory=list)
    link_processor_ms: list[float | None] = field(default_factory=list)
    link_memory_kb: list[float | None] = field(default_factory=list)
    back_s: list[float | None] = field(default_factory=list)
    back_processor_s: list[float | None] = field(default_factory=list)
    attempts: list[float | None] = field(default_factory=list)
    in_vain: list[float | None] = field(default_factory=list)
    most_per_s: list[float | None] = field(default_factory=list)
    missing: list[float | None] = field(default_factory=list)


def measure_fleet(folder: Path, options: Options) -> list[Figure]:
    """One broker, other ways to announce, two brokers."""
    size = QUICK if options.quick else FLEET
    figures = _one_broker(folder / "one", options, size)
    for discovery, who in BESIDE.items():
        values: list[float | None] = [
            _memory_alone(folder / f"{discovery}-{run}", size, discovery) for run in range(options.runs)
        ]
        figures.insert(1, Figure(figures[0].what, "kB", values, who))
    return figures + measure_bridge(folder / "two", options, size)


def _one_broker(folder: Path, options: Options, size: Size) -> list[Figure]:
    costs = Costs()
    with ShippedBroker(folder / "broker", size.passwords()) as broker, Watch(broker.port, HOME) as watch:
        empty_mb = memory_of(broker.pid).private_dirty_mb
        with fleet_on(broker, watch, folder, size) as fleet:
            for run in range(1, options.runs + 1):
                _steady(costs, broker, watch, fleet, empty_mb, quick=options.quick)
                _restart(costs, broker, watch, fleet, swayed(run, options.runs))
                _tell(f"restart {run} of {options.runs}: {costs.back_s[-1]:.1f} s, memory {costs.memory_kb[-1]:.1f} kB")
            costs.missing.append(len(missing(broker.port, size)))
    return _figures(costs, size)


def _steady(costs: Costs, broker: ShippedBroker, watch: Watch, fleet: Fleet, empty_mb: float, *, quick: bool) -> None:
    """All are connected: what that costs, until every connection counts as a steady one."""
    since = time.monotonic()
    time.sleep(SETTLE_S)
    processes = (broker.pid, fleet.links.pid)
    before, watch.samples, began = [processor_s(pid) for pid in processes], 0, time.monotonic()
    time.sleep(INTERVAL_S if quick else WINDOW_S)
    samples, lasted_s = watch.samples, time.monotonic() - began
    used = [processor_s(pid) - used_s for pid, used_s in zip(processes, before, strict=True)]
    costs.processor.append(used[0] * 60 / lasted_s)
    costs.samples.append(samples / lasted_s)
    costs.link_processor_ms.append(used[1] * 60 / lasted_s * 1000 / fleet.size.links)
    costs.memory_kb.append((memory_of(broker.pid).private_dirty_mb - empty_mb) * 1024 / fleet.size.cameras)
    link_mb = memory_of(fleet.links.pid).private_dirty_mb - fleet.links_empty.private_dirty_mb
    costs.link_memory_kb.append(link_mb * 1024 / fleet.size.links)
    if not quick:
        time.sleep(max(0.0, since + STEADY_S + 1 - time.monotonic()))


def _restart(costs: Costs, broker: ShippedBroker, watch: Watch, fleet: Fleet, away_s: float) -> None:
    """It is killed, and starts again `away_s` later having forgotten all."""
    fleet.attempts()
    listens_at = restart(broker, watch, away_s)
    started_s = processor_s(broker.pid)
    costs.back_s.append(wait_for_all(watch, fleet.size) - listens_at)
    costs.back_processor_s.append(processor_s(broker.pid) - started_s)
    how = Return.of(fleet.attempts(), fleet.size.cameras, listens_at)
    costs.attempts.append(how.per_camera)
    costs.in_vain.append(how.in_vain)
    costs.most_per_s.append(how.most_per_s)


def _memory_alone(folder: Path, size: Size, discovery: str) -> float:
    """The broker's memory for each of the simulated cameras, in kB."""
    with ShippedBroker(folder / "broker", size.passwords()) as broker, Watch(broker.port, HOME) as watch:
        empty_mb = memory_of(broker.pid).private_dirty_mb
        part = Part(broker.port, 1, size.sessions // 4, discovery, spread_s=1.0)
        with Crowd("fleet_sessions", folder / "sessions", part):
            # Each says the last of what is kept right after it is online.
            wait_for_all(watch, Size(0, part.count), kept=0)
            time.sleep(1.0)
            return (memory_of(broker.pid).private_dirty_mb - empty_mb) * 1024 / part.count


def _figures(costs: Costs, size: Size) -> list[Figure]:
    cameras, per_camera = size.cameras, [used * 1000 / size.cameras for used in costs.processor if used is not None]
    restarted = f"one broker of {cameras} cameras, killed and started {AWAY} s later"
    process = f"process of {size.links} agents' links"
    return [
        Figure(
            f"one broker's memory (private dirty) per camera, {cameras} connected",
            "kB",
            costs.memory_kb,
            aim=MEMORY_AIM_KB,
        ),
        Figure("its processor per camera, telemetry every 5 s passed on to one listener", "ms/min", [*per_camera]),
        Figure(f"its processor for all {cameras}", "s/min", costs.processor),
        Figure("messages it passes on to that listener", "1/s", costs.samples),
        Figure(f"{restarted}: from listening to all back", "s", costs.back_s, aim=BACK_AIM_S),
        Figure("its processor in that time", "s", costs.back_processor_s),
        Figure("attempts to connect, per camera, from the kill on", "", costs.attempts),
        Figure("attempts in vain once it listens, of all", "", costs.in_vain),
        Figure("most attempts in any second once it listens", "", costs.most_per_s),
        Figure("retained messages that it lacks after all the restarts", "", costs.missing, aim=0),
        Figure(f"{process}: processor per link", "ms/min", costs.link_processor_ms),
        Figure(f"{process}: memory (private dirty) per link", "kB", costs.link_memory_kb),
    ]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
