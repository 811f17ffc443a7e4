"""All targets, by the names they are asked for with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.fuzz.target import Target
from tests.fuzz.targets_commands import Payloads, Wishes
from tests.fuzz.targets_config import Settings
from tests.fuzz.targets_ffmpeg import Launches, Reports
from tests.fuzz.targets_page import Brokers, Heads
from tests.fuzz.targets_secrets import Leaks

TARGETS: Final[Mapping[str, Callable[[], Target]]] = {
    "payloads": Payloads,
    "config": Settings,
    "intent": Wishes,
    "progress": Reports,
    "classifier": Launches,
    "journal": Leaks,
    "heads": Heads,
    "brokers": Brokers,
}
