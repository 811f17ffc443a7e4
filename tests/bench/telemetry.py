"""What watching costs: a sample of the telemetry, a line of the log, and a flood of lines."""

from __future__ import annotations

import re
import resource
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.flood import SHELL, measure_flood, piped_to_broker
from tests.bench.options import Options
from tests.bench.process import processor_s
from tests.bench.talker import Kind, Talker
from tests.harness import AgentProcess
from tests.peers.broker import Broker, Listener, Message
from tests.peers.camera import LiveCamera
from tests.peers.rtmp import RtmpServer

WINDOW_S = 8.0
QUICK_WINDOW_S = 3.0
# As often as the configuration allows, and as good as never.
OFTEN_S, SELDOM_S = 0.2, 3600
# No faster than the log goes to a broker (yiagent/logfeed.py), so that none waits for its turn.
LINES_PER_S = 4
_SAID = re.compile(rb"said at ([a-j]+)")
_DIGITS = bytes.maketrans(b"abcdefghij", b"0123456789")
SCRIPT_RUNS = 20
# What people write: two values, one message.
SCRIPT = """
read -r load _ </proc/loadavg
memory=$(awk '/MemAvailable/ {print $2}' /proc/meminfo)
mosquitto_pub -p "$1" -t "$2" -m "{\\"load_1m\\":$load,\\"memory_available_kb\\":$memory}"
"""


def measure_telemetry(folder: Path, options: Options) -> list[Figure]:
    """Samples and lines of an agent that streams, then floods of lines."""
    folder.mkdir(exist_ok=True)
    window_s = QUICK_WINDOW_S if options.quick else WINDOW_S
    with (
        Broker(folder / "broker") as broker,
        LiveCamera(folder / "camera") as camera,
        RtmpServer(folder / "server") as server,
    ):
        return [
            *_samples(folder, broker, camera, server, options.runs, window_s),
            *_lines(folder, broker, camera, server, options.runs, window_s),
            *measure_flood(folder, broker, camera, server, options),
        ]


def _samples(
    folder: Path, broker: Broker, camera: LiveCamera, server: RtmpServer, runs: int, window_s: float
) -> list[Figure]:
    """Two agents at the same time, alike but for how often they take a sample: the difference is the samples'."""
    each_ms: list[float | None] = []
    script_ms: list[float | None] = []
    with Listener(broker.port, "yiagent/#") as listener, ExitStack() as stack:
        often, seldom = (
            stack.enter_context(_on_air(folder / name, broker, camera, server, interval_s))
            for name, interval_s in (("often", OFTEN_S), ("seldom", SELDOM_S))
        )
        for _ in range(runs):
            position, before = listener.position, processor_s(often.pid) - processor_s(seldom.pid)
            time.sleep(window_s)
            used_s = processor_s(often.pid) - processor_s(seldom.pid) - before
            topic = often.topic("telemetry")
            samples = [message for message in listener.messages[position:] if message.topic == topic]
            each_ms.append(used_s / len(samples) * 1000)
            script_ms.append(_script_ms(broker.port))
        bytes_each: list[float | None] = [publish_bytes(samples[-1].topic, samples[-1].payload)]
    what = "a sample, while streaming: processor"
    return [
        Figure(what, "ms", each_ms),
        Figure(what, "ms", script_ms, "two values by a shell script with mosquitto_pub"),
        Figure("a sample: MQTT packet", "bytes", bytes_each),
    ]


@contextmanager
def _on_air(
    folder: Path,
    broker: Broker,
    camera: LiveCamera,
    server: RtmpServer,
    interval_s: float,
    ffmpeg: Path | None = None,
) -> Iterator[AgentProcess]:
    """An agent that streams to a key of its own, with this ffmpeg."""
    config = {
        "device": {"id": folder.name},
        "source": {"hd": camera.hd_url, "sd": camera.sd_url},
        "destination": {"server": server.url(), "key": folder.name},
        "stream": {"audio": "copy", "autostart": True},
        "telemetry": {"interval_s": interval_s},
        **({"ffmpeg": ffmpeg} if ffmpeg is not None else {}),
    }
    with AgentProcess(folder, broker_port=broker.port, config=config) as agent:
        server.wait_for_stream(folder.name, more_than_bytes=20_000)
        yield agent


def _script_ms(port: int) -> float:
    """Processor of one sample as a script takes it, all that it starts included."""
    before = _children_s()
    for _ in range(SCRIPT_RUNS):
        subprocess.run(["sh", "-c", SCRIPT, "sample", f"{port}", "script/telemetry"], check=True)
    return (_children_s() - before) / SCRIPT_RUNS * 1000


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _lines(
    folder: Path, broker: Broker, camera: LiveCamera, server: RtmpServer, runs: int, window_s: float
) -> list[Figure]:
    """From ffmpeg's write to a subscriber; and what a line costs, by silence and talk in turn, without samples."""
    to_hear_ms: list[float | None] = []
    piped_ms: list[float | None] = []
    each_ms: list[float | None] = []
    talker, alone = Talker(folder / "lines"), Talker(folder / "lines-piped")
    with (
        Listener(broker.port, "yiagent/lines/#") as listener,
        _on_air(folder / "lines", broker, camera, server, SELDOM_S, talker.program) as agent,
        piped_to_broker(alone, broker.port, "yiagent/lines/piped"),
    ):
        for _ in range(runs):
            start = listener.position
            used_s = {0: 0.0, LINES_PER_S: 0.0}
            for lines_per_s in used_s:
                before = processor_s(agent.pid)
                for who in (talker, alone):
                    who.talk(Kind.NOW, lines_per_s)
                time.sleep(window_s / len(used_s))
                used_s[lines_per_s] = processor_s(agent.pid) - before
            for who in (talker, alone):
                who.talk(Kind.NOW, 0)
            heard = listener.messages[start:]
            ours, piped = (delays_ms(heard, f"yiagent/lines/{name}") for name in ("log", "piped"))
            each_ms.append((used_s[LINES_PER_S] - used_s[0]) / len(ours) * 1000)
            to_hear_ms.append(statistics.median(ours))
            piped_ms.append(statistics.median(piped))
    what = "a line of the log: from ffmpeg's write to a subscriber"
    return [
        Figure(what, "ms", to_hear_ms),
        Figure(what, "ms", piped_ms, SHELL),
        Figure("a line of the log: processor", "ms", each_ms),
    ]


def delays_ms(messages: list[Message], topic: str) -> list[float]:
    """Milliseconds from the moment that each message on `topic` tells until it was heard; one that tells none counts
    not."""
    found = ((message, _SAID.search(message.payload)) for message in messages if message.topic == topic)
    return [message.at_s * 1000 - int(said[1].translate(_DIGITS)) / 1e6 for message, said in found if said is not None]


def publish_bytes(topic: str, payload: bytes) -> int:
    """Length of an MQTT 5 PUBLISH at QoS 0 without properties (MQTT 5.0, 2.1 and 3.3); TCP and IP come on top."""
    rest = 2 + len(topic.encode()) + 1 + len(payload)
    # The length itself is told in groups of seven bits.
    return 1 + max(1, -(-rest.bit_length() // 7)) + rest
