"""Checks of something that is too heavy for the test suite: named, run in their order, told with what they measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from tests.peers.process import PeerError


class Measures(Protocol):
    """What a check is given: at least a place for the figures that it saw."""

    measured: dict[str, str]


StandT = TypeVar("StandT", bound=Measures)


class Checks(Generic[StandT]):
    """A list of checks, in the order in which they are defined; `after` each, what else must hold."""

    def __init__(self) -> None:
        self._checks: list[Callable[[StandT], None]] = []

    def __len__(self) -> int:
        return len(self._checks)

    def __call__(self, function: Callable[[StandT], None]) -> Callable[[StandT], None]:
        """One more: `@check`."""
        self._checks.append(function)
        return function

    def run(
        self,
        stand: StandT,
        words: Sequence[str],
        *,
        begins: int = 0,
        after: Callable[[bool], None] = lambda held: None,
    ) -> int:
        """Run all, or those whose names hold one of the words, and the first `begins`; how many did not hold."""
        failed = 0
        for number, function in enumerate(self._checks):
            name = function.__name__.replace("_", " ")
            if number >= begins and words and not any(word in name for word in words):
                continue
            began = time.monotonic()
            stand.measured.clear()
            held = False
            try:
                function(stand)
                held = True
                after(held)
            except (PeerError, AssertionError, OSError, LookupError, ValueError) as error:
                failed += 1
                say(f"✗ {name}\n  {type(error).__name__}: {error}")
                if not held:
                    after(held)
            else:
                say(f"✓ {name} ({time.monotonic() - began:.1f} s)")
            for what, figure in stand.measured.items():
                say(f"    {what}: {figure}")
        return failed


def expect(condition: object, what: str) -> None:
    """Raise `PeerError` where it does not hold."""
    if not condition:
        raise PeerError(what)


def say(text: str) -> None:
    """At once, also where it goes into a file."""
    print(text, flush=True)
