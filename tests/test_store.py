"""The journal keeps what matters, once, without a secret; the store keeps the latest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yiagent.agent import empty_snapshot
from yiagent.model import Channel, Level, Origin, Phase
from yiagent.redact import Redactor
from yiagent.store import CAPACITY, FLOOD_BURST, LONGEST_MESSAGE, REPEAT_WINDOW_S, Journal, Store

KEY = "made-up-key-0123456789"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Book:
    """A journal with its clock."""

    def __init__(self, level: Level = Level.DEBUG) -> None:
        self.clock = Clock()
        self.redactor = Redactor()
        self.redactor.learn(KEY)
        self.journal = Journal(self.redactor, level=level, clock=lambda: 1_800_000_000.0, monotonic=self.clock)

    def ffmpeg(self, message: str, level: Level = Level.WARNING, *, cut: bool = False) -> None:
        self.journal.add(level, Origin.FFMPEG, message, cut=cut)

    @property
    def messages(self) -> list[str]:
        return [line.message for line in self.journal.since(0)]


def test_a_ring_of_the_last_lines() -> None:
    """500 lines, numbered without a gap; `since` gives what came after a number and is still there."""
    book = Book()
    for number in range(CAPACITY + 20):
        book.journal.info(f"line {number}")
    lines = book.journal.since(0)
    assert len(lines) == CAPACITY
    assert [line.seq for line in lines] == list(range(21, CAPACITY + 21))
    assert book.journal.since(CAPACITY + 19)[0].message == f"line {CAPACITY + 19}"
    assert book.journal.since(book.journal.last_seq) == []


def test_milder_lines_than_the_level_are_left_out() -> None:
    """`log.level: warning` keeps warnings and errors."""
    book = Book(Level.WARNING)
    for say in (book.journal.debug, book.journal.info, book.journal.warning, book.journal.error):
        say(f"by {say.__name__}")
    assert book.messages == ["by warning", "by error"]


def test_the_same_complaint_a_thousand_times_is_two_lines() -> None:
    """ffmpeg's repeats are counted, whatever numbers they hold, also where two of them alternate."""
    book = Book()
    for number in range(1000):
        book.ffmpeg(f"flv: Non-monotonic DTS; previous: {number * 40}, current: {number}")
        book.ffmpeg("rtsp: max delay reached")
    assert len(book.messages) == 2
    book.clock.now += REPEAT_WINDOW_S
    book.journal.tick()
    assert [message.partition(" (")[2] for message in book.messages[2:]] == ["repeated 999 times)"] * 2


def test_different_status_codes_are_different_complaints() -> None:
    """401 is not 404: three digits tell two faults apart."""
    book = Book()
    book.ffmpeg("method DESCRIBE failed: 401 Unauthorized")
    book.ffmpeg("method DESCRIBE failed: 404 Unauthorized")
    assert len(book.messages) == 2


def test_the_agents_own_lines_are_counted_only_in_a_row() -> None:
    """Each of its lines means something: off, on, off again are three events."""
    book = Book()
    for message in ("On air", "Stopped", "On air", "On air", "Stopped"):
        book.journal.info(message)
    assert book.messages == ["On air", "Stopped", "On air", "On air (repeated once more)", "Stopped"]


def test_a_flood_of_different_lines_is_bounded_and_counted() -> None:
    """A mad ffmpeg fills neither the ring nor the broker, and what was left out is told."""
    book = Book()
    for number in range(10_000):
        book.ffmpeg("odd: " + "".join(chr(97 + (number >> shift) % 26) for shift in (0, 5, 10)))
    assert book.journal.last_seq <= FLOOD_BURST + 1
    book.clock.now += 1
    book.journal.tick()
    assert "more lines came too fast" in book.messages[-1]
    book.journal.info("still heard")
    assert "still heard" in book.messages


@given(before=st.integers(0, 2 * LONGEST_MESSAGE), cut_at=st.integers(1, len(KEY) - 1))
def test_no_part_of_a_secret_survives_a_cut(before: int, cut_at: int) -> None:
    """Wherever a line is cut, before it came or by the journal itself, no half of a key is left at its end."""
    book = Book()
    book.ffmpeg("x" * before + KEY + "y" * 50)
    book.ffmpeg("z" * before + KEY[:cut_at], cut=True)
    for message in book.messages:
        assert len(message) <= LONGEST_MESSAGE
        assert KEY not in message
    assert not book.messages[-1].rstrip("…").endswith(KEY[:cut_at])


def test_a_line_break_or_control_character_cannot_forge_a_line() -> None:
    """What a server or a camera makes ffmpeg say stays one line."""
    book = Book()
    book.ffmpeg("harmless\n2026-11-22T00:00:00Z ERROR agent: forged\x1b[31m")
    assert "\n" not in book.messages[0]
    assert "\x1b" not in book.messages[0]


def test_listeners_hear_of_every_line_until_they_are_forgotten() -> None:
    """A front end is woken for what is new, and not after it went away."""
    book = Book()
    heard: list[int] = []
    listener = lambda: heard.append(book.journal.last_seq)  # noqa: E731 - the same object is needed twice
    book.journal.listen(listener)
    book.journal.info("one")
    book.journal.forget(listener)
    book.journal.info("two")
    assert heard == [1]


def test_the_store_keeps_the_latest_and_wakes_only_for_a_change() -> None:
    """An equal snapshot is no news."""
    first = empty_snapshot(Channel.AUTO)
    store = Store(first)
    woken: list[Phase] = []
    store.listen(lambda: woken.append(store.snapshot.phase))
    store.put_snapshot(replace(first))
    store.put_snapshot(replace(first, phase=Phase.STARTING))
    assert woken == [Phase.STARTING]
    assert store.telemetry is None


@pytest.mark.parametrize("level", list(Level))
def test_levels_are_ordered(level: Level) -> None:
    """debug < info < warning < error."""
    assert [other.rank <= level.rank for other in Level].count(True) == level.rank + 1
