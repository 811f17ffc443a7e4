"""How soon the agent is there, and what each import costs: beside a bare MQTT client in the same Python."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure
from tests.bench.options import Options
from tests.harness import AgentProcess
from tests.peers.broker import Broker, Listener
from tests.peers.certificates import Certificates
from tests.peers.ports import accepts, free_port
from tests.peers.process import Peer, wait_until
from tests.web.browser import PASSWORD
from tests.web.client import ask

STARTS = 9
AIM_MS = 350.0
PATIENCE_S = 30.0
POLL_S = 0.002
# Groups that cost less than this stand together.
SMALL_MS = 2.0
DEVICE = "startup"
BARE = "a bare paho client"
# What no client can do without: it connects, and publishes the same as the agent.
BARE_CLIENT = """
import sys
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
client = paho.Client(CallbackAPIVersion.VERSION2)
client.on_connect = lambda *_: client.publish("bare/availability", "online", qos=1, retain=True)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"""
OURS, ITSELF, OTHERS = "yiagent's own modules", "Python itself", "the rest of the standard library"
GROUPS = {
    **{name: name for name in ("asyncio", "paho", "psutil", "voluptuous", "microdot", "argparse")},
    "yiagent": OURS,
    "yaml": "PyYAML",
    "_yaml": "PyYAML",
    "gettext": "argparse",
    **dict.fromkeys(("urllib", "http", "email"), "urllib, http, email"),
}
_IMPORT = re.compile(r"import time: +(\d+) \| +\d+ \| +([\w.]+)")


class Timed:
    """A Python whose modules are compiled once and kept in a folder of its own, as those of an installed program are.

    `began`: when it was started last, monotonic seconds.
    """

    def __init__(self, folder: Path) -> None:
        self._environment = ["env", "-u", "PYTHONDONTWRITEBYTECODE", f"PYTHONPYCACHEPREFIX={folder / 'compiled'}"]
        self.began = 0.0

    def command(self, *arguments: str) -> list[str]:
        """Python with these arguments; to be started at once."""
        command = [*self._environment, sys.executable, *arguments]
        self.began = time.monotonic()
        return command


class TimedAgent(AgentProcess):
    """The agent with MQTT, Home Assistant's discovery, the page and telemetry. `options`: Python's."""

    def __init__(self, folder: Path, python: Timed, port: int, tls: dict[str, Any] | None = None) -> None:
        config = {
            "device": {"id": DEVICE},
            "mqtt": {"discovery": {"enabled": True}, "tls": tls},
            "web": {"enabled": True, "host": "127.0.0.1", "port": free_port(), "password": PASSWORD},
            "telemetry": {"interval_s": 5},
        }
        super().__init__(folder, broker_port=port, config=config, waits=False)
        self._python = python
        self.options: list[str] = []

    def command(self) -> list[str]:
        """As ever, timed."""
        _, *arguments = super().command()
        return self._python.command(*self.options, *arguments)

    def measure(self, listener: Listener) -> tuple[float, float]:
        """Start and stop it: milliseconds until it is heard to be online, and until the page has answered."""
        position = listener.position
        with self:
            wait_until(lambda: accepts(self.config["web"]["port"]), PATIENCE_S, "the page", poll_s=POLL_S)
            assert ask(self, "/").status == 200
            page_at = time.monotonic()
            topic = self.topic("availability")
            online = listener.wait_for(
                lambda message: message.topic == topic and message.payload == b"online",
                PATIENCE_S,
                "online",
                after=position,
            )
            return (online.at_s - self._python.began) * 1000, (page_at - self._python.began) * 1000


class BareClient(Peer):
    """What the agent's start is held against."""

    def __init__(self, folder: Path, python: Timed, port: int) -> None:
        super().__init__("bare", folder)
        self._python = python
        self._port = port

    def command(self) -> list[str]:
        """The client, timed."""
        return self._python.command("-c", BARE_CLIENT, f"{self._port}")

    def measure(self, listener: Listener) -> float:
        """Start and end it: milliseconds until it is heard to be online."""
        position = listener.position
        with self:
            online = listener.wait_for_topic("bare/availability", PATIENCE_S, after=position)
            self.kill()
            return (online.at_s - self._python.began) * 1000


def measure_startup(folder: Path, options: Options) -> list[Figure]:
    """Of warm files: each is started once before it is measured."""
    starts = options.runs if options.quick else max(options.runs, STARTS)
    python = Timed(folder)
    with Broker(folder / "broker") as broker, Listener(broker.port) as listener:
        agent = TimedAgent(folder / "agent", python, broker.port)
        bare = BareClient(folder, python, broker.port)
        agent.measure(listener)
        bare.measure(listener)
        ours, others, itself = [], [], []
        for _ in range(starts):
            ours.append(agent.measure(listener))
            others.append(bare.measure(listener))
            itself.append(_nothing_ms(python))
        imports = _imports(agent, python, listener, options.runs)
    online = "process start to `online` at a subscriber, everything on"
    return [
        Figure(online, "ms", [online_ms for online_ms, _ in ours], aim=AIM_MS),
        Figure(online, "ms", [*others], BARE),
        Figure(online, "ms", [*itself], "`python -c pass`, to its end"),
        Figure(f"{online}, mqtts", "ms", _encrypted(folder, python, starts)),
        Figure("process start to the page's first answer", "ms", [page_ms for _, page_ms in ours]),
        *imports,
    ]


def _encrypted(folder: Path, python: Timed, starts: int) -> list[float | None]:
    certificates = Certificates(folder / "certificates")
    with (
        Broker(folder / "broker-tls", tls=certificates) as broker,
        Listener(broker.port, tls=certificates) as listener,
    ):
        agent = TimedAgent(folder / "agent-tls", python, broker.port, {"ca_file": f"{certificates.ca_file}"})
        agent.measure(listener)
        return [agent.measure(listener)[0] for _ in range(starts)]


def _nothing_ms(python: Timed) -> float:
    subprocess.run(python.command("-c", "pass"), check=True)
    return (time.monotonic() - python.began) * 1000


def _imports(agent: TimedAgent, python: Timed, listener: Listener, runs: int) -> list[Figure]:
    """What each group of modules takes to import, by Python's own account, biggest first."""
    command = python.command("-X", "importtime", "-c", "pass")
    bare = subprocess.run(command, capture_output=True, text=True, check=True)
    itself = {name for name, _ in parse_imports(bare.stderr)}
    agent.options = ["-X", "importtime"]
    found = []
    for _ in range(runs):
        agent.measure(listener)
        found.append(by_group(parse_imports(agent.log_text), itself))
    return import_figures(found)


def parse_imports(text: str) -> list[tuple[str, float]]:
    """Each module that `-X importtime` tells of, with the milliseconds that it took itself, without what it imports."""
    return [(name, int(took_us) / 1000) for took_us, name in _IMPORT.findall(text)]


def by_group(imports: list[tuple[str, float]], itself: set[str]) -> dict[str, float]:
    """Milliseconds of each group. `itself`: what Python imports before it runs anything."""
    sums: defaultdict[str, float] = defaultdict(float)
    for name, took_ms in imports:
        group = ITSELF if name in itself else GROUPS.get(name.partition(".")[0], OTHERS)
        sums[group] += took_ms
    return dict(sums)


def import_figures(runs: list[dict[str, float]]) -> list[Figure]:
    """All of them, then each group, the biggest first and the small ones together."""

    def figure(what: str, groups: list[str]) -> Figure:
        return Figure(f"imports: {what}", "ms", [sum(run.get(group, 0.0) for group in groups) for run in runs])

    every = sorted({group for run in runs for group in run})
    figures = [figure(group, [group]) for group in every]
    medians = {group: figure.median or 0.0 for group, figure in zip(every, figures, strict=True)}
    small = [group for group in every if medians[group] < SMALL_MS]
    big = sorted((group for group in every if group not in small), key=lambda group: -medians[group])
    rest = [figure("all others", small)] if small else []
    return [figure("all, by `python -X importtime`", every), *(figure(group, [group]) for group in big), *rest]
