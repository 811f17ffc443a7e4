"""The real agent as a process beside the peers, and what tests ask of its topics. Everything waits for conditions.

with Broker(tmp_path / "broker") as broker, Listener(broker.port) as listener:
    with AgentProcess(tmp_path / "agent", broker_port=broker.port) as agent:
        agent.wait_until_online(listener)
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, lambda state: state["phase"] == "streaming")
        assert agent.end() == 0
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.peers.broker import Listener, Message
from tests.peers.camera import REPOSITORY
from tests.peers.ports import free_port
from tests.peers.process import Peer, PeerError

# Generous: other tests may want the processor too. What is waited for is exact instead.
WAIT_TIMEOUT_S = 20.0
# The contract gives the agent 10 s; a loaded machine adds to it. A test of the 10 s measures them itself.
END_TIMEOUT_S = 20.0
# After a `kill -9` the guard ends ffmpeg; what is still there when a test ends is not left behind.
LEFTOVER_TIMEOUT_S = 10.0

State = dict[str, Any]


class AgentProcess(Peer):
    """`python -m yiagent run -c FILE` with a configuration of the test's own.

    `config` is merged over the defaults, section by section; a value of None takes a default away. The state folder
    stays, so that `restart()`, or `kill9()` and `start()`, find the wish again. `config` may be changed between two
    starts. `waits`: whether `start()` returns only when the agent would obey a SIGTERM.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker_port: int | None = None,
        config: Mapping[str, Any] | None = None,
        name: str = "agent",
        waits: bool = True,
    ) -> None:
        super().__init__(name, folder)
        self.config = _merged(_defaults(folder, broker_port), config or {})
        self.config_file = folder / f"{name}.yaml"
        self._waits = waits
        self._children: set[psutil.Process] = set()

    def command(self) -> list[str]:
        """Write the configuration anew, and run the agent."""
        self.config_file.touch(mode=0o600)
        self.config_file.write_text(yaml.safe_dump(self.config, allow_unicode=True, sort_keys=False))
        return [sys.executable, "-m", "yiagent", "run", "-c", f"{self.config_file}"]

    def working_folder(self) -> Path:
        """The repository, so that the package is found without being installed."""
        return REPOSITORY

    def is_ready(self) -> bool:
        """It catches SIGTERM: from here on it ends cleanly, whatever its log level shows."""
        return not self._waits or _catches(self.pid, signal.SIGTERM)

    # Its end

    def end(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = END_TIMEOUT_S) -> int:
        """Send the agent, and it alone, a signal, and return its exit status."""
        self._remember_children()
        os.kill(self.pid, number)
        return self.wait_for_end(timeout_s)

    def wait_for_end(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """Return the exit status when the agent has ended by itself; negative for a signal."""
        assert self._process is not None
        process = self._process
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise PeerError(f"{self.name} did not end within {timeout_s:g} s\n{self._log_end()}") from None
        Peer.kill(self)
        return status

    def kill9(self) -> None:
        """End the agent, and it alone, as a power cut or the OOM killer does; its children are left to its guard."""
        assert self.end(signal.SIGKILL) == -signal.SIGKILL

    def stop(self) -> None:
        """End it cleanly if it runs, and see that nothing of it is left; for `with` and `restart()`."""
        try:
            if self.alive:
                self.end()
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and whatever it started, by force; nothing if all is gone."""
        self._remember_children()
        super().kill()
        _, left = psutil.wait_procs(self._children, timeout=LEFTOVER_TIMEOUT_S if self._children else 0)
        for child in left:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self._children.clear()

    # What can be seen of it

    def children(self) -> list[psutil.Process]:
        """All processes below the agent: its guard's shell, and ffmpeg where one runs."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def ffmpegs(self) -> list[psutil.Process]:
        """Those of its processes that are ffmpeg, by their program."""
        found = []
        for child in self.children():
            with suppress(psutil.Error):
                if "ffmpeg" in Path(child.cmdline()[0]).name if child.cmdline() else False:
                    found.append(child)
        return found

    @property
    def full_log_text(self) -> str:
        """All it has written to its console over all its starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def state_dir(self) -> Path:
        """Its state folder."""
        return Path(self.config["state_dir"])

    @property
    def intent_file(self) -> Path:
        """Where it keeps the owner's wish."""
        return self.state_dir / "intent.json"

    def intent_bytes(self) -> bytes | None:
        """The intent file's content; None where there is none."""
        with suppress(FileNotFoundError):
            return self.intent_file.read_bytes()
        return None

    def topic(self, name: str) -> str:
        """The whole topic of `state`, `stream/set` and so on."""
        return f"{self.config['mqtt'].get('prefix', 'yiagent')}/{self.config['device']['id']}/{name}"

    def wait_until_online(self, listener: Listener, timeout_s: float = WAIT_TIMEOUT_S, *, after: int = 0) -> State:
        """Return the first state that came after the agent said `online`, both heard from position `after` on."""
        topic = self.topic("availability")
        listener.wait_for(
            lambda message: message.topic == topic and message.payload == b"online", timeout_s, "online", after=after
        )
        heard = listener.messages
        online = next(n for n in range(after, len(heard)) if heard[n].topic == topic and heard[n].payload == b"online")
        return wait_for_state(listener, lambda state: True, timeout_s, after=online, topic=self.topic("state"))

    def _remember_children(self) -> None:
        if self.alive:
            self._children.update(self.children())


# What a listener hears of an agent


def wait_for_state(
    listener: Listener,
    condition: Callable[[State], bool],
    timeout_s: float = WAIT_TIMEOUT_S,
    *,
    after: int = 0,
    topic: str = "",
) -> State:
    """Return the first state that meets the condition; earlier ones count too, from position `after` on.

    `topic`: the whole topic; without it, the `state` of any device.
    """

    def fits(message: Message) -> bool:
        return _is_state(message, topic) and condition(json.loads(message.payload))

    try:
        found = listener.wait_for(fits, timeout_s, "a state that fits", after=after)
    except PeerError as error:
        raise PeerError(f"{error}\nits last state: {latest_state(listener, topic=topic)}") from None
    return dict(json.loads(found.payload))


def latest_state(listener: Listener, *, topic: str = "") -> State | None:
    """The last state heard; None before the first."""
    states = [message for message in listener.messages if _is_state(message, topic)]
    return dict(json.loads(states[-1].payload)) if states else None


def wait_for_answer(
    listener: Listener,
    topic: str,
    condition: Callable[[dict[str, Any]], bool] = lambda answer: True,
    timeout_s: float = WAIT_TIMEOUT_S,
    *,
    after: int = 0,
) -> dict[str, Any]:
    """Return the first JSON on this topic, from position `after` on, that meets the condition."""
    message = listener.wait_for(
        lambda message: message.topic == topic and condition(json.loads(message.payload)),
        timeout_s,
        f"an answer on {topic}",
        after=after,
    )
    return dict(json.loads(message.payload))


def wait_for_log_line(
    listener: Listener, text: str, timeout_s: float = WAIT_TIMEOUT_S, *, after: int = 0
) -> dict[str, Any]:
    """Return the first line on a `log` topic, from position `after` on, whose message holds the text."""
    message = listener.wait_for(
        lambda message: message.topic.endswith("/log") and text in json.loads(message.payload)["message"],
        timeout_s,
        f"{text!r} on the log topic",
        after=after,
    )
    return dict(json.loads(message.payload))


def _is_state(message: Message, topic: str) -> bool:
    matches = message.topic == topic if topic else message.topic.endswith("/state")
    return matches and bool(message.payload)


# What the agent is given


def _defaults(folder: Path, broker_port: int | None) -> dict[str, Any]:
    return {
        "device": {"id": "cam", "name": "Test camera"},
        # Nothing listens there: an agent that is OFF needs no camera, one that is ON says so.
        "source": {"sd": f"rtsp://127.0.0.1:{free_port()}/ch0_1.h264"},
        "destination": {},
        "stream": {},
        "mqtt": {"host": "127.0.0.1", "port": broker_port, "keepalive_s": 10} if broker_port is not None else {},
        "web": {"enabled": False},
        "telemetry": {"interval_s": 0.5},
        "log": {"level": "info"},
        "state_dir": f"{folder / 'state'}",
        # To try the agent with another ffmpeg than the one on the PATH, which the peers go on using.
        "ffmpeg": os.environ.get("YIAGENT_TEST_FFMPEG", "ffmpeg"),
    }


def _merged(defaults: Mapping[str, Any], wishes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(defaults)
    for key, value in wishes.items():
        under = merged.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(under, value)
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = f"{value}" if isinstance(value, Path) else value
    return merged


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
