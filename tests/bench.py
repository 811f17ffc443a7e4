"""Figures of the agent beside another program's, on the same work in the same run. `scripts/bench` runs this."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tests.harness import AgentProcess, latest_state, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.process import Peer, wait_until
from tests.peers.rtmp import RtmpServer

PATIENCE_S = 30.0
DEVICE = "bench"
TOPIC = f"yiagent/{DEVICE}"
START_AIM_MS = 10.0
MEMORY_AIM_MB = 30.0
# What a program of this kind cannot do without, imported and connected: the floor that the agent stands on.
BARE_CLIENT = """
import asyncio, psutil, sys, paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
client = paho.Client(CallbackAPIVersion.VERSION2)
client.on_connect = lambda *_: client.subscribe("nothing") and print("connected", flush=True)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"""
# What people run without an agent: a shell that listens to the same topic.
SHELL_LOOP = 'mosquitto_sub -p "$1" -t "$2" | while read -r wish; do "$3" & done'


@dataclass(frozen=True)
class Figure:
    """One measured thing: its values in `unit`, and the aim that the median is held against where there is one."""

    name: str
    unit: str
    values: list[float]
    aim: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        aim = f"  aim ≤ {self.aim:g}: {'met' if self.median <= self.aim else 'MISSED'}" if self.aim is not None else ""
        spread = f"{min(self.values):.1f} to {max(self.values):.1f}, n={len(self.values)}"
        return f"{self.name:58} {self.median:8.1f} {self.unit:3} ({spread}){aim}"


class Starter:
    """A program in ffmpeg's place that tells the moment it is started, then becomes ffmpeg."""

    def __init__(self, folder: Path) -> None:
        self._pipe = folder / "started"
        os.mkfifo(self._pipe)
        self.program = folder / "ffmpeg-that-tells"
        ffmpeg = shutil.which("ffmpeg")
        self.program.write_text(f'#!/bin/sh\n[ "$3" = -h ] || echo >{self._pipe}\nexec {ffmpeg} "$@"\n')
        self.program.chmod(0o755)
        self._moments: list[float] = []
        self._told = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            with self._pipe.open("rb") as pipe:
                pipe.readline()
            with self._told:
                self._moments.append(time.monotonic())
                self._told.notify_all()

    def time(self, act: Callable[[], None]) -> float:
        """Milliseconds from `act` to the next start."""
        with self._told:
            count = len(self._moments)
        began = time.monotonic()
        act()
        with self._told:
            self._told.wait_for(lambda: len(self._moments) > count, PATIENCE_S)
            return (self._moments[count] - began) * 1000


@contextmanager
def agent_on(
    folder: Path, broker: Broker, listener: Listener, camera: LiveCamera, ffmpeg: Path | str = "ffmpeg"
) -> Iterator[AgentProcess]:
    folder.mkdir(exist_ok=True)
    config = {
        "device": {"id": DEVICE},
        "source": {"hd": camera.hd_url, "sd": camera.sd_url},
        "stream": {"audio": "copy"},
        "telemetry": {"interval_s": 5},
        "ffmpeg": f"{ffmpeg}",
    }
    start = listener.position
    with AgentProcess(folder, broker_port=broker.port, config=config) as agent:
        agent.wait_until_online(listener, after=start)
        yield agent


def measure_start(
    folder: Path, broker: Broker, camera: LiveCamera, server: RtmpServer, listener: Listener, runs: int
) -> list[Figure]:
    """From the command on the broker to the start of ffmpeg, and to media at the server."""
    starter = Starter(folder)
    to_start, to_media = [], []
    with agent_on(folder / "agent", broker, listener, camera, starter.program):
        listener.publish(f"{TOPIC}/url/set", f"{server.url()}/bench")
        wait_until(lambda: bool((latest_state(listener) or {}).get("key_set")), PATIENCE_S, "the key")
        # ffmpeg's own answer to what it can do must be in; an agent has it seconds before anyone commands it.
        wait_until(lambda: '"ffmpeg":null' not in listener.on(f"{TOPIC}/info")[-1].text, PATIENCE_S, "ffmpeg's version")
        for _ in range(runs):
            began = time.monotonic()
            to_start.append(starter.time(lambda: listener.publish(f"{TOPIC}/stream/set", "ON", qos=0)))
            server.wait_for_stream("bench", more_than_bytes=20_000)
            to_media.append((time.monotonic() - began) * 1000)
            after = listener.position
            listener.publish(f"{TOPIC}/stream/set", "OFF")
            wait_for_state(listener, lambda state: bool(state["phase"] == "idle"), PATIENCE_S, after=after)
            server.wait_for_no_stream("bench")
    shell: list[float] = []
    with ShellLoop(folder, broker.port, f"{TOPIC}/shell/set", starter.program) as loop:
        wait_until(lambda: loop.listens, PATIENCE_S, "the shell's subscription")
        shell += [starter.time(lambda: listener.publish(f"{TOPIC}/shell/set", "ON", qos=0)) for _ in range(runs)]
    return [
        Figure("start: stream/set ON to ffmpeg's start, agent", "ms", to_start, START_AIM_MS),
        Figure("start: the same, mosquitto_sub and a shell loop", "ms", shell),
        Figure("start: stream/set ON to media at the server, agent", "ms", to_media),
    ]


class ShellLoop(Peer):
    """`mosquitto_sub | while read`, started as people start it."""

    def __init__(self, folder: Path, port: int, topic: str, program: Path) -> None:
        super().__init__("shell-loop", folder)
        self._arguments = [f"{port}", topic, f"{program}"]

    def command(self) -> list[str]:
        return ["sh", "-c", SHELL_LOOP, "shell-loop", *self._arguments]

    @property
    def listens(self) -> bool:
        children = psutil.Process(self.pid).children(recursive=True)
        return any(child.name() == "mosquitto_sub" and child.net_connections() for child in children)


def measure_memory(folder: Path, broker: Broker, camera: LiveCamera, listener: Listener, runs: int) -> list[Figure]:
    """Resident memory of the connected, idle agent, beside a bare MQTT client in the same Python."""
    agent_mb, agent_own_mb, bare_mb = [], [], []
    for number in range(min(runs, 5)):
        with agent_on(folder / f"idle-{number}", broker, listener, camera) as agent:
            listener.wait_for_topic(f"{TOPIC}/telemetry", PATIENCE_S, after=listener.position)
            memory = psutil.Process(agent.pid).memory_full_info()
            agent_mb.append(memory.rss / 2**20)
            agent_own_mb.append(memory.uss / 2**20)
        bare = subprocess.Popen([sys.executable, "-c", BARE_CLIENT, f"{broker.port}"], stdout=subprocess.PIPE)
        try:
            assert bare.stdout is not None
            bare.stdout.readline()
            bare_mb.append(psutil.Process(bare.pid).memory_info().rss / 2**20)
        finally:
            bare.kill()
            bare.wait()
    return [
        Figure("memory: agent, connected and idle, Rss", "MB", agent_mb, MEMORY_AIM_MB),
        Figure("memory: of that its own (USS)", "MB", agent_own_mb),
        Figure("memory: a bare paho client with asyncio and psutil, Rss", "MB", bare_mb),
    ]


def main() -> int:
    """Measure what is asked for and print it; the exit status is 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("what", nargs="*", choices=["start", "memory", []], help="what to measure (all)")
    parser.add_argument("--runs", type=int, default=9, help="how often (9)")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    what = options.what or ["start", "memory"]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            Broker(folder / "broker") as broker,
            LiveCamera(folder / "camera") as camera,
            RtmpServer(folder / "server") as server,
            Listener(broker.port, f"{TOPIC}/#") as listener,
        ):
            if "start" in what:
                figures += measure_start(folder, broker, camera, server, listener, options.runs)
            if "memory" in what:
                figures += measure_memory(folder, broker, camera, listener, options.runs)
    if options.json:
        print(json.dumps([{**asdict(figure), "median": figure.median} for figure in figures]))
    else:
        print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}; medians")
        print(*figures, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
