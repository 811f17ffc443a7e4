"""What both processes of the fleet have in common: attempts to connect, and answers to who started the process.

A line on standard input is an order; its answer is one line of JSON on standard output, after `ANSWER`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

ANSWER: Final = "answer "
ATTEMPTS: Final = "attempts"
DROP: Final = "drop"


@dataclass
class Attempts:
    """Each attempt to connect since the last `take`: when it began, and whether the broker let it in."""

    _all: list[list[float | bool]] = field(default_factory=list)

    def begin(self) -> Callable[[], None]:
        """One begins now; what is returned is to be called when the broker has accepted it."""
        attempt: list[float | bool] = [time.monotonic(), False]
        self._all.append(attempt)

        def accepted() -> None:
            attempt[1] = True

        return accepted

    def take(self) -> list[list[float | bool]]:
        """All so far, and forget them."""
        taken, self._all = self._all, []
        return taken


async def obey(orders: dict[str, Callable[[], object]]) -> None:
    """Do what is asked on standard input, until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(f"{ANSWER}null", flush=True)
    while line := (await reader.readline()).decode().strip():
        print(f"{ANSWER}{json.dumps(orders[line]())}", flush=True)
