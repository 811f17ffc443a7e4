"""The demo, a Home Assistant beside it, and what the checks ask of both."""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.demo import DEVICE, Demo
from tests.homeassistant.hass import HomeAssistant, Json
from tests.homeassistant.root import Root
from tests.peers.broker import Listener
from tests.peers.process import PeerError

PATIENCE_S = 30.0
# What the requirements give it to come back after a restart of its own, or of the broker.
BACK_S = 15.0
# Two lines that it says of itself at every start here: nothing is installed on the way, and one library is slower.
OF_ITSELF = ("Skipping pip installation", "zlib_ng and isal are not available")


@dataclass
class Stand:
    """Everything that runs. `measured` gathers what the checks saw, for the table at the end."""

    demo: Demo
    hass: HomeAssistant
    listener: Listener
    measured: dict[str, str] = field(default_factory=dict)
    _heard_log: int = 0

    # --- the agent ---

    def command(self, name: str, payload: str) -> None:
        """Publish one of the agent's commands, past Home Assistant."""
        self.listener.publish(f"yiagent/{DEVICE}/{name}", payload)

    def state_of_agent(self, device: str = DEVICE) -> Json:
        """What it said last."""
        said = self.listener.on(f"yiagent/{device}/state")
        return dict(json.loads(said[-1].payload)) if said and said[-1].payload else {}

    def wait_for_agent(self, condition: Callable[[Json], object], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Return when the agent's own state meets the condition."""
        try:
            self.demo.agent.wait_until(lambda: bool(condition(self.state_of_agent())), timeout_s, what)
        except PeerError as error:
            raise PeerError(f"{error}\nits last state: {self.state_of_agent()}") from None

    def restart_agent(self, changes: Mapping[str, Mapping[str, object]] | None = None) -> None:
        """End it cleanly and start it with a changed configuration."""
        self.demo.agent.stop()
        self.demo.configure(changes)
        self.demo.agent.start()

    def kill_agent(self) -> None:
        """As the kernel does when memory is out; its ffmpeg goes with it."""
        os.kill(self.demo.agent.pid, signal.SIGKILL)
        self.demo.agent.kill()

    # --- Home Assistant ---

    def entity(self, name: str, device: str = DEVICE) -> str:
        """`switch.stream` to the whole entity id."""
        domain, _, key = name.partition(".")
        return f"{domain}.{device}_{key}"

    def see(self, name: str, expected: str | Callable[[str], object], timeout_s: float = PATIENCE_S) -> float:
        """Wait until an entity's state is as expected; after how many seconds it was."""
        entity = self.entity(name)
        met = (lambda state: state == expected) if isinstance(expected, str) else expected
        what = f"{entity} to be {expected if isinstance(expected, str) else 'as expected'}"
        return self.hass.wait_for(lambda states: entity in states and met(states[entity]["state"]), timeout_s, what)

    def act(self, service: str, name: str, **data: Any) -> None:
        """Call a service for one of the camera's entities, as a click in Home Assistant does."""
        self.hass.act(service, self.entity(name), **data)

    def complaints(self) -> list[str]:
        """What Home Assistant has warned of, or worse, since it was last asked, but for what it says of itself."""
        lines = self.hass.log_file.read_text(errors="replace").splitlines()
        new, self._heard_log = lines[self._heard_log :], len(lines)
        return [line for line in new if line.strip() and not any(word in line for word in OF_ITSELF)]

    def forget_complaints(self) -> None:
        """What was complained of until now has been told already."""
        self.complaints()

    def expect_silence(self) -> None:
        """Raise `PeerError` with what it complained of."""
        if complaints := self.complaints():
            raise PeerError("Home Assistant complains:\n" + "\n".join(complaints[:20]))


@contextmanager
def standing(root: Root, folder: Path, say: Callable[[str], None]) -> Iterator[Stand]:
    """The demo live, and Home Assistant up, onboarded and on its broker."""
    with ExitStack() as stack:
        demo = Demo(argparse.Namespace(login="", audio="aac"), folder)
        demo.go_live(stack)
        hass = HomeAssistant(root, folder / "homeassistant")
        stack.callback(hass.forget)
        began = time.monotonic()
        stack.enter_context(hass)
        hass.onboard()
        hass.wait_until_up()
        say(f"Home Assistant {root.version} is up after {time.monotonic() - began:.1f} s, at {hass.url}")
        listener = stack.enter_context(Listener(demo.broker.port))
        yield Stand(demo, hass, listener)
