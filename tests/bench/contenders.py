"""Who is started in `start`: each made ready beforehand, so that one word is all it waits for."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path

from tests.bench.commander import Commander, Sent
from tests.bench.figures import OURS
from tests.bench.go2rtc import Go2rtc
from tests.bench.loops import FfmpegLoop
from tests.bench.subject import PATIENCE_S
from tests.bench.watched import WatchedFfmpeg
from tests.harness import wait_for_state
from tests.peers.broker import Listener
from tests.peers.rtmp import RtmpServer


class Contender(ABC):
    """`title`: what the figures call it; `stream`: what it publishes."""

    def __init__(self, title: str, stream: str) -> None:
        self.title = title
        self.stream = stream

    @abstractmethod
    def prepare(self) -> None:
        """Do all that is done before anybody wants a stream."""

    @abstractmethod
    def begin(self) -> float:
        """Say the word, and return when that was: time zero, `time.monotonic()`."""

    @abstractmethod
    def end(self) -> None:
        """End the stream."""


class AgentContender(Contender):
    """The agent, commanded by MQTT. `sent`, `exec_s`: of the last start, the command and ffmpeg's `execve`."""

    def __init__(self, listener: Listener, commander: Commander, program: WatchedFfmpeg) -> None:
        super().__init__(OURS, "agent")
        self._listener = listener
        self._commander = commander
        self._program = program
        self.sent = Sent(0.0, 0.0)
        self.exec_s = 0.0

    def prepare(self) -> None:
        """It is online."""

    def begin(self) -> float:
        """`stream/set ON`; zero is the moment before the publication's bytes are sent."""
        self.sent = self._commander.send("ON")
        self.exec_s = self._program.started_after(self.sent.at_s, PATIENCE_S)
        return self.sent.at_s

    def end(self) -> None:
        """`stream/set OFF`."""
        after = self._listener.position
        self._commander.send("OFF")
        wait_for_state(self._listener, lambda state: bool(state["phase"] == "idle"), PATIENCE_S, after=after)


class LoopContender(Contender):
    """A loop in a shell that runs already and waits for a line: the best case of whoever types or schedules it."""

    def __init__(self, title: str, stream: str, folder: Path, command: list[str]) -> None:
        super().__init__(title, stream)
        self._loop = FfmpegLoop(stream, folder, command, waits=True)

    def prepare(self) -> None:
        """The shell waits."""
        self._loop.start()

    def begin(self) -> float:
        """Zero is the moment before the line is written."""
        now = time.monotonic()
        self._loop.begin()
        return now

    def end(self) -> None:
        """By force; nothing where it does not run."""
        self._loop.stop()


class Go2rtcContender(Contender):
    """go2rtc that runs already and is told by its API to publish, for which its documentation has a request.

    Started anew for each run: what it publishes it goes on publishing.
    """

    def __init__(self, folder: Path, program: str, camera_url: str, server: RtmpServer) -> None:
        super().__init__("go2rtc", "go2rtc")
        self._go2rtc = Go2rtc(folder, program, camera_url)
        self._url = f"{server.url()}/{self.stream}"

    def prepare(self) -> None:
        """Its API answers."""
        self._go2rtc.start()

    def begin(self) -> float:
        """Zero is the moment before the request."""
        now = time.monotonic()
        self._go2rtc.publish(self._url)
        return now

    def end(self) -> None:
        """End the program; nothing where it does not run."""
        self._go2rtc.stop()
