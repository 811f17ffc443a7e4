"""What was weighed, and the figures that come of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tests.bench.figures import OURS, Figure
from tests.bench.process import Memory

PAGES = 5
AGENT, FFMPEG, TUNED, BARE, GUARD = "agent", "ffmpeg", "tuned loop", "bare client", "guard"
TITLES: Final = {TUNED: "the tuned loop's ffmpeg", BARE: "a bare paho client with asyncio and psutil"}
RSS_AIM_MB = 28.0
PRIVATE_DIRTY_AIM_MB = 16.0
IDLE_AIM_S_MIN = 0.1
STREAMING_AIM_S_MIN = 0.4
# Nothing, as near as it can be told: what its memory and its processor time differ from one window to the next. The
# first round is not held to it: Python keeps what the pages took, for the next ones.
NOTHING_MB = 0.1
NOTHING_S_MIN = 0.02


class State(StrEnum):
    """What the agent is at, in the words of the figures. On unless said: MQTT with discovery, page, telemetry."""

    NO_PAGE = "idle, web.enabled: false"
    IDLE = "idle"
    ENCRYPTED = "idle, TLS to the broker"
    STREAMING = "streaming HD"
    ONE_PAGE = "streaming HD, one page open"
    FIVE_PAGES = "streaming HD, five pages open"
    CLOSED = "streaming HD, all pages closed again"
    AWAY = "streaming HD, broker away, first minute"
    PICTURES = "streaming HD, snapshot.enabled: true, one taken"


@dataclass(frozen=True)
class Weight:
    """A process at the end of a window: its memory, and its processor time as seconds a minute of that window."""

    memory: Memory
    processor_s_min: float


MEASURES: Final[Mapping[str, tuple[str, Callable[[Weight], float]]]] = {
    "Rss": ("MB", lambda weight: weight.memory.rss_mb),
    "Pss": ("MB", lambda weight: weight.memory.pss_mb),
    "private dirty": ("MB", lambda weight: weight.memory.private_dirty_mb),
    "processor": ("s/min", lambda weight: weight.processor_s_min),
}
AIMS: Final = {
    (State.IDLE, "processor"): IDLE_AIM_S_MIN,
    (State.STREAMING, "processor"): STREAMING_AIM_S_MIN,
    (State.FIVE_PAGES, "Rss"): RSS_AIM_MB,
    (State.FIVE_PAGES, "private dirty"): PRIVATE_DIRTY_AIM_MB,
    (State.PICTURES, "Rss"): RSS_AIM_MB,
    (State.PICTURES, "private dirty"): PRIVATE_DIRTY_AIM_MB,
}


def over_a_minute(during: Weight, without: Weight, window_s: float) -> Weight:
    """A minute with one window in which something was done, and for the rest such in which it was not."""
    share = window_s / 60
    rate = share * during.processor_s_min + (1 - share) * without.processor_s_min
    return Weight(during.memory, rate)


@dataclass
class Weights:
    """All that was weighed: for each state and process one weight a run, in the order of the runs."""

    by_state: dict[tuple[State, str], list[Weight]] = field(default_factory=lambda: defaultdict(list))
    guards: list[Memory] = field(default_factory=list)
    """Of the shell that ends ffmpeg should the agent be killed."""
    second_round: list[tuple[Memory, Memory]] = field(default_factory=list)
    """The agent before and after the pages were opened and closed once more."""
    picture_s: list[float] = field(default_factory=list)
    """Processor of the ffmpeg that makes one picture, and of whatever else the agent started for it, in seconds."""

    def add(self, state: State, weights: Mapping[str, Weight]) -> None:
        """Of one window, by process."""
        for who, weight in weights.items():
            self.by_state[state, who].append(weight)

    def figures(self) -> list[Figure]:
        """In the order of the states; what was not weighed is left out."""
        figures: list[Figure] = []
        for state in State:
            figures += self._of_agent(state)
        figures += self._of_ffmpeg(State.STREAMING) + self._of_ffmpeg(State.PICTURES)
        figures += [
            self._more("the page, never opened, adds", "private dirty", State.IDLE, State.NO_PAGE),
            self._more("each of five open pages adds", "private dirty", State.FIVE_PAGES, State.STREAMING, PAGES),
            self._more("each of five open pages adds", "processor", State.FIVE_PAGES, State.STREAMING, PAGES),
            self._more(
                "five pages opened and closed leave, for the next ones", "private dirty", State.CLOSED, State.STREAMING
            ),
            Figure(
                *("five pages opened and closed once more leave: private dirty", "MB"),
                [after.private_dirty_mb - before.private_dirty_mb for before, after in self.second_round],
                aim=NOTHING_MB,
            ),
            self._more("five pages opened and closed leave", "processor", State.CLOSED, State.STREAMING),
            Figure("the guard's shell, beside the agent: Rss", "MB", [guard.rss_mb for guard in self.guards]),
            Figure(
                *("the guard's shell, beside the agent: private dirty", "MB"),
                [guard.private_dirty_mb for guard in self.guards],
            ),
            Figure("one picture: processor of its ffmpeg", "s", [*self.picture_s]),
        ]
        return [figure for figure in figures if figure.values]

    def _of_agent(self, state: State) -> list[Figure]:
        return [
            self._figure(state, measure, state, who, AIMS.get((state, measure)))
            for measure in MEASURES
            for who in (AGENT, BARE)
        ]

    def _of_ffmpeg(self, state: State) -> list[Figure]:
        return [
            self._figure(f"{state}: its ffmpeg" if who == FFMPEG else state, measure, state, who)
            for measure in MEASURES
            for who in (FFMPEG, TUNED)
        ]

    def _figure(self, what: str, measure: str, state: State, who: str, aim: float | None = None) -> Figure:
        unit, read = MEASURES[measure]
        values: list[float | None] = [read(weight) for weight in self.by_state[state, who]]
        return Figure(what, unit, values, TITLES.get(who, OURS), aim if who == AGENT else None, column=measure)

    def _more(self, what: str, measure: str, state: State, than: State, parts: int = 1) -> Figure:
        """How much more of it the agent had than in another state of the same run."""
        unit, read = MEASURES[measure]
        more, less = self.by_state[state, AGENT], self.by_state[than, AGENT]
        # Of one that was not weighed at all there is no figure; one run of it missing would pair the wrong ones.
        pairs = list(zip(more, less, strict=True)) if more and less else []
        aim = NOTHING_S_MIN if (state, measure) == (State.CLOSED, "processor") else None
        return Figure(f"{what}: {measure}", unit, [(read(a) - read(b)) / parts for a, b in pairs], aim=aim)
