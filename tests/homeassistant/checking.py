"""The list of checks: each finds what the one before left."""

from __future__ import annotations

from tests.checking import Checks, expect
from tests.homeassistant.stand import Stand

__all__ = ["check", "expect"]

check: Checks[Stand] = Checks()
