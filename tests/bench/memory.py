"""What the agent costs while it only waits: beside a bare MQTT client in the same Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.bench.subject import PATIENCE_S, TOPIC, agent_on
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera

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


def measure_memory(folder: Path, options: Options) -> list[Figure]:
    """Resident memory of the connected, idle agent."""
    with (
        Broker(folder / "broker") as broker,
        LiveCamera(folder / "camera") as camera,
        Listener(broker.port, f"{TOPIC}/#") as listener,
    ):
        return _measure(folder, broker, camera, listener, options.runs)


def _measure(folder: Path, broker: Broker, camera: LiveCamera, listener: Listener, runs: int) -> list[Figure]:
    agent_mb: list[float | None] = []
    agent_own_mb: list[float | None] = []
    bare_mb: list[float | None] = []
    for number in range(runs):
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
        Figure("connected and idle, without the page: Rss", "MB", agent_mb, aim=MEMORY_AIM_MB),
        Figure("of that its own (USS)", "MB", agent_own_mb),
        Figure(
            "connected and idle, without the page: Rss", "MB", bare_mb, "a bare paho client with asyncio and psutil"
        ),
    ]
