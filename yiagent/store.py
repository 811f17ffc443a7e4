"""What the front ends read: the latest snapshot, sample and picture (`Store`), the last lines of the log (`Journal`).

Whoever connects, reconnects or reloads reads the same thing; nothing here knows who listens.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from yiagent.model import BrokerStatus, Level, LogLine, Origin, Picture, Snapshot, Telemetry
from yiagent.redact import Redactor

CAPACITY: Final = 500
LONGEST_MESSAGE: Final = 1000
# The same message again within this time is counted, not shown; the count is told when the time is over.
REPEAT_WINDOW_S: Final = 60.0
MOST_REPEATING: Final = 32
# What a mad ffmpeg may say at once and per second; the rest is counted.
FLOOD_BURST: Final = 200
FLOOD_PER_S: Final = 20.0

Listener = Callable[[], None]

# Counters, time stamps and positions differ from one repeat to the next; a status code tells two complaints apart.
_VARYING = re.compile(r"0x[0-9a-fA-F]+|(?<!failed: )(?<!returned )(?<!\d)\d+")


class _Listeners:
    """Whom to call when something is new. A listener only wakes its owner; it must not raise."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` after every change."""
        self._listeners.append(listener)

    def forget(self, listener: Listener) -> None:
        """Undo `listen`."""
        self._listeners.remove(listener)

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()


class Store(_Listeners):
    """The latest snapshot, telemetry sample and picture, and how it stands with the broker."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._snapshot = snapshot
        self._telemetry: Telemetry | None = None
        self._broker = BrokerStatus(connected=False)
        self._picture: Picture | None = None

    @property
    def snapshot(self) -> Snapshot:
        """What is so now."""
        return self._snapshot

    @property
    def telemetry(self) -> Telemetry | None:
        """The last sample; None before the first."""
        return self._telemetry

    @property
    def broker(self) -> BrokerStatus:
        """Whether the broker has this agent."""
        return self._broker

    @property
    def picture(self) -> Picture | None:
        """The last picture; None before the first, and where pictures are off."""
        return self._picture

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the snapshot; an equal one is no change."""
        if snapshot != self._snapshot:
            self._snapshot = snapshot
            self._notify()

    def put_telemetry(self, sample: Telemetry) -> None:
        """Replace the sample."""
        self._telemetry = sample
        self._notify()

    def put_broker(self, status: BrokerStatus) -> None:
        """Replace how it stands with the broker; an equal status is no change."""
        if status != self._broker:
            self._broker = status
            self._notify()

    def put_picture(self, picture: Picture) -> None:
        """Replace the picture."""
        self._picture = picture
        self._notify()


@dataclass(slots=True)
class _Repeat:
    """A line that comes again and again."""

    since: float
    level: Level
    origin: Origin
    message: str
    count: int = 0


class Journal(_Listeners):
    """The last `CAPACITY` lines, redacted before anything else is done with them, repeats collapsed.

    `clock` gives wall-clock seconds for people to read; `monotonic` measures. Milder lines than `level` are left out.
    """

    def __init__(
        self, redactor: Redactor, *, level: Level, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        super().__init__()
        self._redactor = redactor
        self._level = level
        self._clock = clock
        self._monotonic = monotonic
        self._lines: deque[LogLine] = deque(maxlen=CAPACITY)
        self._seq = 0
        self._repeats: OrderedDict[tuple[Origin, str], _Repeat] = OrderedDict()
        self._allowance = float(FLOOD_BURST)
        self._allowance_at = monotonic()
        self._flooded = 0

    @property
    def last_seq(self) -> int:
        """The `seq` of the newest line; 0 before the first."""
        return self._seq

    def since(self, seq: int) -> list[LogLine]:
        """The lines still held that came after line `seq`, oldest first."""
        # They are numbered without a gap.
        return list(islice(self._lines, max(0, len(self._lines) - max(0, self._seq - seq)), None))

    def debug(self, message: str) -> None:
        """A line of the agent's that matters only when looking for a fault."""
        self.add(Level.DEBUG, Origin.AGENT, message)

    def info(self, message: str) -> None:
        """A line of the agent's that tells what happened."""
        self.add(Level.INFO, Origin.AGENT, message)

    def warning(self, message: str) -> None:
        """A line of the agent's about something that mends itself or should be looked at."""
        self.add(Level.WARNING, Origin.AGENT, message)

    def error(self, message: str) -> None:
        """A line of the agent's about something that a person must mend."""
        self.add(Level.ERROR, Origin.AGENT, message)

    def add(self, level: Level, origin: Origin, message: str, *, cut: bool = False) -> None:
        """Take in one line. `cut`: its end was cut off before it came here, perhaps through a secret."""
        if level.rank < self._level.rank:
            return
        message = self._clean(message, cut=cut)
        now = self._monotonic()
        # ffmpeg complains of one thing in thousands of variants, several in turn; other lines each mean something.
        varies = origin is Origin.FFMPEG and level.rank >= Level.WARNING.rank
        key = (origin, _VARYING.sub("#", message) if varies else message)
        repeat = self._repeats.get(key)
        if repeat is not None and now - repeat.since < REPEAT_WINDOW_S:
            repeat.count += 1
            repeat.message = message
            return
        if repeat is not None:
            self._tell(self._repeats.pop(key))
        if origin is Origin.AGENT:
            self._close(lambda other, _: other[0] is Origin.AGENT)
        elif not self._allowed(now):
            self._flooded += 1
            return
        self._append(level, origin, message)
        self._repeats[key] = _Repeat(now, level, origin, message)
        while len(self._repeats) > MOST_REPEATING:
            _, oldest = self._repeats.popitem(last=False)
            if self._allowed(now):
                self._tell(oldest)
            else:
                self._flooded += oldest.count

    def tick(self) -> None:
        """Tell the counts that are due; called every few seconds."""
        now = self._monotonic()
        self._close(lambda _, repeat: now - repeat.since >= REPEAT_WINDOW_S)
        if self._flooded and self._allowed(now):
            self._append(Level.WARNING, Origin.FFMPEG, f"… {self._flooded} more lines came too fast and were left out")
            self._flooded = 0

    def left_out(self, count: int) -> None:
        """So many lines of ffmpeg's came too fast to be looked at."""
        self._flooded += count

    def _clean(self, message: str, *, cut: bool) -> str:
        message = self._redactor.redact(message, cut=cut)
        if not message.isprintable():
            message = "".join(character if character.isprintable() else " " for character in message)
        return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"

    def _close(self, is_due: Callable[[tuple[Origin, str], _Repeat], bool]) -> None:
        for key in [key for key, repeat in self._repeats.items() if is_due(key, repeat)]:
            self._tell(self._repeats.pop(key))

    def _tell(self, repeat: _Repeat) -> None:
        if repeat.count:
            times = "once more" if repeat.count == 1 else f"{repeat.count} times"
            self._append(repeat.level, repeat.origin, f"{repeat.message} (repeated {times})")

    def _append(self, level: Level, origin: Origin, message: str) -> None:
        self._seq += 1
        self._lines.append(LogLine(self._seq, self._clock(), level, origin, message))
        self._notify()

    def _allowed(self, now: float) -> bool:
        self._allowance = min(FLOOD_BURST, self._allowance + (now - self._allowance_at) * FLOOD_PER_S)
        self._allowance_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
