"""How soon ffmpeg runs after a command: the agent beside `mosquitto_sub` in a shell loop."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.bench.subject import PATIENCE_S, TOPIC, agent_on
from tests.harness import latest_state, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.process import Peer, wait_until
from tests.peers.rtmp import RtmpServer

START_AIM_MS = 10.0
# What people run without an agent: a shell that listens to the same topic.
SHELL_LOOP = 'mosquitto_sub -p "$1" -t "$2" | while read -r wish; do "$3" & done'


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


class ShellLoop(Peer):
    """`mosquitto_sub | while read`, started as people start it."""

    def __init__(self, folder: Path, port: int, topic: str, program: Path) -> None:
        super().__init__("shell-loop", folder)
        self._arguments = [f"{port}", topic, f"{program}"]

    def command(self) -> list[str]:
        return ["sh", "-c", SHELL_LOOP, "shell-loop", *self._arguments]

    @property
    def listens(self) -> bool:
        """Whether its client is connected."""
        children = psutil.Process(self.pid).children(recursive=True)
        return any(child.name() == "mosquitto_sub" and child.net_connections() for child in children)


def measure_start(folder: Path, options: Options) -> list[Figure]:
    """From the command on the broker to the start of ffmpeg, and to media at the server."""
    with (
        Broker(folder / "broker") as broker,
        LiveCamera(folder / "camera") as camera,
        RtmpServer(folder / "server") as server,
        Listener(broker.port, f"{TOPIC}/#") as listener,
    ):
        return _measure(folder, broker, camera, server, listener, options.runs)


def _measure(
    folder: Path, broker: Broker, camera: LiveCamera, server: RtmpServer, listener: Listener, runs: int
) -> list[Figure]:
    starter = Starter(folder)
    to_start: list[float | None] = []
    to_media: list[float | None] = []
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
    shell: list[float | None] = []
    with ShellLoop(folder, broker.port, f"{TOPIC}/shell/set", starter.program) as loop:
        wait_until(lambda: loop.listens, PATIENCE_S, "the shell's subscription")
        shell += [starter.time(lambda: listener.publish(f"{TOPIC}/shell/set", "ON", qos=0)) for _ in range(runs)]
    return [
        Figure("stream/set ON to ffmpeg's start", "ms", to_start, aim=START_AIM_MS),
        Figure("stream/set ON to ffmpeg's start", "ms", shell, "mosquitto_sub in a shell loop"),
        Figure("stream/set ON to media at the server", "ms", to_media),
    ]
