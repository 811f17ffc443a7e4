"""The quick rows of the table; `scripts/faults` runs them all."""

from __future__ import annotations

import pytest

from tests.faults import table
from tests.faults.runner import run_row

# Other tests run at the same time; the times that rows state are measured by scripts/faults, alone on the machine.
SLACK = 3.0


@pytest.mark.parametrize("name", [name for name, row in table.ROWS.items() if row.quick])
def test_a_quick_row_holds(name: str) -> None:
    """What the row states, and nothing left behind, and no secret said."""
    outcome = run_row(table.ROWS[name], slack=SLACK)
    if outcome.skipped is not None:
        pytest.skip(outcome.skipped)
    assert outcome.broken is None, outcome.broken
    assert outcome.held


def test_the_table_is_long_enough_and_each_row_tells_its_story() -> None:
    """At least 35 rows, each with a sentence."""
    assert len(table.ROWS) >= 35
    assert [name for name, row in table.ROWS.items() if not row.story.endswith(".")] == []
