"""One fault's stage: camera, server, broker and agent of its own, and what is expected of the agent, with times.

    scene.go_live()
    scene.strike(scene.server.kill)
    scene.expect("backing_off", "sink_closed", within_s=3)
    scene.mend(scene.server.start)
    scene.expect_media(within_s=2)

Each expectation is measured from the last `strike` or `mend`. Whatever the row does, at its end nothing of the agent
may be left (processes, files, sockets), and no secret may have been said.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import psutil

from tests.faults.witness import Witness
from tests.harness import AgentProcess, State, latest_state, wait_for_log_line, wait_for_state
from tests.peers.broken_servers import BrokenServer
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.process import Peer, PeerError, wait_until
from tests.peers.proxy import Proxy
from tests.peers.rtmp import RtmpServer

DEVICE: Final = "faults"
# Where a fault has no time of its own to be told by.
PATIENCE_S: Final = 60.0
# So much is media beyond doubt, and comes with the first keyframe.
MEDIA_BYTES: Final = 5_000
# What the agent may leave in its state folder.
STATE_FILES: Final = ("announced.json", "intent.json", "lock")
END_WITHIN_S: Final = 10.0
_MARK: Final = "YIAGENT_FAULTS_ROW"
_DEFAULT_KEY: Final = "made-up-stream-key"

Used = TypeVar("Used", bound=Peer | Proxy | BrokenServer)


class NotHeld(AssertionError):
    """The agent did not do, in its time, what the row states."""


@dataclass(frozen=True)
class Held:
    """One statement of a row that held: `by_s` what was allowed, `took_s` what was measured, from `since`."""

    what: str
    since: str
    by_s: float
    took_s: float


class Agent(AgentProcess):
    """The agent with a mark in its environment, which everything it starts inherits, and a temporary folder."""

    def __init__(self, scene_folder: Path, mark: str, broker_port: int, config: Mapping[str, Any]) -> None:
        self.temporary = scene_folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        self._mark = mark
        self.environment: dict[str, str] = {}
        """More of it; a row changes it before a start."""
        self.module = "yiagent"
        """What runs: another one runs the agent under a condition of its own."""
        super().__init__(scene_folder / "agent", broker_port=broker_port, config=config)

    def begin(self) -> None:
        """Start it, and wait for nothing."""
        self._waits = False
        try:
            self.start()
        finally:
            self._waits = True

    def command(self) -> list[str]:
        """The agent, marked."""
        python, _, _, *rest = super().command()
        environment = {_MARK: self._mark, "TMPDIR": f"{self.temporary}", **self.environment}
        return ["env", *(f"{name}={value}" for name, value in environment.items()), python, "-m", self.module, *rest]


class Scene:
    """Peers made when they are first asked for, ended when the row ends. `slack` stretches every time allowed."""

    def __init__(self, folder: Path, *, slack: float = 1.0) -> None:
        self.folder = folder
        self.held: list[Held] = []
        self.config: dict[str, Any] = {}
        """Merged over what `start_agent` gives the agent; a row changes it before."""
        self.broker_lines: list[str] = []
        """Added to mosquitto's configuration; a row changes them before."""
        self.key = _DEFAULT_KEY
        self.camera_password = "made-up/camera@password"
        self.broker_password = "made-up-broker-password"
        self.page_password = "made-up-page-password"
        self.further_secrets: list[str] = []
        """What else must never be said, beside key and passwords."""
        self._slack = slack
        self._stack = ExitStack()
        self._mark = secrets.token_hex(8)
        self._struck_at = time.monotonic()
        self._struck_position = 0
        self._struck_log = 0
        self._since = "start"

    # --- the peers ---

    @cached_property
    def camera(self) -> LiveCamera:
        """H.264 and AAC behind a login, a keyframe every second."""
        return self.use(LiveCamera(self.folder / "camera", gop_s=1, login=self.camera_login))

    @property
    def camera_login(self) -> str:
        """The camera's USER:PASS."""
        return f"viewer:{self.camera_password}"

    @cached_property
    def server(self) -> RtmpServer:
        """nginx with its RTMP module; takes any key."""
        return self.use(RtmpServer(self.folder / "server"))

    @cached_property
    def broker(self) -> Broker:
        """mosquitto with a password."""
        users = {"agent": self.broker_password, "listener": "made-up-listener-password"}
        return self.use(Broker(self.folder / "broker", users=users, extra_lines=self.broker_lines))

    @cached_property
    def listener(self) -> Listener:
        """What is heard of the agent; connects to the broker itself, whatever way the agent takes."""
        password = self.broker.users["listener"]
        listener = Listener(self.broker.port, "#", username="listener", password=password)
        return self._stack.enter_context(listener)

    @cached_property
    def witness(self) -> Witness:
        """What the server receives of the agent's stream."""
        return self._stack.enter_context(Witness(self.server, self.key))

    def use(self, peer: Used) -> Used:
        """Start a peer that ends with the row."""
        peer.start()
        self._stack.callback(peer.stop)
        return peer

    def at_end(self, act: Callable[[], object]) -> None:
        """Do this when the row has ended, before what was there until now is ended."""
        self._stack.callback(act)

    # --- the agent ---

    @cached_property
    def agent(self) -> Agent:
        """The agent, not started by itself; made with `config` as it stands when first asked for."""
        agent = Agent(self.folder, self._mark, self.broker.port, self._agent_config())
        self._stack.callback(agent.kill)
        return agent

    def another_agent(self, config: Mapping[str, Any]) -> Agent:
        """One more, not started by itself; `config` over what the first one has."""
        agent = Agent(self.folder / "another", self._mark, self.broker.port, {**self._agent_config(), **config})
        self._stack.callback(agent.kill)
        return agent

    def start_agent(self) -> None:
        """Start it and wait until it is online."""
        start = self.listener.position
        self.agent.start()
        self.agent.wait_until_online(self.listener, after=start)

    def go_live(self) -> None:
        """Start camera, server, broker and agent, and return when media reaches the server and the agent says so."""
        began = time.monotonic()
        start = self.listener.position
        _ = self.camera, self.witness
        self.agent.start()
        wait_for_state(self.listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=start)
        self.witness.wait_for_media(began, 100_000, PATIENCE_S)

    def publish(self, command: str, payload: str) -> None:
        """Send the agent a command: `stream/set`, `restart/set` and so on."""
        self.listener.publish(self.agent.topic(command), payload)

    @property
    def state(self) -> State:
        """The last state heard."""
        return latest_state(self.listener, topic=self.agent.topic("state")) or {}

    @property
    def remux(self) -> psutil.Process:
        """The one ffmpeg that runs."""
        (remux,) = self.agent.ffmpegs()
        return remux

    def processes(self) -> list[int]:
        """The agent and all that it started, orphans included: those that carry the row's mark."""
        found = []
        for pid in psutil.pids():
            with suppress(OSError):
                if f"{_MARK}={self._mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(pid)
        return [pid for pid in found if pid != os.getpid()]

    def memory_kb(self) -> float:
        """The agent's resident memory."""
        return float(psutil.Process(self.agent.pid).memory_info().rss) / 1024

    @property
    def slack(self) -> float:
        """What every time allowed is stretched by."""
        return self._slack

    # --- what is done, and what must follow ---

    def strike(self, act: Callable[[], object], what: str = "fault") -> None:
        """Do the fault; what is expected next is measured from now."""
        self._since = what
        self._struck_position = self.listener.position
        self._struck_log = len(self.agent.full_log_text)
        self._struck_at = time.monotonic()
        act()

    def mend(self, act: Callable[[], object], what: str = "mended") -> None:
        """Undo it; what is expected next is measured from its end, when the peer answers again."""
        self._since = what
        self._struck_position = self.listener.position
        self._struck_log = len(self.agent.full_log_text)
        act()
        self._struck_at = time.monotonic()

    def let_pass(self, seconds: float) -> None:
        """Wait until so long after the last strike or mend."""
        time.sleep(max(0.0, self._struck_at + seconds - time.monotonic()))

    def phases(self, *, after: int | None = None) -> list[str]:
        """The phases told since a position of the listener, or since the last strike or mend; each turn once."""
        heard = self.listener.messages[self._struck_position if after is None else after :]
        topic = self.agent.topic("state")
        told = [json.loads(m.payload)["phase"] for m in heard if m.topic == topic and m.payload and not m.retain]
        return [phase for n, phase in enumerate(told) if n == 0 or phase != told[n - 1]]

    def count_in_log(self, text: str) -> int:
        """How often the agent has written the text to its console since the last strike or mend."""
        return self.agent.full_log_text[self._struck_log :].count(text)

    def expect(self, phase: str, code: str | None = None, *, within_s: float, word: str = "") -> State:
        """Wait for this phase with this reason (None: without one); `word` must stand in its message."""

        def fits(state: State) -> bool:
            reason = state["reason"]
            has = reason["code"] if reason is not None else None
            return bool(state["phase"] == phase and has == code)

        state = self.expect_state(fits, f"{phase}{f', {code}' if code else ''}", within_s=within_s)
        if word and word not in state["reason"]["message"]:
            raise NotHeld(f"“{word}” is not in “{state['reason']['message']}”")
        return state

    def start_in_vain(self, phase: str, code: str, *, within_s: float, word: str) -> State:
        """Start the agent, which cannot get on air: it must say so by this phase, with this reason and another try."""
        agent = self.agent
        self.strike(agent.start, "the agent's start")
        state = self.expect(phase, code, within_s=within_s, word=word)
        if "streaming" in self.phases():
            raise NotHeld(f"streaming was said: {self.phases()}")
        if state["stream"] != "ON" or state["retry_at"] is None:
            raise NotHeld(f"it does not try again: {state}")
        return state

    def expect_state(self, condition: Callable[[State], bool], what: str, *, within_s: float) -> State:
        """Wait for a state that meets the condition, heard since the last strike or mend."""
        found: list[tuple[float, State]] = []

        def heard() -> bool:
            for message in self.listener.messages[self._struck_position :]:
                if message.topic == self.agent.topic("state") and message.payload and not message.retain:
                    state = json.loads(message.payload)
                    if condition(state):
                        found.append((message.at_s, state))
                        return True
            return False

        self._wait(heard, what, within_s)
        at, state = found[0]
        self._note(what, within_s, max(0.0, at - self._struck_at))
        return dict(state)

    def expect_media(self, *, within_s: float) -> None:
        """Wait until the server receives media again; `within_s` includes the wait for a keyframe (a second)."""
        took_s = self._media(within_s)
        self._note("media again", within_s, took_s)

    def expect_new_media(self, *, within_s: float) -> None:
        """The same where what the server had not read yet is no sign of life: media of a publisher that came since."""
        try:
            took_s = self.witness.wait_for_new_publisher(self._struck_at, MEDIA_BYTES, self._left_s(within_s))
        except PeerError as error:
            raise NotHeld(f"{error} of “{self._since}”; the last state: {self.state}") from None
        self._note("media of a new connection", within_s, took_s)

    def expect_on_air(self, *, within_s: float, anew: bool = False) -> None:
        """Media at the server, then `streaming` without a reason. `anew`: of a connection made since."""
        (self.expect_new_media if anew else self.expect_media)(within_s=within_s)
        self.expect("streaming", within_s=within_s + 2)

    def expect_log(self, text: str, *, within_s: float, count: int | None = None) -> None:
        """Wait for a line of the log that holds the text; `count`: so often since the strike, no more."""
        line = wait_for_log_line(self.listener, text, within_s * self._slack, after=self._struck_position)
        if count is not None:
            heard = [m for m in self.listener.messages[self._struck_position :] if m.topic == self.agent.topic("log")]
            found = [m for m in heard if text in json.loads(m.payload)["message"]]
            if len(found) != count:
                raise NotHeld(f"{len(found)} lines with “{text}” in the log instead of {count}")
        self._note(f"log: {line['message'][:50]}", within_s, time.monotonic() - self._struck_at)

    def expect_cheap(self, *, lines: int) -> None:
        """Since the strike: one launch at the most, and so many lines of the agent's own that warn, no more."""
        if (launches := self.phases().count("starting")) > 1:
            raise NotHeld(f"{launches} launches since “{self._since}”: {self.phases()}")
        warned = self.count_in_log("WARNING agent: ") + self.count_in_log("ERROR   agent: ")
        if warned > lines:
            raise NotHeld(
                f"{warned} lines that warn since “{self._since}” instead of {lines}\n{self.agent.log_text[-2000:]}"
            )
        passed_s = time.monotonic() - self._struck_at
        self._note(f"launches: {launches}, lines that warn: {warned}", passed_s, passed_s)

    def expect_true(self, condition: Callable[[], bool], what: str, *, within_s: float) -> None:
        """Wait for anything else."""
        self._wait(condition, what, within_s)
        self._note(what, within_s, time.monotonic() - self._struck_at)

    def expect_untouched(self, seconds: float) -> None:
        """For so long: the same ffmpeg, and media that never stands still for more than 3 s."""
        remux = self.remux
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            moment = time.monotonic()
            took_s = self.witness.wait_for_media(moment, 1, 3.0 * self._slack)
            time.sleep(max(0.0, 0.5 - took_s))
        if self.agent.ffmpegs() != [remux]:
            raise NotHeld("ffmpeg was replaced")
        self._note(f"untouched for {seconds:g} s", seconds, seconds)

    def expect_memory(self, before_kb: float, room_kb: float) -> None:
        """The agent has taken no more than `room_kb` since it took `before_kb`."""
        grown_kb = self.memory_kb() - before_kb
        if grown_kb > room_kb:
            raise NotHeld(f"the agent has grown by {grown_kb / 1024:.1f} MB, from {before_kb / 1024:.1f} MB")
        self._note(f"memory: {grown_kb:+.0f} kB (at most {room_kb:.0f})", 0.0, 0.0)

    # --- the row's end ---

    def finish(self) -> None:
        """End the agent if it runs, and see that it leaves nothing and has said no secret."""
        if self.agent.alive:
            self._off()
            began = time.monotonic()
            status = self.agent.end()
            self._since = "SIGTERM"
            if status != 0:
                raise NotHeld(f"the agent ended with status {status}\n{self.agent.log_text[-2000:]}")
            if time.monotonic() - began > END_WITHIN_S * self._slack:
                raise NotHeld(f"the agent took {time.monotonic() - began:.1f} s to end")
        self._wait(lambda: not self.processes(), "the end of all its processes", END_WITHIN_S)
        left = [path.name for path in self.agent.temporary.iterdir()]
        if self.agent.state_dir.is_dir():
            known = (*STATE_FILES, "intent.json.unreadable-1")
            left += [path.name for path in self.agent.state_dir.iterdir() if path.name not in known]
        if left:
            raise NotHeld(f"files left behind: {left}")
        if [leak for leak in self._secrets if leak in self._said]:
            raise NotHeld("a secret was said")

    def _off(self) -> None:
        """OFF, and nothing but the connection to the broker and the guard remains."""
        with suppress(PeerError):
            self.listener.wait_until_subscribed()
        self._struck_position, self._struck_at, self._since = self.listener.position, time.monotonic(), "OFF"
        if self.state.get("phase") != "idle":
            self.publish("stream/set", "OFF")
            self.expect("idle", within_s=END_WITHIN_S)
        if self.agent.ffmpegs():
            raise NotHeld("an ffmpeg runs although the phase is idle")
        sockets = psutil.Process(self.agent.pid).net_connections("inet")
        ends = {socket.laddr for socket in sockets}
        # paho wakes its thread by a connection from the process to itself.
        others = [socket for socket in sockets if socket.raddr not in ends]
        if len(others) > 1:
            raise NotHeld(f"{len(others)} connections are open although the phase is idle: {others}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- under the hood ---

    def _agent_config(self) -> dict[str, Any]:
        source = {"username": "viewer", "password": self.camera_password}
        destination = {"key": self.key}
        # Neither is started for a row that has its own.
        if "sd" not in self.config.get("source", {}):
            source["sd"] = self.camera.sd_url
        if "server" not in self.config.get("destination", {}):
            destination["server"] = self.server.url()
        own: dict[str, Any] = {
            "device": {"id": DEVICE},
            "source": source,
            "destination": destination,
            "stream": {"autostart": True},
            "mqtt": {"username": "agent", "password": self.broker_password},
            "web": {"password": self.page_password},
            # Everything is told there, so a secret that can be said is said.
            "log": {"level": "debug"},
        }
        for section, values in self.config.items():
            if isinstance(values, Mapping):
                own[section] = {**own.get(section, {}), **values}
            else:
                own[section] = values
        return own

    @property
    def _secrets(self) -> list[str]:
        listeners = self.broker.users["listener"]
        own = [self.key, self.camera_password, self.broker_password, self.page_password]
        return [*own, listeners, *self.further_secrets]

    @property
    def _said(self) -> str:
        heard = [m for m in self.listener.messages if not m.topic.endswith("/set")]
        return self.agent.full_log_text + "".join(f"{m.topic} {m.payload!r}" for m in heard)

    def _media(self, within_s: float) -> float:
        try:
            return self.witness.wait_for_media(self._struck_at, MEDIA_BYTES, self._left_s(within_s))
        except PeerError as error:
            raise NotHeld(f"{error} of “{self._since}”; the last state: {self.state}") from None

    def _wait(self, condition: Callable[[], bool], what: str, within_s: float) -> None:
        left_s = self._left_s(within_s)
        try:
            wait_until(condition, left_s, what)
        except PeerError:
            last = f"the last state: {self.state}\n{self.agent.log_text[-2000:]}"
            raise NotHeld(f"not within {within_s:g} s of “{self._since}”: {what}; {last}") from None

    def _left_s(self, within_s: float) -> float:
        # From the strike on: an earlier expectation of the same strike has used up its part.
        return max(0.5, self._struck_at + within_s * self._slack - time.monotonic())

    def _note(self, what: str, by_s: float, took_s: float) -> None:
        self.held.append(Held(what, self._since, by_s, took_s))
