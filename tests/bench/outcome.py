"""What became of the agent and the others in a run of `recovery`, and all runs of it as figures."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.faults import Fault
from tests.bench.figures import OURS, Figure

AGENT, PLAIN, TUNED, GO2RTC = "agent", "loop", "tuned", "go2rtc"
TITLES = {AGENT: OURS, PLAIN: "loop, defaults", TUNED: "loop, tuned", GO2RTC: "go2rtc"}
GOP_S = 1.0
# A second and a half of its own, and half a group of pictures to the next keyframe.
AIM_S = 1.5 + GOP_S / 2
GIVE_UP_S = 90.0


@dataclass(frozen=True)
class Outcome:
    """What became of one contender in one run, in seconds; None for what did not happen.

    `back_s`: from the mending to new media. `published_s`: to a new stream, still without media. `noticed_s`: from the
    fault to its first word (the agent's) or to the end of its ffmpeg (a loop's), before the mending. `stalled_s`: to
    the agent's `stalled`. `story`: the agent's states, in seconds from the mending.
    """

    back_s: float | None
    published_s: float | None
    noticed_s: float | None
    stalled_s: float | None = None
    story: str = ""


def recovery_figures(fault: Fault, outcomes: list[dict[str, Outcome]]) -> list[Figure]:
    """The figures of all runs of one fault."""
    figures = []
    contenders = list(outcomes[0])
    for who in contenders:
        back = [outcome[who].back_s for outcome in outcomes]
        aim = AIM_S if who == AGENT else None
        figures.append(Figure(f"{fault.name}: back after", "s", back, TITLES[who], aim, GIVE_UP_S))
    if fault.silent:
        # go2rtc says nothing, and has no ffmpeg whose end would.
        for who in (who for who in contenders if who != GO2RTC):
            noticed = [outcome[who].noticed_s for outcome in outcomes]
            figures.append(Figure(f"{fault.name}: noticed after", "s", noticed, TITLES[who], limit=fault.hold_s))
        stalled = [outcome[AGENT].stalled_s for outcome in outcomes]
        figures.append(Figure(f"{fault.name}: called stalled after", "s", stalled, limit=fault.hold_s))
    return figures


def in_words(fault: Fault, outcomes: dict[str, Outcome]) -> str:
    """One run, for whoever watches."""

    def seconds(value: float | None) -> str:
        return "never" if value is None else f"{value:.2f}"

    parts = []
    for who, outcome in outcomes.items():
        noticed = f", noticed {seconds(outcome.noticed_s)}" if fault.silent else ""
        parts.append(f"{who} {seconds(outcome.back_s)} (published {seconds(outcome.published_s)}{noticed})")
    return f"{', '.join(parts)}; the agent's states: {outcomes[AGENT].story}"
