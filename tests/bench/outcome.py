"""What became of the agent and the loops in a run of `recovery`, and all runs of it as figures and tables."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.faults import Fault
from tests.bench.figures import Figure, table

AGENT, PLAIN, TUNED = "agent", "loop", "tuned"
CONTENDERS = (AGENT, PLAIN, TUNED)
TITLES = {AGENT: "agent", PLAIN: "loop, default flags", TUNED: "loop, tuned flags"}
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
    for who in CONTENDERS:
        back = [outcome[who].back_s for outcome in outcomes]
        aim = AIM_S if who == AGENT else None
        figures.append(Figure(f"recovery: {fault.name}: {TITLES[who]}", "s", back, aim, GIVE_UP_S))
    for who in CONTENDERS:
        published = [outcome[who].published_s for outcome in outcomes]
        figures.append(Figure(f"published: {fault.name}: {TITLES[who]}", "s", published, limit=GIVE_UP_S))
    if fault.silent:
        for who in CONTENDERS:
            noticed = [outcome[who].noticed_s for outcome in outcomes]
            figures.append(Figure(f"noticed: {fault.name}: {TITLES[who]}", "s", noticed, limit=fault.hold_s))
        stalled = [outcome[AGENT].stalled_s for outcome in outcomes]
        figures.append(Figure(f"stalled: {fault.name}: {TITLES[AGENT]}", "s", stalled, limit=fault.hold_s))
    return figures


def recovery_tables(figures: list[Figure], faults: list[Fault]) -> str:
    """What `measure_recovery` gave, a fault a line."""
    by_name = {figure.name: figure for figure in figures}

    def of(kind: str, fault: Fault, who: str) -> Figure:
        return by_name[f"{kind}: {fault.name}: {TITLES[who]}"]

    loops = [TITLES[who] for who in (PLAIN, TUNED)]
    back = [["back after (s, median)", "agent", "from to", *loops, "n", "the agent's aim"]]
    noticed = [["noticed after (s, median)", "agent", "called stalled", *loops, "n"]]
    for fault in faults:
        agent, plain, tuned = (of("recovery", fault, who) for who in CONTENDERS)
        back.append(
            [fault.name, agent.short, agent.spread, plain.short, tuned.short, f"{len(agent.values)}", agent.verdict]
        )
        if fault.silent:
            agent, plain, tuned = (of("noticed", fault, who) for who in CONTENDERS)
            stalled = of("stalled", fault, AGENT)
            noticed.append([fault.name, agent.short, stalled.short, plain.short, tuned.short, f"{len(agent.values)}"])
    note = (
        f"From the moment both peers answer again to new media at the server; each includes up to {GOP_S:g} s for the"
        f" next keyframe.\nA camera that starts sends them at whole seconds from there, so that its rows come in steps."
        f" The aim is 1.5 s\nand half a group of pictures. One that stood still goes on where a loop never noticed."
    )
    parts = [note, table(back)]
    if len(noticed) > 1:
        parts += ["The agent notices by a state on MQTT, a loop by its ffmpeg's end.", table(noticed)]
    return "\n\n".join(parts)


def in_words(fault: Fault, outcomes: dict[str, Outcome]) -> str:
    """One run, for whoever watches."""

    def seconds(value: float | None) -> str:
        return "never" if value is None else f"{value:.2f}"

    parts = []
    for who, outcome in outcomes.items():
        noticed = f", noticed {seconds(outcome.noticed_s)}" if fault.silent else ""
        parts.append(f"{who} {seconds(outcome.back_s)} (published {seconds(outcome.published_s)}{noticed})")
    return f"{', '.join(parts)}; the agent's states: {outcomes[AGENT].story}"
