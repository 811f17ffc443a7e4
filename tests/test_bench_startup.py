"""What `scripts/bench startup` makes of Python's account of its imports."""

from tests.bench.startup import ITSELF, OTHERS, OURS, by_group, import_figures, parse_imports

# As Python 3.11 writes it, with the agent's own lines in between.
ACCOUNT = """\
import time: self [us] | cumulative | imported package
import time:       123 |        123 |   _io
import time:      1200 |       1323 | zipimport
2026-11-29T14:46:59Z INFO    agent: yiagent 0.1.0 for Test camera (startup)
import time:      4000 |       9000 |     yaml.loader
import time:       500 |        500 |       _yaml
import time:      2500 |      99999 | yiagent.app
import time:      3000 |       3000 |   json.decoder
import time:       700 |        700 |   http.client
"""


def test_each_module_by_itself() -> None:
    """Its own time in ms, not with that of what it imports."""
    assert parse_imports(ACCOUNT) == [
        *(("_io", 0.123), ("zipimport", 1.2), ("yaml.loader", 4.0), ("_yaml", 0.5), ("yiagent.app", 2.5)),
        *(("json.decoder", 3.0), ("http.client", 0.7)),
    ]


def test_groups() -> None:
    """By the top-level package; what Python imports anyway is its own, and what has no group is the library's."""
    groups = by_group(parse_imports(ACCOUNT), {"_io", "zipimport"})
    assert groups == {ITSELF: 1.323, "PyYAML": 4.5, OURS: 2.5, OTHERS: 3.0, "urllib, http, email": 0.7}


def test_figures_of_imports() -> None:
    """All first, then the biggest, by the median; the small ones together."""
    runs = [{"a": 5.0, "b": 9.0, "c": 1.0}, {"a": 7.0, "b": 3.0, "c": 0.5, "d": 0.25}, {"a": 6.0, "b": 4.0}]
    figures = import_figures(runs)
    assert [(figure.what.removeprefix("imports: "), figure.values) for figure in figures] == [
        ("all, by `python -X importtime`", [15.0, 10.75, 10.0]),
        ("a", [5.0, 7.0, 6.0]),
        ("b", [9.0, 3.0, 4.0]),
        ("all others", [1.0, 0.75, 0.0]),
    ]
