"""What `scripts/bench` makes of its figures; what it measures is shown by running it."""

import json
from pathlib import Path

from tests.bench.figures import Figure, number
from tests.bench.report import Report

FIGURES = [
    Figure("media", "s", [1.0, 2.0, 3.0], aim=2.0),
    Figure("media", "s", [4.0, None, None], "loop", limit=90.0),
    Figure("bytes", "kB", [15.34], aim=15.0),
]


def test_a_median_of_what_did_not_happen_is_none() -> None:
    """Half of it is enough."""
    assert Figure("", "s", [1.0, None]).median is None
    assert Figure("", "s", [1.0, 2.0, None]).median == 2.0


def test_an_aim_is_kept_by_the_median() -> None:
    """What never happened misses it."""
    assert [figure.is_met for figure in FIGURES] == [True, None, False]
    assert Figure("", "s", [None], aim=9.0).is_met is False


def test_as_words() -> None:
    """The median with its range; one value without."""
    assert [f"{figure}" for figure in FIGURES] == ["2 (1–3)", "never in 90", "15.3"]
    assert f"{Figure('', 's', [1.0, 2.0, None])}" == "2 (1–never)"
    assert [number(value) for value in (0.004, 0.5, 1.25, 12.34, 1234.5, 100.0, 0.0)] == [
        *("0.004", "0.5", "1.25", "12.3", "1234", "100", "0"),
    ]


def test_those_of_one_work_stand_side_by_side() -> None:
    """In one row, whoever did it."""
    lines = Report({"date": "today"}, {"start": FIGURES}).markdown().splitlines()
    assert lines[0] == "*today*"
    assert lines[4:] == [
        "| media, s | 2 (1–3) | loop: never in 90 | 3 | ≤ 2: met |",
        "| bytes, kB | 15.3 |  | 1 | ≤ 15: MISSED |",
    ]
    text = Report({}, {"start": FIGURES, "other": FIGURES[2:]}).text(only="start")
    assert [line.split("  ")[0] for line in text.splitlines()] == ["start", "-" * 9, "media, s", "bytes, kB"]


def test_several_things_of_each_stand_in_columns() -> None:
    """In a table of their own, before the others; what stands in a cell ends no cell."""
    figures = [
        Figure("idle", "MB", [1.0], aim=2.0, column="Rss"),
        Figure("idle", "s/min", [3.0], column="processor"),
        Figure("idle", "MB", [4.0], "a | b", column="Rss"),
        FIGURES[2],
    ]
    assert Report({}, {"weight": figures}).markdown().splitlines()[2:] == [
        "| **weight, n = 1** | Rss, MB | processor, s/min |",
        "|---|---|---|",
        "| idle | 1; ≤ 2: met | 3 |",
        "| idle: a &#124; b | 4 |  |",
        "",
        "| **weight** | yiagent | beside it | n | aim |",
        "|---|---|---|---|---|",
        "| bytes, kB | 15.3 |  | 1 | ≤ 15: MISSED |",
    ]


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    """Of more than one run; the machine is the first one's."""
    for name, report in (
        ("first", Report({"date": "a"}, {"start": FIGURES, "page": FIGURES[2:]})),
        ("second", Report({"date": "b"}, {"page": FIGURES[:1]})),
    ):
        (tmp_path / name).write_text(json.dumps(report.as_json()))
    read = Report.load([tmp_path / "first", tmp_path / "second"])
    assert read == Report({"date": "a"}, {"start": FIGURES, "page": FIGURES[:1]})
