"""One short command with input and output: bounded in time and size, and gone whatever happens."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import psutil
import pytest

from yiagent.child import Child, TooMuchOutput, run_through
from yiagent.progress import LINE_BURST, MOST_HELD_LINES

MOST_BYTES = 1 << 20
PATIENCE_S = 30.0


class Run:
    """What was told of a run, and what it came to."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.lines: list[str] = []
        self.started = asyncio.Event()

    def begun(self, pid: int) -> None:
        self.pids.append(pid)
        self.started.set()

    async def of(self, *command: str, data: bytes | None = None, timeout_s: float = 60) -> tuple[int | None, bytes]:
        return await run_through(
            command,
            data,
            timeout_s=timeout_s,
            most_bytes=MOST_BYTES,
            on_start=self.begun,
            on_line=lambda line, cut: self.lines.append(line),
        )


def play(act: Callable[[Run], Awaitable[None]]) -> Run:
    """Run `act`; whatever it started is gone at its end."""

    async def whole() -> Run:
        run = Run()
        await act(run)
        assert run.pids
        assert not [pid for pid in run.pids if psutil.pid_exists(pid)]
        return run

    return asyncio.run(whole())


def test_what_goes_in_and_comes_out() -> None:
    """More than any pipe holds goes through; the last line of standard error is heard without a line end."""
    data = bytes(range(256)) * (MOST_BYTES // 256)

    async def act(run: Run) -> None:
        assert await run.of("sh", "-c", "cat; printf 'the last word' >&2; exit 3", data=data) == (3, data)

    assert play(act).lines == ["the last word"]


def test_input_that_is_not_read_is_no_error() -> None:
    """A program may know before the end that it cannot use what it gets."""

    async def act(run: Run) -> None:
        assert await run.of("sh", "-c", "exec <&-; echo enough", data=bytes(MOST_BYTES)) == (0, b"enough\n")

    play(act)


def test_output_without_end() -> None:
    """It is ended, and nothing of it is kept."""

    async def act(run: Run) -> None:
        with pytest.raises(TooMuchOutput):
            await run.of("cat", "/dev/zero")

    play(act)


def test_one_that_takes_too_long() -> None:
    """It is ended by force, with what it started."""

    async def act(run: Run) -> None:
        assert await run.of("sh", "-c", "trap '' TERM; sleep 600 & wait", timeout_s=0.2) == (None, b"")

    play(act)


def test_one_that_nobody_waits_for_any_more() -> None:
    """It ends with who started it."""

    async def act(run: Run) -> None:
        running = asyncio.create_task(run.of("sleep", "600"))
        await run.started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    play(act)


def test_one_that_cannot_be_started() -> None:
    """The system's own words come through."""

    async def act() -> None:
        with pytest.raises(FileNotFoundError):
            await Run().of("/no/such/program")

    asyncio.run(act())


def test_one_that_talks_without_end_is_not_held_up() -> None:
    """It gets rid of all it has to say; its first and last words are heard, and how many were not."""
    count = 50_000
    script = f'i=0; while [ $i -lt {count} ]; do echo "[warning] $i" >&2; i=$((i+1)); done; printf "the last word" >&2'
    lines: list[str] = []
    left_out: list[int] = []

    async def act() -> None:
        child = await Child.start(
            ["sh", "-c", script], lambda line, _: lines.append(line), lambda _: None, on_left_out=left_out.append
        )
        assert await child.wait() == 0

    asyncio.run(act())
    assert lines[:LINE_BURST] == [f"[warning] {number}" for number in range(LINE_BURST)]
    assert lines[-2:] == [f"[warning] {count - 1}", "the last word"]
    assert len(lines) + sum(left_out) == count + 1
    assert len(lines) < count / 2


def test_the_last_words_of_a_flood_are_told_though_it_goes_on_in_silence() -> None:
    """They may say what it waits for."""
    script = f"i=0; while [ $i -lt {LINE_BURST * 3} ]; do echo $i >&2; i=$((i+1)); done; exec sleep 600"
    lines: list[str] = []

    async def act() -> None:
        done = asyncio.Event()

        def hear(line: str, cut: bool) -> None:
            lines.append(line)
            if line == f"{LINE_BURST * 3 - 1}":
                done.set()

        child = await Child.start(["sh", "-c", script], hear, lambda _: None)
        try:
            await asyncio.wait_for(done.wait(), PATIENCE_S)
        finally:
            child.send(signal.SIGKILL)
            await child.wait()

    asyncio.run(act())
    assert lines[LINE_BURST:] == [str(number) for number in range(LINE_BURST * 3)][-MOST_HELD_LINES:]
