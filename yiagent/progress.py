"""What a running ffmpeg writes, taken apart: `-progress` reports on its standard output, lines on its standard error.

Pure and bounded: whatever bytes come in, nothing is kept beyond the limits below and nothing raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from yiagent.model import Level, Progress

LONGEST_LINE: Final = 8192
# What ffmpeg may say at once, and per second: more than any sane one has to say. On a camera a line takes milliseconds.
LINE_BURST: Final = 200
LINES_PER_S: Final = 40.0
# A longer line counts as so many as it holds of these.
LINE_LENGTH: Final = 256
# Who has said more is heard again when so many lines may be, and of what was left out until then, these last ones are.
LINES_TO_RESUME: Final = 40
MOST_HELD_LINES: Final = 20
MOST_HELD_BYTES: Final = 4096
# Of each child so many lines of this kind are heard whenever they come: they tell which of its ends are open.
MOST_LANDMARKS: Final = 50
_LANDMARK: Final = b"\n[info] "
_TAGS = re.compile(r"^((?:\[[^\]]*\] )*)\[(quiet|panic|fatal|error|warning|info|verbose|debug|trace)\] ?")
_ADDRESS = re.compile(r" @ 0x[0-9a-fA-F]+")
_LEVELS: Final = {
    "quiet": Level.ERROR,
    "panic": Level.ERROR,
    "fatal": Level.ERROR,
    "error": Level.ERROR,
    "warning": Level.WARNING,
}


class LineSplitter:
    """Bytes in any pieces to lines of text. A line ends at LF, CR or both; a longer one than `LONGEST_LINE` is cut.

    `cut` of the result tells of a cut: what stands at its end may be the first half of a secret.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[tuple[str, bool]]:
        """The complete lines, without their ends; undecodable bytes become U+FFFD."""
        pieces = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = pieces.pop()
        lines: list[tuple[str, bool]] = []
        for piece in pieces:
            if self._skipping:
                self._skipping = False
            elif piece:
                lines.append((_decode(piece[:LONGEST_LINE]), len(piece) > LONGEST_LINE))
        if len(self._rest) > LONGEST_LINE:
            if not self._skipping:
                lines.append((_decode(self._rest[:LONGEST_LINE]), True))
            self._skipping = True
            self._rest = b""
        return lines

    def take_rest(self) -> bytes:
        """The beginning of the line that is under way; whoever takes it brings it back in front of what follows."""
        rest, self._rest = self._rest, b""
        return rest

    def skip(self) -> None:
        """Leave out the line that is under way, up to its end: its beginning is not known."""
        self._skipping = True


class LineSieve:
    """Lines of standard error, no more of them than can be taken in: beyond, they are counted and not looked at.

    Their last words are kept, and heard when there is time, or at the end: they tell why a child ended. `now`:
    monotonic seconds.
    """

    def __init__(self, now: float) -> None:
        self._splitter = LineSplitter()
        self._allowance = float(LINE_BURST)
        self._at = now
        self._leaves_out = False
        self._left_out = 0
        self._held = b""
        self._landmarks = MOST_LANDMARKS

    @property
    def leaves_out(self) -> bool:
        """Whether more has come than can be taken in just now."""
        return self._leaves_out

    def feed(self, data: bytes, now: float) -> list[tuple[str, bool]]:
        """The complete lines that are to be heard, as `LineSplitter.feed` gives them."""
        self._allowance = min(LINE_BURST, self._allowance + (now - self._at) * LINES_PER_S)
        self._at = now
        # One kind of line end, so that they can be counted.
        data = data.replace(b"\r", b"\n")
        if self._leaves_out and self._allowance < LINES_TO_RESUME:
            return self._leave_out(data)
        lines = self.release()
        pieces = data.split(b"\n", max(0, int(self._allowance) - len(lines)))
        beyond = pieces.pop()
        lines += self._splitter.feed(b"".join(piece + b"\n" for piece in pieces))
        if b"\n" in beyond:
            self._leaves_out = True
            lines += self._leave_out(self._splitter.take_rest() + beyond)
        else:
            lines += self._splitter.feed(beyond)
        self._allowance -= sum(1 + len(line) // LINE_LENGTH for line, _ in lines)
        return lines

    def release(self) -> list[tuple[str, bool]]:
        """The last lines of those that were left out, whether or not there is time for them."""
        held, self._held, self._leaves_out = self._held, b"", False
        if not held:
            return []
        if len(held) == MOST_HELD_BYTES:
            # The beginning of the first one is gone, perhaps within a secret that nobody would know by its end.
            _, end, held = held.partition(b"\n")
            if not end:
                self._splitter.skip()
        lines = self._splitter.feed(b"\n".join(held.split(b"\n")[-MOST_HELD_LINES - 1 :]))
        self._left_out = max(0, self._left_out - len(lines))
        return lines

    def count_left_out(self) -> int:
        """How many lines were left out since this was last asked."""
        count, self._left_out = self._left_out, 0
        return count

    def _leave_out(self, data: bytes) -> list[tuple[str, bool]]:
        self._left_out += data.count(b"\n")
        self._held = (self._held + data)[-MOST_HELD_BYTES:]
        landmarks = []
        at = data.find(_LANDMARK) if self._landmarks else -1
        while at >= 0 and self._landmarks:
            end = data.find(b"\n", at + 1)
            if 0 <= end <= at + LONGEST_LINE:
                landmarks.append((_decode(data[at + 1 : end]), False))
                self._landmarks -= 1
            at = data.find(_LANDMARK, end) if end >= 0 else -1
        return landmarks


@dataclass(frozen=True, slots=True)
class Message:
    """One line of ffmpeg's standard error: its severity, who said it (`rtsp`, `in#0`, or empty), and the text."""

    level: Level
    component: str
    text: str

    @property
    def line(self) -> str:
        """As a person reads it: without memory addresses and severity tags."""
        return f"{self.component}: {self.text}" if self.component else self.text


def parse_message(line: str) -> Message:
    """A line written under `-loglevel level`; one without a tag (a loader's message, say) counts as a warning."""
    match = _TAGS.match(line)
    if match is None:
        return Message(Level.WARNING, "", line)
    component = _ADDRESS.sub("", match.group(1)).replace("] [", " ").strip("[] ")
    return Message(_LEVELS.get(match.group(2), Level.DEBUG), component, line[match.end() :])


class ProgressParser:
    """`key=value` lines of `-progress` to `Progress`: one at each `progress=continue` that ends a report."""

    def __init__(self) -> None:
        self._splitter = LineSplitter()
        self._values: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Progress]:
        """The reports that `data` completes. A report without a usable frame count or size is left out."""
        reports: list[Progress] = []
        for line, _ in self._splitter.feed(data):
            key, equals, value = line.partition("=")
            key = key.strip()
            if not equals:
                continue
            if key == "progress":
                report = _report(self._values)
                self._values = {}
                # The report that says `end` counts what ffmpeg tried to send, also where the last write failed.
                if report is not None and value.strip() == "continue":
                    reports.append(report)
            elif key in _KEYS:
                self._values[key] = value.strip()
        return reports


_KEYS: Final = frozenset({"frame", "fps", "total_size", "drop_frames", "speed", "out_time_us"})


def _report(values: dict[str, str]) -> Progress | None:
    frames, size = _count(values.get("frame")), _count(values.get("total_size"))
    if frames is None or size is None:
        return None
    media_us = _count(values.get("out_time_us"))
    return Progress(
        frames=frames,
        total_bytes=size,
        fps=_number(values.get("fps")),
        speed=_number(values.get("speed", "").removesuffix("x")),
        dropped_frames=_count(values.get("drop_frames")) or 0,
        media_s=media_us / 1e6 if media_us is not None else None,
    )


def _count(text: str | None) -> int | None:
    # Bounded before int(): ten thousand digits are no count, and converting them takes its time.
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 18 else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None and len(text) <= 32 else None
    except ValueError:
        return None
    # ffmpeg says "2.3e+04x" in its first moments; beyond any real figure there is nothing to tell.
    return number if number is not None and 0 <= number < 1000 else None


def _decode(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")
