"""The list of checks, and how one says that something does not hold."""

from __future__ import annotations

from collections.abc import Callable

from tests.homeassistant.stand import Stand
from tests.peers.process import PeerError

Check = Callable[[Stand], None]
# In the order in which they are defined: each finds what the one before left.
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """One more."""
    CHECKS.append(function)
    return function


def expect(condition: object, what: str) -> None:
    """Raise `PeerError` where it does not hold."""
    if not condition:
        raise PeerError(what)
