"""What ffmpeg does: ended from outside, frozen, mad, missing, replaced. Where media flows, it is the real one."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import psutil

from tests.faults.row import row
from tests.faults.scene import Held, NotHeld, Scene
from tests.harness import State
from tests.peers.camera import REPOSITORY

GROUP = "ffmpeg"

REAL: Final = os.environ.get("YIAGENT_TEST_FFMPEG", "ffmpeg")
CHILDREN: Final = REPOSITORY / "tests" / "children"
# 1, 2, 4, 8, 15 s, and a quarter more or less.
LONGEST_BACKOFF_S: Final = 15.0
JITTER: Final = 0.25
# From a launch with both peers there: 2 s, and 1 s for the keyframe.
START_S: Final = 3.0
# The camera is looked at before the first launch, and ffmpeg asked what it can do.
FIRST_START_S: Final = 5.0
# A process that is gone is noticed at once; one whose pipes stay open, a second later.
NOTICED_S: Final = 2.0
STALL_S: Final = 10.0
ESCALATION_S: Final = 6.0
OBEYED_WITHIN_S: Final = 2.0
STOPPED_WITHIN_S: Final = 10.0
RSS_ROOM_KB: Final = 8_192


def backoff_s(failures: int) -> float:
    """The wait after so many failed launches in a row, before jitter."""
    return min(2.0 ** (failures - 1), LONGEST_BACKOFF_S)


def expect_crash(scene: Scene, word: str, *, within_s: float = NOTICED_S, attempt: int | None = None) -> None:
    """`ffmpeg_crashed` with this word, and another try: on the back-off, or under way already where that is over."""

    def fits(state: State) -> bool:
        reason = state["reason"]
        return (
            state["phase"] in ("backing_off", "starting")
            and reason is not None
            and reason["code"] == "ffmpeg_crashed"
            and attempt in (None, state["attempt"])
        )

    state = scene.expect_state(fits, "backing_off or starting anew, ffmpeg_crashed", within_s=within_s)
    if word not in state["reason"]["message"]:
        raise NotHeld(f"“{word}” is not in “{state['reason']['message']}”")


def expect_again(scene: Scene, *, failures: int = 1, start_s: float = START_S) -> None:
    """On air by itself: a back-off and a start after it was told."""
    scene.mend(lambda: None, "it was told")
    # What the old one had sent may still be arriving when it is gone.
    scene.expect_on_air(within_s=backoff_s(failures) * (1 + JITTER) + start_s, anew=True)


def program(scene: Scene, *lines: str) -> Path:
    """A shell script in ffmpeg's place, from now on; it notes when it is started, and with what."""
    path = scene.folder / "bin" / "ffmpeg"
    path.parent.mkdir(exist_ok=True)
    new = path.with_name("new")
    note = f'echo "$(date +%s.%N) $*" >> {scene.folder}/launches'
    new.write_text("\n".join(["#!/bin/sh", note, *lines, ""]))
    new.chmod(0o755)
    # As package managers do it: the name always leads to a whole program.
    new.rename(path)
    scene.config["ffmpeg"] = f"{path}"
    return path


# Asked what it can do, it answers as it should.
ANSWERS: Final = f'case " $* " in *" -h "*) exec {REAL} "$@" ;; esac'
RUNS: Final = f'exec {REAL} "$@"'


def launches(scene: Scene) -> list[tuple[float, str]]:
    """When the script was started, in wall-clock seconds, and with what; without the questions what it can do."""
    path = scene.folder / "launches"
    lines = path.read_text().splitlines() if path.exists() else []
    split = [line.partition(" ") for line in lines]
    return [(float(at), arguments) for at, _, arguments in split if not f" {arguments} ".count(" -h ")]


def expect_growing_waits(starts: list[float]) -> None:
    """From launch to launch 1, 2, 4, 8, 15 s, a quarter less at the least."""
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    for number, gap in enumerate(gaps, 1):
        # What ffmpeg takes to start differs by some tenths from one launch to another.
        if gap < backoff_s(number) * (1 - JITTER) - 0.3:
            raise NotHeld(f"launch {number + 1} came {gap:.1f} s after the one before: {gaps}")


@contextmanager
def small_effort(scene: Scene, most_percent: float) -> Iterator[None]:
    """Agent and children take no more than this of one processor."""
    before, began = effort_s(scene), time.monotonic()
    yield
    percent = 100 * (effort_s(scene) - before) / (time.monotonic() - began)
    if percent > most_percent:
        raise NotHeld(f"{percent:.0f} % of a processor")
    scene.held.append(Held(f"{percent:.1f} % of a processor (at most {most_percent:g} %)", "fault", 0.0, 0.0))


def effort_s(scene: Scene) -> float:
    """Seconds of processor that the agent and its ended children have had."""
    times = psutil.Process(scene.agent.pid).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def expect_one_warning(scene: Scene, words: str) -> None:
    """What fails again and again is told once."""
    lines = [line for line in scene.agent.log_text.splitlines() if words in line and "(repeated " not in line]
    told = [line for line in lines if " WARNING " in line or " ERROR " in line]
    if len(told) != 1:
        raise NotHeld(f"told {len(told)} times:\n" + "\n".join(told))


# --- ended from outside ---


def ended_by(scene: Scene, number: signal.Signals, word: str) -> None:
    """The real ffmpeg, on air, gets a signal that the agent did not send."""
    scene.go_live()
    old = scene.remux
    scene.strike(lambda: old.send_signal(number), number.name)
    expect_crash(scene, word)
    expect_again(scene)
    if scene.remux == old:
        raise NotHeld("it is still the same")


@row(GROUP, "ended by SIGTERM", quick=True)
def ended_by_term(scene: Scene) -> None:
    """Somebody ends ffmpeg, and it goes in good order."""
    ended_by(scene, signal.SIGTERM, "something other than the agent")


@row(GROUP, "ended by SIGKILL", quick=True)
def ended_by_kill(scene: Scene) -> None:
    """Somebody kills ffmpeg, and it was not for want of memory."""
    ended_by(scene, signal.SIGKILL, "something other than the agent (SIGKILL)")


@row(GROUP, "crashes: SIGSEGV")
def ended_by_segv(scene: Scene) -> None:
    """ffmpeg crashes in the middle of the stream."""
    ended_by(scene, signal.SIGSEGV, "itself crashed (SIGSEGV)")


@row(GROUP, "frozen: SIGSTOP")
def stopped(scene: Scene) -> None:
    """ffmpeg stands still, deaf to SIGTERM: stalled, then killed and replaced."""
    scene.go_live()
    old = scene.remux
    scene.strike(old.suspend, "SIGSTOP")
    scene.expect("stalled", "stalled", within_s=STALL_S, word="stopped")
    scene.expect_true(lambda: not old.is_running(), "the frozen one gone", within_s=STALL_S + ESCALATION_S)
    scene.expect_on_air(within_s=STALL_S + ESCALATION_S + START_S, anew=True)


@row(GROUP, "frozen for 3 s")
def stopped_for_a_moment(scene: Scene) -> None:
    """ffmpeg stands still for a moment, as on a machine that swaps, and goes on: so does the stream."""
    scene.go_live()
    old = scene.remux
    scene.strike(old.suspend, "SIGSTOP")
    time.sleep(3)
    scene.mend(old.resume, "SIGCONT")
    scene.expect_media(within_s=START_S)
    scene.expect_untouched(5)
    if scene.remux != old or scene.state["phase"] != "streaming":
        raise NotHeld(f"it was not let go on: {scene.state}")


@row(GROUP, "killed again and again")
def killed_again_and_again(scene: Scene) -> None:
    """ffmpeg is killed whenever it is on air: the waits grow to 15 s and no further, and it is never given up."""
    scene.go_live()
    for number in range(1, 7):
        old = scene.remux
        scene.strike(old.kill, f"kill {number}")
        expect_crash(scene, "SIGKILL", attempt=number)
        expect_again(scene, failures=number)
        gap_s = scene.remux.create_time() - old.create_time()
        if gap_s < backoff_s(number) * (1 - JITTER):
            raise NotHeld(f"launched {gap_s:.1f} s after the launch before, at failure {number}")
    scene.expect_untouched(3)


# --- mad ---


@row(GROUP, "ignores SIGTERM")
def ignores_term(scene: Scene) -> None:
    """An ffmpeg that ignores every signal it can: OFF ends it all the same."""
    pretended(scene, "ignores_term.py")
    scene.strike(lambda: scene.publish("stream/set", "OFF"), "OFF")
    scene.expect("stopping", within_s=1)
    scene.expect("idle", within_s=STOPPED_WITHIN_S)


@row(GROUP, "ignores SIGTERM when the agent ends")
def ignores_term_at_the_end(scene: Scene) -> None:
    """The agent is told to end while its ffmpeg ignores every signal it can: nothing is left of either."""
    pretended(scene, "ignores_term.py")
    statuses: list[int] = []
    scene.mend(lambda: None, "SIGTERM to the agent")
    statuses.append(scene.agent.end())
    scene.expect_true(lambda: statuses == [0], "status 0", within_s=STOPPED_WITHIN_S)


@row(GROUP, "writes 10,000 lines a second")
def talks_without_end(scene: Scene) -> None:
    """ffmpeg writes without end: commands are obeyed at once, and neither memory nor log fill up."""
    pretended(scene, "talks_without_end.py")
    time.sleep(5)
    before_kb, written = scene.memory_kb(), len(scene.agent.log_text)
    for number in range(10):
        expect_obeyed(scene, "sd" if number % 2 == 0 else "auto")
        time.sleep(1)
    scene.expect_memory(before_kb, RSS_ROOM_KB)
    # 20 lines a second of 60 characters or so.
    grown = len(scene.agent.log_text) - written
    if grown > 10 * 20 * 150:
        raise NotHeld(f"{grown / 1024:.0f} kB of log in 10 s")
    scene.strike(lambda: scene.publish("stream/set", "OFF"), "OFF")
    scene.expect("idle", within_s=2)


def expect_obeyed(scene: Scene, channel: str) -> None:
    """Of a camera with one channel the other name of the same is wanted: told at once."""
    scene.strike(lambda: scene.publish("channel/set", channel), "a command")
    scene.expect_state(lambda state: bool(state["channel"] == channel), "obeyed", within_s=OBEYED_WITHIN_S)


@row(GROUP, "ends with status 0 while on air")
def ends_content(scene: Scene) -> None:
    """ffmpeg ends after five seconds of media as if all were well: it is started again, for ever."""
    scene.config["ffmpeg"] = f"{CHILDREN / 'ends_after_five_seconds.py'}"
    scene.go_live()
    for number in (1, 2):
        scene.strike(lambda: None, f"on air, {number}")
        # What ends a stream in good order is the camera; nothing says otherwise.
        scene.expect("backing_off", "source_unreachable", within_s=5 + NOTICED_S, word="camera")
        expect_again(scene, failures=number)


@row(GROUP, "ends with status 0 at once, for ever")
def ends_at_once(scene: Scene) -> None:
    """ffmpeg ends at once without a word: the waits grow, it costs next to nothing, and is told once."""
    program(scene, ANSWERS, "exit 0")
    fails_from_the_start(scene, "status 0")
    with small_effort(scene, 3.0):
        time.sleep(35)
    expect_growing_waits([at for at, _ in launches(scene)])
    if scene.state["phase"] != "backing_off" or scene.state["attempt"] != len(launches(scene)):
        raise NotHeld(f"{len(launches(scene))} launches, but {scene.state}")
    expect_one_warning(scene, "ffmpeg_crashed")


@row(GROUP, "crashes at every start, then is mended")
def crashes_at_every_start(scene: Scene) -> None:
    """ffmpeg crashes at every start: the waits grow and it is told once; a whole one is tried by itself."""
    program(scene, ANSWERS, "kill -SEGV $$")
    fails_from_the_start(scene, "itself crashed (SIGSEGV)")
    time.sleep(10)
    expect_growing_waits([at for at, _ in launches(scene)])
    expect_one_warning(scene, "ffmpeg_crashed")
    scene.mend(lambda: program(scene, RUNS), "a whole one installed")
    scene.expect_on_air(within_s=LONGEST_BACKOFF_S * (1 + JITTER) + FIRST_START_S)


@row(GROUP, "leaves a grandchild that holds its pipes")
def leaves_a_grandchild(scene: Scene) -> None:
    """Whatever ffmpeg starts holds its pipes open: its end is noticed all the same, and nothing is left."""
    program(scene, "sleep 600 &", RUNS)
    scene.go_live()
    scene.strike(scene.remux.kill, "killed")
    expect_crash(scene, "SIGKILL")
    # Each question asked of it takes the second in which its pipes are given up.
    expect_again(scene, start_s=START_S + 1)


def fails_from_the_start(scene: Scene, word: str) -> None:
    """The first launch already fails, and is told with this word."""
    _ = scene.camera, scene.witness, scene.listener
    # Python's start, ffmpeg's answer what it can do, and the connection to the broker.
    scene.start_in_vain("backing_off", "ffmpeg_crashed", within_s=NOTICED_S + 2, word=word)


def pretended(scene: Scene, child: str) -> None:
    """On air, as far as the agent can see, with a pretended ffmpeg: no real one does this on demand."""
    scene.config["ffmpeg"] = f"{CHILDREN / child}"
    scene.config["stream"] = {"audio": "copy"}
    _ = scene.camera, scene.listener
    scene.strike(scene.agent.start, "the agent's start")
    scene.expect("streaming", within_s=FIRST_START_S)


# --- missing, broken, replaced ---


@row(GROUP, "missing, installed later", quick=True)
def missing(scene: Scene) -> None:
    """There is no ffmpeg, which is told; once it is there, a press is enough."""
    never_there(scene, scene.folder / "bin" / "ffmpeg", "no program")


@row(GROUP, "a file that may not be executed")
def not_executable(scene: Scene) -> None:
    """ffmpeg's file lacks the right to be executed, which is told; once it has it, a press is enough."""
    path = scene.folder / "bin" / "ffmpeg"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o644)
    never_there(scene, path, f"{path}")


@row(GROUP, "a folder")
def a_folder(scene: Scene) -> None:
    """A folder has ffmpeg's name, which is told; once a program has it, a press is enough."""
    path = scene.folder / "bin" / "ffmpeg"
    path.mkdir(parents=True)
    never_there(scene, path, f"{path}", clear=path.rmdir)


@row(GROUP, "no program at all, though executable")
def not_a_program(scene: Scene) -> None:
    """ffmpeg's file is one for another machine, which is told; once it is right, a press is enough."""
    path = scene.folder / "bin" / "ffmpeg"
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF" + bytes(60))
    path.chmod(0o755)
    never_there(scene, path, "cannot be started")


def never_there(scene: Scene, path: Path, word: str, *, clear: Callable[[], object] = lambda: None) -> None:
    """`failed` at once, and one start of the real one after it was put in place."""
    scene.config["ffmpeg"] = f"{path}"
    _ = scene.camera, scene.witness, scene.listener
    scene.start_in_vain("failed", "ffmpeg_missing", within_s=3, word=word)
    clear()
    program(scene, RUNS)
    scene.mend(lambda: scene.publish("restart/set", "PRESS"), "installed, PRESS")
    scene.expect_on_air(within_s=FIRST_START_S)


@row(GROUP, "removed while on air, put back")
def removed(scene: Scene) -> None:
    """ffmpeg's file goes while it runs, harmlessly; when that one ends it is missing; put back, a press is enough."""
    path = program(scene, RUNS)
    scene.go_live()
    scene.strike(path.unlink, "removed")
    scene.expect_untouched(3)
    scene.strike(scene.remux.kill, "killed")
    scene.expect("failed", "ffmpeg_missing", within_s=NOTICED_S + 1 + JITTER)
    program(scene, RUNS)
    scene.mend(lambda: scene.publish("restart/set", "PRESS"), "put back, PRESS")
    scene.expect_on_air(within_s=START_S + 1)


@row(GROUP, "may not be executed any more, then may")
def execution_denied(scene: Scene) -> None:
    """The right to execute ffmpeg goes while it runs; the next launch says so; given back, a press is enough."""
    path = program(scene, RUNS)
    scene.go_live()
    scene.strike(lambda: path.chmod(0o644), "denied")
    scene.expect_untouched(3)
    scene.strike(lambda: scene.publish("restart/set", "PRESS"), "PRESS")
    scene.expect("failed", "ffmpeg_missing", within_s=3, word=f"{path}")
    path.chmod(0o755)
    scene.mend(lambda: scene.publish("restart/set", "PRESS"), "given back, PRESS")
    scene.expect_on_air(within_s=START_S + 1)


@row(GROUP, "replaced by another build while on air", quick=True)
def replaced(scene: Scene) -> None:
    """Another build takes ffmpeg's place: the running one goes on, and the next launch asks the new one what it can."""
    program(scene, RUNS)
    scene.go_live()
    another = "99.9-another-build"
    says = f'{REAL} "$@" 2>&1 | sed "s/^ffmpeg version [^ ]*/ffmpeg version {another}/"; exit'
    scene.strike(lambda: program(scene, f'case " $* " in *" -h "*) {says} ;; esac', RUNS), "replaced")
    scene.expect_untouched(3)
    position = scene.listener.position
    scene.mend(lambda: scene.publish("restart/set", "PRESS"), "PRESS")
    scene.expect_on_air(within_s=START_S + 1)
    infos = [m for m in scene.listener.messages[position:] if m.topic == scene.agent.topic("info")]
    if not infos or json.loads(infos[-1].payload)["ffmpeg"] != another:
        raise NotHeld(f"info does not know the new one: {infos}")


@row(GROUP, "answers the question what it can with nonsense")
def answers_nonsense(scene: Scene) -> None:
    """ffmpeg answers with noise where it is asked what it can do: told, and it is used as a current one."""
    noise = scene.folder / "noise"
    noise.write_bytes(random.Random(1).randbytes(100_000))
    program(scene, f'case " $* " in *" -h "*) exec cat {noise} ;; esac', RUNS)
    live_though_it_does_not_tell(scene, FIRST_START_S)


@row(GROUP, "does not answer the question what it can")
def answers_never(scene: Scene) -> None:
    """ffmpeg hangs where it is asked what it can do: it is asked for 5 s, and used all the same."""
    program(scene, 'case " $* " in *" -h "*) exec sleep 600 ;; esac', RUNS)
    live_though_it_does_not_tell(scene, FIRST_START_S + 5)


@row(GROUP, "answers the question what it can without end")
def answers_without_end(scene: Scene) -> None:
    """ffmpeg writes for ever where it is asked what it can do: it is asked for 5 s, and memory does not fill up."""
    program(scene, 'case " $* " in *" -h "*) exec yes nonsense ;; esac', RUNS)
    live_though_it_does_not_tell(scene, FIRST_START_S + 5)
    if scene.memory_kb() > 60 * 1024:
        raise NotHeld(f"the agent takes {scene.memory_kb() / 1024:.0f} MB")


def live_though_it_does_not_tell(scene: Scene, within_s: float) -> None:
    """On air within this, and the log says that nothing is known of this ffmpeg."""
    _ = scene.camera, scene.witness, scene.listener
    scene.strike(scene.agent.start, "the agent's start")
    scene.expect_on_air(within_s=within_s)
    if "did not say which version it is" not in scene.agent.log_text:
        raise NotHeld("it is not told that nothing is known of it")
