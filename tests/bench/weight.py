"""What the agent and its ffmpeg weigh, from idle to five open pages and a broker that is away.

Agents are weighed one after the other, so that none shares what it has mapped with another; what a program shares with
others that run on this machine (its libraries, with the bench itself and the cameras) lowers its Pss all the same.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.bench.figures import Figure
from tests.bench.loops import FfmpegLoop, tuned_command
from tests.bench.options import Options
from tests.bench.process import memory_of, processor_s
from tests.bench.subject import DEVICE, PATIENCE_S, TOPIC
from tests.bench.weighed import AGENT, BARE, FFMPEG, PAGES, TUNED, State, Weight, Weights, over_a_minute
from tests.harness import AgentProcess
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.certificates import Certificates
from tests.peers.process import wait_until
from tests.peers.rtmp import RtmpServer
from tests.web.browser import page_agent
from tests.web.client import ask, listening

TELEMETRY_S = 5


@dataclass(frozen=True)
class Times:
    """How long each state is watched, in seconds: as many samples of telemetry in each window."""

    window_s: float = 3.0 * TELEMETRY_S
    away_s: float = 60.0
    """The broker away: the first minute, which has the shortest waits between its tries, and so costs the most."""
    settle_s: float = 5.0
    """After a change, before a window begins."""


QUICK = Times(window_s=TELEMETRY_S, away_s=10.0, settle_s=2.0)
# Media that must have come before a stream is taken to run.
STEADY_BYTES = 200_000
KEY, TUNED_KEY = "weight", "weight-tuned"
# What a program of this kind cannot do without, imported and connected: the floor that the agent stands on.
BARE_CLIENT = """
import asyncio, psutil, sys, paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
client = paho.Client(CallbackAPIVersion.VERSION2)
client.on_connect = lambda *_: client.subscribe("nothing") and print("connected", flush=True)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"""


def measure_weight(folder: Path, options: Options) -> list[Figure]:
    """Everything on: MQTT with Home Assistant's discovery, the page, telemetry every 5 s; pictures where it says so."""
    times = QUICK if options.quick else Times()
    weights = Weights()
    certificates = Certificates(folder / "certificates")
    with LiveCamera(folder / "camera") as camera, RtmpServer(folder / "server") as server:
        for number in range(options.runs):
            scene = _Scene(folder / f"{number}", camera, server, times, weights)
            scene.bare()
            scene.without_a_page()
            scene.encrypted(certificates)
            scene.through_all_states()
            scene.with_pictures()
    return weights.figures()


class _Scene:
    """One of the runs: agents with one camera and one server, each on a broker of its own."""

    def __init__(self, folder: Path, camera: LiveCamera, server: RtmpServer, times: Times, weights: Weights) -> None:
        self._folder = folder
        self._camera = camera
        self._server = server
        self._times = times
        self._weights = weights

    def bare(self) -> None:
        """The floor, connected and idle."""
        with Broker(self._folder / "bare") as broker:
            command = [sys.executable, "-c", BARE_CLIENT, f"{broker.port}"]
            client = subprocess.Popen(command, stdout=subprocess.PIPE)
            try:
                assert client.stdout is not None
                client.stdout.readline()
                time.sleep(self._times.settle_s)
                self._weights.add(State.IDLE, weigh({BARE: client.pid}, self._times.window_s))
            finally:
                client.kill()
                client.wait()

    def without_a_page(self) -> None:
        """Idle, with the page switched off."""
        with self._agent("no-page", web={"enabled": False}) as (agent, _, _):
            self._weights.add(State.NO_PAGE, self._weigh(agent))

    def encrypted(self, certificates: Certificates) -> None:
        """Idle, with TLS to the broker."""
        mqtt = {"tls": {"ca_file": f"{certificates.ca_file}"}}
        with self._agent("encrypted", tls=certificates, mqtt=mqtt) as (agent, _, _):
            self._weights.add(State.ENCRYPTED, self._weigh(agent))

    def through_all_states(self) -> None:
        """One agent, from idle to a broker that is away."""
        with self._agent("agent") as (agent, broker, listener):
            self._weights.add(State.IDLE, self._weigh(agent))
            self._weights.guards.append(memory_of(next(c.pid for c in agent.children() if c.name() == "sh")))
            self._go_on_air(listener)
            with self._tuned_loop() as tuned:
                self._weights.add(State.STREAMING, self._weigh(agent, tuned))
            for state, count in ((State.ONE_PAGE, 1), (State.FIVE_PAGES, PAGES)):
                with _visitors(agent, count):
                    self._weights.add(state, self._weigh(agent))
            self._weights.add(State.CLOSED, self._weigh(agent))
            before = memory_of(agent.pid)
            with _visitors(agent, PAGES):
                time.sleep(self._times.settle_s)
            time.sleep(self._times.settle_s)
            self._weights.second_round.append((before, memory_of(agent.pid)))
            broker.kill()
            self._weights.add(State.AWAY, weigh(_pids(agent), self._times.away_s))
            self._server.wait_for_stream(KEY)
        self._server.wait_for_no_stream(KEY)

    def with_pictures(self) -> None:
        """A minute of streaming with pictures on, in which one is taken: put together of a window with and without."""
        with self._agent("pictures", snapshot={"enabled": True}) as (agent, _, listener):
            after = listener.position
            self._go_on_air(listener)
            topic = f"{TOPIC}/snapshot"
            # The first is taken by itself, and the next a minute later.
            listener.wait_for_topic(topic, PATIENCE_S, after=after)
            without = self._weigh(agent)
            pids = _pids(agent)
            after, before_s = listener.position, _children_s(agent)
            listener.publish(f"{topic}/set", "PRESS")
            during = weigh(pids, self._times.window_s)
            listener.wait_for_topic(topic, PATIENCE_S, after=after)
            self._weights.picture_s.append(_children_s(agent) - before_s)
            window_s = self._times.window_s
            self._weights.add(
                State.PICTURES, {who: over_a_minute(during[who], without[who], window_s) for who in during}
            )
        self._server.wait_for_no_stream(KEY)

    def _weigh(self, agent: AgentProcess, tuned: psutil.Process | None = None) -> dict[str, Weight]:
        time.sleep(self._times.settle_s)
        beside = {} if tuned is None else {TUNED: tuned.pid}
        return weigh({**_pids(agent), **beside}, self._times.window_s)

    @contextmanager
    def _agent(
        self, name: str, *, tls: Certificates | None = None, **sections: Any
    ) -> Iterator[tuple[AgentProcess, Broker, Listener]]:
        """An agent that is online and off, and a broker that only it and the listener are on."""
        with (
            Broker(self._folder / f"{name}-broker", tls=tls) as broker,
            Listener(broker.port, f"{TOPIC}/#", tls=tls) as listener,
        ):
            agent: AgentProcess = page_agent(
                self._folder / name,
                broker,
                self._camera,
                device={"id": DEVICE},
                destination={"server": self._server.url(), "key": KEY},
                telemetry={"interval_s": TELEMETRY_S},
            )
            if sections:
                config = {name: {**agent.config.get(name, {}), **section} for name, section in sections.items()}
                config = {**agent.config, **config}
                # Not a page's agent: where there is no page, there is no port to wait for.
                agent = AgentProcess(self._folder / name, config=config)
            with agent:
                agent.wait_until_online(listener)
                yield agent, broker, listener

    def _go_on_air(self, listener: Listener) -> None:
        listener.publish(f"{TOPIC}/stream/set", "ON")
        self._server.wait_for_stream(KEY, more_than_bytes=STEADY_BYTES)

    @contextmanager
    def _tuned_loop(self) -> Iterator[psutil.Process]:
        url = f"{self._server.url()}/{TUNED_KEY}"
        loop = FfmpegLoop(TUNED_KEY, self._folder / TUNED_KEY, tuned_command(self._camera.hd_url, url))
        with loop:
            self._server.wait_for_stream(TUNED_KEY, more_than_bytes=STEADY_BYTES)
            (ffmpeg,) = loop.senders()
            yield ffmpeg
        self._server.wait_for_no_stream(TUNED_KEY)


def weigh(pids: dict[str, int], window_s: float) -> dict[str, Weight]:
    """Each process over the same window from now on."""
    began, before = time.monotonic(), {who: processor_s(pid) for who, pid in pids.items()}
    time.sleep(window_s)
    after = {who: processor_s(pid) for who, pid in pids.items()}
    minutes = (time.monotonic() - began) / 60
    return {who: Weight(memory_of(pid), (after[who] - before[who]) / minutes) for who, pid in pids.items()}


def _pids(agent: AgentProcess) -> dict[str, int]:
    return {AGENT: agent.pid, **dict(zip((FFMPEG,), (ffmpeg.pid for ffmpeg in agent.ffmpegs()), strict=False))}


def _children_s(agent: AgentProcess) -> float:
    """Processor of all that it has started and that has ended, in ticks of 10 ms: the kernel has no better."""
    times = psutil.Process(agent.pid).cpu_times()
    return float(times.children_user + times.children_system)


def _has_visitors(agent: AgentProcess) -> bool:
    port = agent.config["web"]["port"]
    return any(
        connection.laddr.port == port and connection.raddr
        for connection in psutil.Process(agent.pid).net_connections("tcp4")
    )


@contextmanager
def _visitors(agent: AgentProcess, count: int) -> Iterator[None]:
    """So many open pages; all of them are closed at the end."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(visitor(agent))
        yield
    wait_until(lambda: not _has_visitors(agent), PATIENCE_S, "the end of the visits")


@contextmanager
def visitor(agent: AgentProcess) -> Iterator[None]:
    """A page that is open: it has loaded all it loads, and reads what comes. Costs the agent what Chromium does."""
    for path in ("/", "/api/about", "/api/history", "/api/broker"):
        ask(agent, path, headers={"Accept-Encoding": "gzip"})
    with listening(agent) as listener:
        listener.next("telemetry")
        listener.sock.settimeout(None)

        def read() -> None:
            with suppress(OSError):
                while listener.sock.recv(65536):
                    pass

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield
        # A read that waits would keep the connection open behind a close.
        listener.sock.shutdown(socket.SHUT_RDWR)
        reader.join()
