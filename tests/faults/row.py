"""The table's rows: each a fault by name, with what is done and what must follow, told to a `Scene`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.faults.scene import Scene

Act = Callable[[Scene], None]


@dataclass(frozen=True)
class Row:
    """One fault. `act` does it and states what is expected; its docstring says in a sentence what happens.

    `quick`: part of the test suite. `isolated`: runs in a network and mount namespace of its own. `hindrance`: why this
    machine cannot run it, None where it can.
    """

    group: str
    name: str
    act: Act
    quick: bool
    isolated: bool
    hindrance: Callable[[], str | None]

    @property
    def story(self) -> str:
        """What happens, in a sentence."""
        return " ".join((self.act.__doc__ or "").partition("\n\n")[0].split())


ROWS: Final[dict[str, Row]] = {}


def row(
    group: str,
    name: str,
    *,
    quick: bool = False,
    isolated: bool = False,
    hindrance: Callable[[], str | None] = lambda: None,
) -> Callable[[Act], Act]:
    """Put a function into the table."""

    def enter(act: Act) -> Act:
        full_name = f"{group}: {name}"
        assert full_name not in ROWS, full_name
        ROWS[full_name] = Row(group, name, act, quick, isolated, hindrance)
        return act

    return enter
