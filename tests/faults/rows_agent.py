"""What is done to the agent itself: ended, stopped and doubled at the worst moments."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.faults.row import row
from tests.faults.scene import END_WITHIN_S, NotHeld, Scene
from tests.harness import wait_for_state
from tests.peers.process import PeerError, wait_until

GROUP: Final = "agent"
STEP_TIMEOUT_S: Final = 20.0
# The steps of a start are short: looked for so often, none is missed.
STEP_POLL_S: Final = 0.002
# Python, ffmpeg's capabilities, a look at the camera, the connections, and a keyframe.
ON_AIR_AFTER_START_S: Final = 5.0
# The same, and before it the end of an old ffmpeg that obeys only force.
ON_AIR_AFTER_KILL_S: Final = 12.0
# The lock is waited for so long: an agent before this one may be on its way out.
LOCK_WAIT_S: Final = 12.0
STOPPED_S: Final = 20.0


# --- ended at every step of a start ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A moment of the agent's life. `reach` starts it and returns at that moment; `undo` mends what that took."""

    name: str
    reach: Callable[[Scene], object]
    undo: Callable[[Scene], object] = lambda scene: None
    quick: bool = False


def _before_the_lock(scene: Scene) -> None:
    scene.agent.begin()
    program = Path(f"/proc/{scene.agent.pid}/comm")
    _until(lambda: program.read_text().startswith("python"), "Python to start")


def _asking_ffmpeg(scene: Scene) -> None:
    scene.agent.begin()
    _until(lambda: any("-h" in arguments for arguments in _ffmpegs(scene)), "the question for its capabilities")


def _looking(scene: Scene) -> None:
    scene.camera.freeze()
    scene.agent.begin()
    _until(
        lambda: any("-h" not in arguments and "-progress" not in arguments for arguments in _ffmpegs(scene)),
        "the look at the camera",
    )


def _connecting(scene: Scene) -> None:
    scene.server.freeze()
    scene.agent.begin()
    _until(lambda: any("-progress" in arguments for arguments in _ffmpegs(scene)), "the remux")


def _just_live(scene: Scene) -> None:
    after = scene.listener.position
    scene.agent.begin()
    _wait_for_phase(scene, "streaming", after)


def _stopping(scene: Scene) -> None:
    scene.go_live()
    after = scene.listener.position
    # It obeys nothing but KILL, so that the step lasts.
    scene.remux.suspend()
    scene.publish("restart/set", "PRESS")
    _wait_for_phase(scene, "stopping", after)


STEPS: Final = (
    Step("before the lock", _before_the_lock),
    Step("while it asks ffmpeg", _asking_ffmpeg),
    Step("while it looks at the camera", _looking, lambda scene: scene.camera.thaw(), quick=True),
    Step("while the remux connects", _connecting, lambda scene: scene.server.thaw()),
    Step("just live", _just_live),
    Step("while stopping", _stopping),
)


def _enter_ends(step: Step) -> None:
    """Put both ends at one step into the table."""

    def killed(scene: Scene) -> None:
        _prepare(scene)
        step.reach(scene)
        old = scene.processes()
        scene.strike(scene.agent.kill9, f"killed {step.name}")
        step.undo(scene)
        # At once, as a service manager does, while its ffmpeg may still be there.
        scene.strike(scene.agent.begin, "started at once")
        scene.expect_true(lambda: not _alive(scene, old), "the old one's processes gone", within_s=END_WITHIN_S)
        # By its own word first: the last of the old one's media may still be on its way.
        scene.expect("streaming", within_s=ON_AIR_AFTER_KILL_S)
        scene.mend(lambda: None, "said so")
        scene.expect_media(within_s=2)

    def terminated(scene: Scene) -> None:
        _prepare(scene)
        step.reach(scene)
        was_online = _availability(scene) == b"online"
        scene.strike(lambda: _terminate(scene, step), f"SIGTERM {step.name}")
        scene.expect_true(lambda: not scene.processes(), "ended, and nothing left", within_s=END_WITHIN_S)
        if was_online:
            scene.expect_true(lambda: _availability(scene) == b"offline", "offline said", within_s=END_WITHIN_S)
        step.undo(scene)
        scene.strike(scene.agent.begin, "started again")
        scene.expect_on_air(within_s=ON_AIR_AFTER_START_S)

    killed.__doc__ = f"The agent is killed {step.name} and started at once: it streams again with no command."
    terminated.__doc__ = f"The agent gets SIGTERM {step.name}: it ends in time and cleanly, and streams when started."
    row(GROUP, f"killed {step.name}", quick=step.quick)(killed)
    row(GROUP, f"SIGTERM {step.name}", quick=step.quick)(terminated)


for _step in STEPS:
    _enter_ends(_step)


@row(GROUP, "killed five times in quick succession")
def killed_five_times(scene: Scene) -> None:
    """Killed again and again before it has come far: the wish is kept, nothing is left, and the sixth start streams."""
    scene.go_live()
    scene.publish("channel/set", "sd")
    scene.agent.wait_until(lambda: scene.agent.intent_bytes() is not None, 5, "a saved wish")
    wish = scene.agent.intent_bytes()
    scene.agent.kill9()
    # No condition: each is another moment of a start.
    for moment_s in (0.1, 0.35, 0.6, 0.9):
        scene.agent.begin()
        time.sleep(moment_s)
        scene.agent.kill9()
    if scene.agent.intent_bytes() != wish:
        raise NotHeld(f"the wish became {scene.agent.intent_bytes()!r}")
    scene.strike(scene.agent.begin, "started")
    scene.expect_on_air(within_s=ON_AIR_AFTER_KILL_S)
    if scene.state["channel"] != "sd":
        raise NotHeld(f"the channel is {scene.state['channel']}")
    scene.expect_true(lambda: len(scene.agent.ffmpegs()) == 1, "one ffmpeg", within_s=ON_AIR_AFTER_KILL_S)
    # The agent, its guard, and the remux.
    scene.expect_true(lambda: len(scene.processes()) == 3, "nothing else of the agent's", within_s=ON_AIR_AFTER_KILL_S)


@row(GROUP, "stopped for 20 s and continued")
def stopped_and_continued(scene: Scene) -> None:
    """The agent is not let run for 20 s (SIGSTOP): ffmpeg streams on, and afterwards the agent says what is so."""
    scene.go_live()
    scene.strike(scene.agent.freeze, "stopped")
    scene.expect_untouched(STOPPED_S)
    scene.mend(scene.agent.thaw, "continued")
    scene.expect_state(lambda state: bool(state["phase"] == "streaming"), "streaming", within_s=8)
    scene.expect_true(lambda: _availability(scene) == b"online", "online", within_s=8)
    scene.expect_untouched(5)
    if (scene.state["phase"], scene.state["reason"]) != ("streaming", None):
        raise NotHeld(f"the state is {scene.state}")


# --- its guard ------------------------------------------------------------------------------------------------------


@row(GROUP, "guard killed, then ffmpeg, then the agent")
def guard_killed(scene: Scene) -> None:
    """The guard's shell is killed: the next launch has a new one, which ends ffmpeg when the agent is killed."""
    scene.go_live()
    old = _guards(scene)
    scene.strike(lambda: _kill(old), "guard killed")
    scene.expect_untouched(3)
    scene.strike(scene.remux.kill, "ffmpeg killed")
    scene.expect_on_air(within_s=4)
    scene.expect_true(lambda: _has_a_new_guard(scene, old), "a new guard", within_s=4)
    _killed_and_gone(scene)


@row(GROUP, "guard killed, then the agent")
def guard_then_agent_killed(scene: Scene) -> None:
    """The guard's shell is killed, and 10 s later the agent: no ffmpeg is left, so it had a new guard by then."""
    scene.go_live()
    old = _guards(scene)
    scene.strike(lambda: _kill(old), "guard killed")
    scene.expect_true(lambda: _has_a_new_guard(scene, old), "a new guard", within_s=10)
    scene.expect_untouched(3)
    _killed_and_gone(scene)


def _guards(scene: Scene) -> list[psutil.Process]:
    """The shell that ends ffmpeg when the agent is gone."""
    found = []
    for child in scene.agent.children():
        with suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE and child.cmdline()[:1] == ["/bin/sh"]:
                found.append(child)
    return found


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()


def _has_a_new_guard(scene: Scene, old: list[psutil.Process]) -> bool:
    return len(_guards(scene)) == 1 and not set(_guards(scene)) & set(old)


def _killed_and_gone(scene: Scene) -> None:
    scene.strike(scene.agent.kill9, "agent killed")
    scene.expect_true(lambda: not scene.processes(), "nothing left", within_s=END_WITHIN_S)


# --- another one ----------------------------------------------------------------------------------------------------


@row(GROUP, "two with one state_dir")
def two_with_one_state_dir(scene: Scene) -> None:
    """A second agent with the same state_dir ends with status 1 and says why; the first one is not touched."""
    scene.go_live()
    second = scene.another_agent({"state_dir": f"{scene.agent.state_dir}"})
    scene.strike(second.begin, "second started")
    scene.expect_untouched(LOCK_WAIT_S)
    status = second.wait_for_end(LOCK_WAIT_S)
    scene.expect_true(lambda: not second.alive, "the second one's end", within_s=LOCK_WAIT_S + 2)
    if status != 1:
        raise NotHeld(f"the second one ended with {status}")
    if "Another yiagent runs with" not in second.log_text:
        raise NotHeld(f"the second one said\n{second.log_text}")
    scene.expect_untouched(3)


# --- under the hood -------------------------------------------------------------------------------------------------


def _prepare(scene: Scene) -> None:
    """All peers, and no agent yet."""
    _ = scene.camera, scene.witness, scene.broker, scene.listener, scene.agent


def _terminate(scene: Scene, step: Step) -> None:
    status = scene.agent.end(signal.SIGTERM)
    # Before it has begun anything there is nothing to end cleanly: the signal ends it, which systemd calls clean too.
    allowed = (0, -signal.SIGTERM) if step.reach is _before_the_lock else (0,)
    if status not in allowed:
        raise NotHeld(f"it ended with {status}\n{scene.agent.log_text[-2000:]}")


def _until(condition: Callable[[], bool], what: str) -> None:
    def holds() -> bool:
        with suppress(OSError, psutil.Error):
            return condition()
        return False

    wait_until(holds, STEP_TIMEOUT_S, what, poll_s=STEP_POLL_S)


def _ffmpegs(scene: Scene) -> list[list[str]]:
    """The arguments of each ffmpeg that runs."""
    if not scene.agent.alive:
        raise PeerError(f"the agent ended\n{scene.agent.log_text}")
    return [ffmpeg.cmdline() for ffmpeg in scene.agent.ffmpegs()]


def _wait_for_phase(scene: Scene, phase: str, after: int) -> None:
    topic = scene.agent.topic("state")
    wait_for_state(scene.listener, lambda state: bool(state["phase"] == phase), after=after, topic=topic)


def _availability(scene: Scene) -> bytes:
    """The last word on it; empty before the first."""
    said = scene.listener.on(scene.agent.topic("availability"))
    return said[-1].payload if said else b""


def _alive(scene: Scene, pids: list[int]) -> set[int]:
    return set(pids) & set(scene.processes())
