"""Between one camera and one server: the agent, the loops, and go2rtc where it is installed, all at once."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.faults import Peers
from tests.bench.go2rtc import Go2rtc
from tests.bench.loops import FfmpegLoop, plain_command, tuned_command
from tests.bench.outcome import AGENT, GO2RTC, GOP_S, PLAIN, TUNED
from tests.bench.subject import DEVICE, TOPIC
from tests.bench.witness import Witness
from tests.harness import AgentProcess
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.rtmp import RtmpServer

STEADY_BYTES = 200_000


@dataclass(frozen=True)
class Arena:
    """The peers, and who streams between them now; `rivals`: the loops and go2rtc."""

    peers: Peers
    agent: AgentProcess
    rivals: dict[str, FfmpegLoop | Go2rtc]
    witness: Witness

    @property
    def contenders(self) -> list[str]:
        """All of them, the agent first."""
        return [AGENT, *self.rivals]

    def senders(self, who: str) -> list[psutil.Process]:
        """The processes that carry the contender's media, if any does now."""
        return self.agent.ffmpegs() if who == AGENT else self.rivals[who].senders()

    def counts(self) -> dict[str, int]:
        """What has come of each, by the server's statistics; 0 where there is no stream, or no server."""
        try:
            streams = self.witness.bytes_in()
        except (OSError, http.client.HTTPException):
            streams = {}
        return {who: streams.get(who, 0) for who in self.contenders}

    def is_steady(self) -> bool:
        """Whether media of all has come for a while."""
        return all(count > STEADY_BYTES for count in self.counts().values())


@contextmanager
def peers_in(folder: Path) -> Iterator[Peers]:
    """A camera, a server, a broker and a listener, all started."""
    with (
        Broker(folder / "broker") as broker,
        LiveCamera(folder / "camera", gop_s=GOP_S) as camera,
        RtmpServer(folder / "server") as server,
        Listener(broker.port, f"{TOPIC}/#") as listener,
    ):
        yield Peers(camera, server, broker, listener)


@contextmanager
def arena_in(folder: Path, peers: Peers, go2rtc: str | None) -> Iterator[Arena]:
    """All contenders, started; `go2rtc`: the program, where there is one."""
    camera_url, server_url = peers.camera.hd_url, peers.server.url()
    config = {
        "device": {"id": DEVICE},
        "source": {"hd": camera_url, "sd": None},
        "destination": {"server": server_url, "key": AGENT},
        "stream": {"autostart": True},
        "telemetry": {"interval_s": 5},
    }
    rivals: dict[str, FfmpegLoop | Go2rtc] = {
        PLAIN: FfmpegLoop(PLAIN, folder / PLAIN, plain_command(camera_url, f"{server_url}/{PLAIN}")),
        TUNED: FfmpegLoop(TUNED, folder / TUNED, tuned_command(camera_url, f"{server_url}/{TUNED}")),
    }
    if go2rtc is not None:
        rivals[GO2RTC] = Go2rtc(folder / GO2RTC, go2rtc, camera_url, f"{server_url}/{GO2RTC}")
    with ExitStack() as stack:
        agent = stack.enter_context(AgentProcess(folder / AGENT, broker_port=peers.broker.port, config=config))
        for rival in rivals.values():
            stack.enter_context(rival)
        yield Arena(peers, agent, rivals, stack.enter_context(Witness(peers.server.http_port)))
