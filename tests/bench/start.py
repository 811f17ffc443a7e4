"""How soon a stream is there after a command: the agent beside ffmpeg in a shell loop, and go2rtc if it is installed.

Everybody carries one live camera, joined between two keyframes, to one nginx-rtmp, whose statistics say when the stream
and its first picture have come. The wait for the camera's next keyframe outweighs all else, so all begin at the same
moments of its group of pictures, spread evenly over it, and are compared run by run; who begins first changes.

Time zero is the publication's first byte for the agent; for a loop a line to a shell that is there already and waits,
which is the best case of whoever types or schedules it; for go2rtc a request to its API.

The agent's own share of its way to ffmpeg's `execve` begins when another subscriber of the same broker, the sender, has
the command: so it holds nothing of the network and the broker, and all that the agent does. What the same takes
`mosquitto_sub` and a shell, which parse nothing and keep nothing, stands beside it and is not subtracted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.bench.commander import Commander, Sent
from tests.bench.contenders import AgentContender, Contender, Go2rtcContender, LoopContender
from tests.bench.figures import OURS, Figure
from tests.bench.go2rtc import go2rtc_program
from tests.bench.loops import plain_command, tuned_command
from tests.bench.options import Options
from tests.bench.subject import PATIENCE_S, TOPIC, agent_on
from tests.bench.watched import WatchedFfmpeg
from tests.bench.witness import Witness
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.process import Peer, wait_until
from tests.peers.rtmp import RtmpServer

GOP_S = 2.0
# Fewer would meet the group of pictures at too few points.
LEAST_RUNS = 9
OWN_AIM_MS = 5.0
RATIO_AIM = 0.6
TUNED_SHARE = 1.05
BEYOND_TUNED_AIM_MS = 10.0
# What came before has left the processor by then.
REST_S = 0.3
PLAIN, TUNED = "loop, defaults", "loop, tuned"
SHELL = "mosquitto_sub in a shell loop"
# What people run without an agent: a shell that listens to the same topic.
SHELL_LOOP = 'mosquitto_sub -p "$1" -t "$2" | while read -r wish; do "$3" -version & done'
EXEC, OWN = "stream/set ON to ffmpeg's exec", "of that the own share, without the broker's"
PUBLISH, MEDIA = "stream/set ON to the stream at the server", "stream/set ON to the first picture at the server"
FIRST_MEDIA = "the same by an agent just started, for the first time"


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


@dataclass
class Times:
    """What was measured, run by run: milliseconds to the exec, seconds to all else."""

    to_exec_ms: list[float] = field(default_factory=list)
    own_ms: list[float] = field(default_factory=list)
    publish_s: dict[str, list[float]] = field(default_factory=dict)
    media_s: dict[str, list[float]] = field(default_factory=dict)

    def add_exec(self, sent: Sent, exec_s: float) -> None:
        """A command and the exec that followed."""
        self.to_exec_ms.append((exec_s - sent.at_s) * 1000)
        self.own_ms.append((exec_s - sent.heard_s) * 1000)


@dataclass(frozen=True)
class Scene:
    """The peers of all runs."""

    folder: Path
    broker: Broker
    camera: LiveCamera
    server: RtmpServer
    listener: Listener
    witness: Witness


def measure_start(folder: Path, options: Options) -> list[Figure]:
    """From the command to ffmpeg's exec, to the stream and to its first picture at the server."""
    runs = 1 if options.quick else max(options.runs, LEAST_RUNS)
    with (
        Broker(folder / "broker") as broker,
        LiveCamera(folder / "camera", gop_s=GOP_S) as camera,
        RtmpServer(folder / "server") as server,
        Listener(broker.port, f"{TOPIC}/#") as listener,
        Witness(server.http_port) as witness,
    ):
        scene = Scene(folder, broker, camera, server, listener, witness)
        first_s = _first_starts(scene, options.runs)
        times = _starts(scene, runs)
        shell = _shell_starts(scene, runs)
    return _figures(times, shell, first_s)


def _figures(times: Times, shell: Times, first_s: list[float]) -> list[Figure]:
    media = times.media_s
    pairs = list(zip(media[OURS], media[PLAIN], media[TUNED], strict=True))
    return [
        Figure(EXEC, "ms", [*times.to_exec_ms]),
        Figure(EXEC, "ms", [*shell.to_exec_ms], SHELL),
        Figure(OWN, "ms", [*times.own_ms], aim=OWN_AIM_MS),
        Figure(OWN, "ms", [*shell.own_ms], SHELL),
        *(Figure(PUBLISH, "s", [*values], who) for who, values in times.publish_s.items()),
        *(Figure(MEDIA, "s", [*values], who) for who, values in media.items()),
        Figure(FIRST_MEDIA, "s", [*first_s]),
        Figure(f"first picture: yiagent ÷ {PLAIN}", "", [ours / plain for ours, plain, _ in pairs], aim=RATIO_AIM),
        Figure(
            f"first picture: yiagent − {TUNED_SHARE} × {TUNED}",
            "ms",
            [(ours - TUNED_SHARE * tuned) * 1000 for ours, _, tuned in pairs],
            aim=BEYOND_TUNED_AIM_MS,
        ),
    ]


def _starts(scene: Scene, runs: int) -> Times:
    times = Times()
    folder, camera_url = scene.folder, scene.camera.hd_url
    with ExitStack() as stack:
        programs = {
            who: stack.enter_context(WatchedFfmpeg(folder / f"program-{number}"))
            for number, who in enumerate((OURS, PLAIN, TUNED))
        }
        agent = stack.enter_context(_agent(scene, folder / "agent", programs[OURS]))
        plain = plain_command(camera_url, f"{scene.server.url()}/plain", programs[PLAIN].path)
        tuned = tuned_command(camera_url, f"{scene.server.url()}/tuned", programs[TUNED].path)
        contenders: list[Contender] = [
            agent,
            LoopContender(PLAIN, "plain", folder / "plain", plain),
            LoopContender(TUNED, "tuned", folder / "tuned", tuned),
        ]
        if (program := go2rtc_program()) is not None:
            contenders.append(Go2rtcContender(folder / "go2rtc", program, camera_url, scene.server))
        # Once unmeasured: what the camera's sound is, and which pages are read from the disk, is known after that.
        for contender in contenders:
            _start(scene, contender, phase=0.5)
        for run in range(runs):
            for contender in rotated(contenders, run):
                publish_s, media_s = _start(scene, contender, phase=(run + 0.5) / runs)
                times.publish_s.setdefault(contender.title, []).append(publish_s)
                times.media_s.setdefault(contender.title, []).append(media_s)
                if contender is agent:
                    times.add_exec(agent.sent, agent.exec_s)
    return times


def _first_starts(scene: Scene, runs: int) -> list[float]:
    """Seconds from the first command that an agent gets to media: it does not know the camera's sound yet."""
    found = []
    with WatchedFfmpeg(scene.folder / "first-program") as program:
        for run in range(runs):
            with _agent(scene, scene.folder / f"first-{run}", program) as agent:
                found.append(_start(scene, agent, phase=(run + 0.5) / runs)[1])
    return found


def _shell_starts(scene: Scene, runs: int) -> Times:
    times = Times()
    topic = f"{TOPIC}/shell/set"
    with (
        WatchedFfmpeg(scene.folder / "shell-program") as program,
        ShellLoop(scene.folder / "shell", scene.broker.port, topic, program.path) as loop,
        Commander(scene.broker.port, topic) as commander,
    ):
        wait_until(lambda: loop.listens, PATIENCE_S, "the shell's subscription")
        for _ in range(runs):
            time.sleep(REST_S)
            sent = commander.send("ON")
            times.add_exec(sent, program.started_after(sent.at_s, PATIENCE_S))
    return times


@contextmanager
def _agent(scene: Scene, folder: Path, program: WatchedFfmpeg) -> Iterator[AgentContender]:
    config = {
        "destination": {"server": scene.server.url(), "key": "agent"},
        # As it comes, with what it has to find out of the camera.
        "stream": {},
    }
    listener = scene.listener
    heard = listener.position
    with (
        agent_on(folder, scene.broker, listener, scene.camera, program.path, config=config),
        Commander(scene.broker.port, f"{TOPIC}/stream/set") as commander,
    ):
        # ffmpeg's own answer to what it can do must be in; an agent has it seconds before anyone commands it.
        listener.wait_for(
            lambda message: message.topic == f"{TOPIC}/info" and b'"ffmpeg":null' not in message.payload,
            PATIENCE_S,
            "ffmpeg's version",
            after=heard,
        )
        yield AgentContender(listener, commander, program)


def _start(scene: Scene, contender: Contender, *, phase: float) -> tuple[float, float]:
    """Seconds to the stream and to its first picture, begun at this point of the group of pictures."""
    contender.prepare()
    try:
        scene.witness.wait_for_none(PATIENCE_S)
        time.sleep(REST_S)
        time.sleep(until_phase(phase, GOP_S, time.monotonic() - scene.camera.clock_began_s))
        began = contender.begin()
        arrival = scene.witness.wait_for(contender.stream, PATIENCE_S)
    finally:
        contender.end()
    return arrival.published_s - began, arrival.media_s - began


def until_phase(phase: float, gop_s: float, clock_s: float) -> float:
    """Seconds until this part (0 to 1) of a group of pictures has passed. `clock_s`: the camera's, 0 at a keyframe."""
    return (phase * gop_s - clock_s) % gop_s


def rotated(contenders: list[Contender], run: int) -> list[Contender]:
    """The same, each run with another one first."""
    first = run % len(contenders)
    return contenders[first:] + contenders[:first]
