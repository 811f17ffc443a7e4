"""What the machine does that the agent runs on: its disk, its clock, its memory, its limits."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tests.faults.row import row
from tests.faults.scene import NotHeld, Scene
from tests.faults.shifted_clock import CLOCK_FILE
from tests.harness import State
from tests.peers.cgroup import Cgroup, Hog, why_no_cgroup
from tests.peers.namespace import make_read_only, make_writable, small_disk
from tests.peers.process import wait_until

GROUP: Final = "machine"
SMALL_DISK_KB: Final = 64
FILLER: Final = "filler"
UNSAVED: Final = "will not survive a restart"
SAVED_AGAIN: Final = "saved again"
# How long a camera without a battery may be behind until NTP answers: its clock begins in 1980, or thereabouts.
JUMP_S: Final = 46 * 365 * 86400.0
# RFC 3339 to the second, and a message's way.
CLOCK_ERROR_S: Final = 3.0
BACKOFFS_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
JITTER: Final = 0.25
# A launch that the server refuses takes so long, at the most.
REFUSED_LAUNCH_S: Final = 3.0
# The kernel weighs a process's oom_score_adj by all the memory there is: on a smaller machine it would count for less.
CAMERA_MEMORY_BYTES: Final = 64 << 20
# The longest wait of the back-off, a launch, and a keyframe.
AFTER_BACKOFF_S: Final = 22.0


# --- the disk -------------------------------------------------------------------------------------------------------


@row(GROUP, "disk full while it streams", isolated=True)
def disk_full(scene: Scene) -> None:
    """The disk under the state folder is full: a command is obeyed all the same, and room made, the next is kept."""
    _on_a_small_disk(scene)
    scene.go_live()
    scene.strike(lambda: _fill(scene.agent.state_dir), "full")
    _obeyed_but_not_saved(scene)
    scene.mend((scene.agent.state_dir / FILLER).unlink, "room made")
    _saved_again(scene)


@row(GROUP, "disk full when it starts", isolated=True)
def disk_full_at_start(scene: Scene) -> None:
    """The disk under the state folder is full from the beginning: the camera goes live, and commands are obeyed."""
    _on_a_small_disk(scene)
    _fill(scene.agent.state_dir)
    scene.go_live()
    _obeyed_but_not_saved(scene)
    scene.mend((scene.agent.state_dir / FILLER).unlink, "room made")
    _saved_again(scene)


@row(GROUP, "disk read-only while it streams", isolated=True)
def disk_read_only(scene: Scene) -> None:
    """The kernel takes the disk for damaged and lets nobody write: a command is obeyed all the same."""
    _on_a_small_disk(scene)
    scene.go_live()
    scene.strike(lambda: make_read_only(scene.agent.state_dir), "read-only")
    _obeyed_but_not_saved(scene)
    scene.mend(lambda: make_writable(scene.agent.state_dir), "writable")
    _saved_again(scene)


@row(GROUP, "disk read-only when it starts", isolated=True)
def disk_read_only_at_start(scene: Scene) -> None:
    """Nothing can be written from the beginning: the wish that stands there is carried out, and commands are obeyed."""
    _on_a_small_disk(scene)
    scene.go_live()
    scene.publish("stream/set", "ON")
    scene.agent.wait_until(lambda: scene.agent.intent_bytes() is not None, 5, "a saved wish")
    scene.agent.end()
    make_read_only(scene.agent.state_dir)
    scene.strike(scene.start_agent, "started")
    scene.expect_on_air(within_s=6)
    scene.expect_log("what is commanded now will not survive a restart", within_s=6)
    _obeyed_but_not_saved(scene)
    scene.mend(lambda: make_writable(scene.agent.state_dir), "writable")
    _saved_again(scene)


@row(GROUP, "state folder taken away")
def state_folder_gone(scene: Scene) -> None:
    """Somebody deletes the state folder under a running agent, and makes it again."""
    scene.go_live()
    scene.strike(lambda: shutil.rmtree(scene.agent.state_dir), "deleted")
    _obeyed_but_not_saved(scene)
    scene.mend(scene.agent.state_dir.mkdir, "made again")
    _saved_again(scene)


@row(GROUP, "intent file cut short")
def intent_cut_short(scene: Scene) -> None:
    """A power cut leaves a part of the wish: nothing, a byte, half, all but the last brace; or only no line end.

    Every length is tried on the parser alone, by tests/test_resume.py; here the agent itself starts with these five.
    """
    scene.go_live()
    scene.publish("stream/set", "ON")
    scene.agent.wait_until(lambda: scene.agent.intent_bytes() is not None, 5, "a saved wish")
    whole = scene.agent.intent_bytes() or b""
    for length in (0, 1, len(whole) // 2, len(whole) - 2):
        _restart_with(scene, partial(_write, whole[:length]), f"{length} of {len(whole)} bytes")
        _idle_with_the_wish_aside(scene)
    _restart_with(scene, partial(_write, whole[:-1]), "no line end")
    scene.expect_on_air(within_s=6)


@row(GROUP, "intent file replaced by a folder")
def intent_a_folder(scene: Scene) -> None:
    """Where the wish is kept stands a folder: moved aside at a start, told of and streamed past while it runs."""
    scene.go_live()
    _restart_with(scene, Path.mkdir, "a folder at the start")
    _idle_with_the_wish_aside(scene)
    scene.strike(lambda: _replace(scene.agent.intent_file, Path.mkdir), "a folder while it runs")
    _obeyed_but_not_saved(scene)
    scene.mend(scene.agent.intent_file.rmdir, "the folder removed")
    _saved_again(scene)


@row(GROUP, "intent file unreadable")
def intent_unreadable(scene: Scene) -> None:
    """The kernel refuses to read the wish (a link to itself, since root may read anything else): idle, and told."""
    scene.go_live()
    _restart_with(scene, lambda path: path.symlink_to(path), "unreadable")
    _idle_with_the_wish_aside(scene)


def _on_a_small_disk(scene: Scene) -> None:
    folder = scene.agent.state_dir
    folder.mkdir()
    small_disk(folder, SMALL_DISK_KB)
    # What takes the read-only mount away takes this one away as well.
    scene.at_end(lambda: make_writable(folder))


def _fill(folder: Path) -> None:
    with (folder / FILLER).open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 1024)
        except OSError:
            return


def _obeyed_but_not_saved(scene: Scene) -> None:
    before = scene.agent.intent_bytes() if scene.agent.intent_file.is_file() else None
    scene.strike(lambda: scene.publish("channel/set", "sd"), "channel/set sd")
    scene.expect_state(lambda state: bool(state["channel"] == "sd"), "obeyed", within_s=1)
    scene.expect_log(UNSAVED, within_s=2)
    scene.expect_untouched(5)
    after = scene.agent.intent_bytes() if scene.agent.intent_file.is_file() else None
    if before != after:
        raise NotHeld(f"the saved wish is another: {after!r} instead of {before!r}")


def _saved_again(scene: Scene) -> None:
    scene.publish("channel/set", "auto")
    scene.expect_log(SAVED_AGAIN, within_s=2)
    saved = json.loads(scene.agent.intent_bytes() or b"{}")
    if saved.get("channel") != "auto":
        raise NotHeld(f"saved is {saved.get('channel')}")
    scene.expect_untouched(3)


def _restart_with(scene: Scene, put: Callable[[Path], object], what: str) -> None:
    """End the agent, put something where its wish was, and start it."""
    scene.agent.end()
    _replace(scene.agent.intent_file, put)
    scene.strike(scene.start_agent, what)


def _replace(path: Path, put: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    put(path)


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _idle_with_the_wish_aside(scene: Scene) -> None:
    scene.expect_state(lambda state: (state["stream"], state["phase"]) == ("OFF", "idle"), "idle", within_s=3)
    scene.expect_log("cannot be used", within_s=3)
    aside = scene.agent.intent_file.with_name("intent.json.unreadable-1")
    if not os.path.lexists(aside):
        raise NotHeld("it was not kept aside")
    # The next one finds its name free.
    if aside.is_dir():
        aside.rmdir()
    else:
        aside.unlink()
    scene.strike(lambda: scene.publish("stream/set", "ON"), "ON")
    scene.expect_on_air(within_s=4)
    scene.expect_true(
        lambda: json.loads(scene.agent.intent_bytes() or b"{}").get("stream") == "ON", "the new wish saved", within_s=4
    )


# --- the clock ------------------------------------------------------------------------------------------------------


@row(GROUP, "clock jumps by 46 years while it streams, and back")
def clock_jumps(scene: Scene) -> None:
    """NTP answers at last, and the clock goes from 1980 to now under a running stream; then it goes back again."""
    clock = _Clock(scene)
    clock.set(-JUMP_S)
    scene.go_live()
    live_at = time.monotonic()
    _jump_while_streaming(scene, clock, 0.0, "46 years forward", "sd", live_at)
    _jump_while_streaming(scene, clock, -JUMP_S, "46 years back", "auto", live_at)


def _jump_while_streaming(scene: Scene, clock: _Clock, shift_s: float, what: str, channel: str, live_at: float) -> None:
    position = scene.listener.position
    scene.strike(lambda: clock.set(shift_s), what)
    scene.expect_untouched(8)
    # Another word for the same stream: it changes nothing but the state that is said.
    scene.publish("channel/set", channel)
    state = scene.expect_state(lambda state: bool(state["channel"] == channel), "a state on the new clock", within_s=12)
    streamed_s = clock.now() - _seconds(state["since"])
    if abs(streamed_s - (time.monotonic() - live_at)) > 10:
        raise NotHeld(f"{what}: streaming since {state['since']}, which is {streamed_s:.0f} s ago by its own clock")
    _check_telemetry(scene, position, clock)
    _check_log_order(scene)


@row(GROUP, "clock jumps in the middle of a back-off")
def clock_jumps_in_a_backoff(scene: Scene) -> None:
    """The clock goes 46 years forward, and later back, while the agent waits: the wait takes its seconds all the same.

    The server refuses a key that it took before, so that launches fail although both peers answer.
    """
    scene.key = scene.server.key
    scene.config["destination"] = {"server": scene.server.url("checked"), "key": scene.key}
    clock = _Clock(scene)
    clock.set(-JUMP_S)
    scene.go_live()
    scene.server.refuse_key()
    scene.strike(lambda: scene.server.drop_publisher(scene.key, "checked"), "refused")
    _jump_while_waiting(scene, clock, 0.0, 3)
    _jump_while_waiting(scene, clock, -JUMP_S, 4)
    _check_telemetry(scene, 0, clock)
    _check_log_order(scene)
    scene.mend(scene.server.accept_key, "accepted")
    scene.publish("restart/set", "PRESS")
    scene.expect_on_air(within_s=4)


def _jump_while_waiting(scene: Scene, clock: _Clock, shift_s: float, attempt: int) -> None:
    wait_s = BACKOFFS_S[attempt - 1]
    state = scene.expect_state(
        lambda state: bool(state["phase"] == "backing_off" and state["attempt"] == attempt),
        f"waiting, attempt {attempt}",
        within_s=(1 + JITTER) * sum(BACKOFFS_S[:attempt]) + attempt * REFUSED_LAUNCH_S,
    )
    began = time.monotonic()
    left_s = _seconds(state["retry_at"]) - clock.now()
    if not -CLOCK_ERROR_S <= left_s <= wait_s * (1 + JITTER) + CLOCK_ERROR_S:
        raise NotHeld(f"attempt {attempt}: tried again at {state['retry_at']}, in {left_s:.1f} s by its own clock")
    scene.strike(lambda: clock.set(shift_s), f"jump in a wait of {wait_s:g} s")
    scene.expect_state(_is_starting, "tried again", within_s=wait_s * (1 + JITTER) + 0.5)
    # It is measured from the launch that failed.
    if time.monotonic() - began < wait_s * (1 - JITTER) - REFUSED_LAUNCH_S:
        raise NotHeld(f"a wait of {wait_s:g} s was over after {time.monotonic() - began:.1f} s")


def _is_starting(state: State) -> bool:
    return bool(state["phase"] == "starting")


class _Clock:
    """The agent's wall clock, to be set before it starts and while it runs."""

    def __init__(self, scene: Scene) -> None:
        self._file = scene.folder / "clock"
        self._shift_s = 0.0
        scene.agent.module = "tests.faults.shifted_clock"
        scene.agent.environment[CLOCK_FILE] = f"{self._file}"

    def set(self, shift_s: float) -> None:
        """Shift it by so much from the machine's."""
        self._shift_s = shift_s
        # Whole at any instant: the agent may look just now.
        new = self._file.with_suffix(".new")
        new.write_text(f"{shift_s}")
        new.replace(self._file)

    def now(self) -> float:
        """What it shows."""
        return time.time() + self._shift_s


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _check_telemetry(scene: Scene, position: int, clock: _Clock) -> None:
    """No figure since then is negative, absurd, or falls that can only grow; the time stamp is the clock's."""
    topic = scene.agent.topic("telemetry")
    samples = [json.loads(message.payload) for message in scene.listener.messages[position:] if message.topic == topic]
    if len(samples) < 10:
        raise NotHeld(f"{len(samples)} samples of telemetry")
    if abs(_seconds(samples[-1]["ts"]) - clock.now()) > CLOCK_ERROR_S:
        raise NotHeld(f"telemetry of {samples[-1]['ts']}")
    most = {
        "stream_kbps": 20_000.0,
        "streaming_s": 600.0,
        "sent_bytes": 1e9,
        "tx_kbps": 1e7,
        "rx_kbps": 1e7,
        "uptime_s": 1e9,
        "cpu_percent": 100.0 * (os.cpu_count() or 1),
    }
    for before, sample in pairwise(samples):
        for name, limit in most.items():
            if sample[name] is not None and not 0 <= sample[name] <= limit:
                raise NotHeld(f"telemetry: {name} is {sample[name]}")
        if sample["sent_bytes"] < before["sent_bytes"] or not 0 <= sample["uptime_s"] - before["uptime_s"] <= 5:
            raise NotHeld(f"telemetry: {before} and then {sample}")


def _check_log_order(scene: Scene) -> None:
    """The lines come in the order of their numbers, whatever the time in them."""
    topic = scene.agent.topic("log")
    numbers = [json.loads(message.payload)["seq"] for message in scene.listener.messages if message.topic == topic]
    if numbers != sorted(set(numbers)):
        raise NotHeld(f"the log's lines came in the order {numbers}")


# --- memory ---------------------------------------------------------------------------------------------------------


@row(GROUP, "offered to the OOM killer", quick=True)
def offered_to_the_oom_killer(scene: Scene) -> None:
    """When memory runs out, ffmpeg is to go first, then the agent, and the camera's own processes last."""
    scene.go_live()
    scene.strike(lambda: None, "live")
    scene.expect_true(lambda: _oom_score(scene.agent.pid) == 300, "the agent's oom_score_adj is 300", within_s=1)
    scene.expect_true(lambda: _oom_score(scene.remux.pid) == 600, "ffmpeg's oom_score_adj is 600", within_s=1)


@row(GROUP, "ffmpeg ended for want of memory", quick=True, hindrance=lambda: why_no_cgroup("memory"))
def out_of_memory(scene: Scene) -> None:
    """Something else takes all memory, and the kernel's OOM killer ends ffmpeg; then there is memory again."""
    with Cgroup("memory") as group:
        scene.go_live()
        kills = _oom_kills()
        scene.strike(lambda: _take_all_memory(scene, group, scene.remux.pid), "no memory")
        scene.expect_state(_has_reason("out_of_memory"), "out_of_memory", within_s=3)
        scene.mend(lambda: None, "told")
        scene.expect_on_air(within_s=4)
        scene.expect_true(lambda: _oom_kills() > kills, "counted by the kernel", within_s=6)


@row(GROUP, "ffmpeg ended for want of memory, channel auto", hindrance=lambda: why_no_cgroup("memory"))
def out_of_memory_steps_down(scene: Scene) -> None:
    """With HD and SD configured and `channel: auto`, what ended for want of memory with HD goes on with SD."""
    scene.config["source"] = {"hd": scene.camera.hd_url}
    scene.config["stream"] = {"channel": "auto"}
    with Cgroup("memory") as group:
        scene.go_live()
        if scene.state["active_channel"] != "hd":
            raise NotHeld(f"it begins with {scene.state['active_channel']}")
        scene.strike(lambda: _take_all_memory(scene, group, scene.remux.pid), "no memory")
        scene.expect_state(_has_reason("out_of_memory"), "out_of_memory", within_s=3)
        scene.mend(lambda: None, "told")
        scene.expect_media(within_s=4)
        scene.expect_state(
            lambda state: (state["phase"], state["active_channel"], state["channel"]) == ("streaming", "sd", "auto"),
            "streaming SD",
            within_s=6,
        )


@row(GROUP, "agent and ffmpeg short of memory together", hindrance=lambda: why_no_cgroup("memory"))
def short_of_memory_together(scene: Scene) -> None:
    """On a machine of 64 MB something else takes all there is: the kernel ends ffmpeg, and never the agent."""
    with Cgroup("memory") as group:
        scene.go_live()
        scene.strike(lambda: _take_all_memory(scene, group, scene.agent.pid, scene.remux.pid), "no memory")
        scene.expect_state(_has_reason("out_of_memory"), "out_of_memory", within_s=3)
        scene.mend(lambda: None, "told")
        scene.expect_on_air(within_s=4)
        if not scene.agent.alive:
            raise NotHeld("the agent was ended")


def _take_all_memory(scene: Scene, group: Cgroup, *pids: int) -> None:
    """Until the kernel ends something; the hog itself goes with the next kill, or is there until the row's end."""
    hog = scene.use(Hog(scene.folder / "hog"))
    group.limit(CAMERA_MEMORY_BYTES)
    for pid in (*pids, hog.pid):
        group.add(pid)
    hog.eat()


def _oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def _has_reason(code: str) -> Callable[[State], bool]:
    return lambda state: state["reason"] is not None and bool(state["reason"]["code"] == code)


def _oom_kills() -> int:
    lines = Path("/proc/vmstat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


# --- limits ---------------------------------------------------------------------------------------------------------


@row(GROUP, "no file descriptors left, ffmpeg killed")
def no_descriptors_ffmpeg_killed(scene: Scene) -> None:
    """The agent may open nothing more when its ffmpeg dies: it goes on, tells, and streams when it may again."""
    scene.go_live()
    agent = scene.agent.pid
    limits = resource.prlimit(agent, resource.RLIMIT_NOFILE)
    _strike_short(scene, lambda: resource.prlimit(agent, resource.RLIMIT_NOFILE, (3, limits[1])), scene.remux.kill)
    scene.mend(lambda: resource.prlimit(agent, resource.RLIMIT_NOFILE, limits), "given back")
    scene.expect_on_air(within_s=AFTER_BACKOFF_S)


@row(GROUP, "no file descriptors left, server away")
def no_descriptors_server_away(scene: Scene) -> None:
    """The agent may open nothing more when its server dies: it goes on, tells, and streams when it may again."""
    scene.go_live()
    agent = scene.agent.pid
    limits = resource.prlimit(agent, resource.RLIMIT_NOFILE)
    _strike_short(scene, lambda: resource.prlimit(agent, resource.RLIMIT_NOFILE, (3, limits[1])), scene.server.kill)
    scene.server.start()
    scene.mend(lambda: resource.prlimit(agent, resource.RLIMIT_NOFILE, limits), "given back")
    scene.expect_on_air(within_s=AFTER_BACKOFF_S)


@row(GROUP, "no processes left, ffmpeg killed", hindrance=lambda: why_no_cgroup("pids"))
def no_processes_ffmpeg_killed(scene: Scene) -> None:
    """The agent may start nothing more, neither process nor thread, when its ffmpeg dies: as with descriptors."""
    with Cgroup("pids") as group:
        scene.go_live()
        group.add(scene.agent.pid)
        _strike_short(scene, lambda: group.limit(1), scene.remux.kill)
        scene.mend(group.lift, "given back")
        scene.expect_on_air(within_s=AFTER_BACKOFF_S)


@row(GROUP, "no processes left, server away", hindrance=lambda: why_no_cgroup("pids"))
def no_processes_server_away(scene: Scene) -> None:
    """The agent may start nothing more, neither process nor thread, when its server dies: as with descriptors."""
    with Cgroup("pids") as group:
        scene.go_live()
        group.add(scene.agent.pid)
        _strike_short(scene, lambda: group.limit(1), scene.server.kill)
        scene.server.start()
        scene.mend(group.lift, "given back")
        scene.expect_on_air(within_s=AFTER_BACKOFF_S)


def _strike_short(scene: Scene, shorten: Callable[[], object], fault: Callable[[], object]) -> None:
    """Nothing more may be had, then a fault: the agent says that it does not stream, and why, and lives on."""

    def strike() -> None:
        shorten()
        fault()

    scene.strike(strike, "short, and a fault")
    scene.expect_state(_is_off_air_with_a_reason, "not streaming, with a reason", within_s=3)
    # Long enough for several tries that fail.
    ends = time.monotonic() + 8
    wait_until(lambda: time.monotonic() >= ends or not scene.agent.alive, 10, "the end of the shortage")
    if not scene.agent.alive:
        raise NotHeld(f"the agent ended\n{scene.agent.log_text[-2000:]}")


def _is_off_air_with_a_reason(state: dict[str, Any]) -> bool:
    return state["phase"] != "streaming" and state["reason"] is not None
