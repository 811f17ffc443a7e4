"""The fleet's processes, as seen from the bench; and what their attempts to connect come to."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.fleet_cameras import Part
from tests.bench.fleet_child import ANSWER, ATTEMPTS
from tests.bench.fleet_watch import PATIENCE_S
from tests.peers.camera import REPOSITORY
from tests.peers.process import Peer


class Crowd(Peer):
    """A process of cameras, `module` being what they are; a context manager."""

    def __init__(self, module: str, folder: Path, part: Part) -> None:
        super().__init__(module, folder)
        self.part = part
        self._answers = 0

    def command(self) -> list[str]:
        """Its own module, by this Python."""
        self._answers = 0
        return [sys.executable, "-m", f"tests.bench.{self.name}", *self.part.arguments()]

    def working_folder(self) -> Path:
        """The repository, so that both packages are found."""
        return REPOSITORY

    def is_ready(self) -> bool:
        """It takes orders."""
        return self._all_answers()[:1] == ["null"]

    def ask(self, order: str) -> Any:
        """Have it do something, and give its answer."""
        self._answers += 1
        self.write_line(order)
        self.wait_until(lambda: len(self._all_answers()) > self._answers, PATIENCE_S, f"an answer to {order}")
        return json.loads(self._all_answers()[self._answers])

    def attempts(self) -> list[tuple[float, bool]]:
        """When it tried to connect (monotonic seconds), and whether it was let in; since it was asked last."""
        return [(began, accepted) for began, accepted in self.ask(ATTEMPTS)]

    def _all_answers(self) -> list[str]:
        # A line that is not whole yet is none.
        lines = self.log_text.split("\n")[:-1]
        return [line.removeprefix(ANSWER) for line in lines if line.startswith(ANSWER)]


@dataclass(frozen=True)
class Return:
    """How a fleet came back: all attempts, those in vain after the broker listened again, most in any one second."""

    per_camera: float
    in_vain: int
    most_per_s: int

    @classmethod
    def of(cls, attempts: list[tuple[float, bool]], cameras: int, listens_at: float) -> Return:
        """From all attempts since the broker went away."""
        after = [began for began, _ in attempts if began >= listens_at]
        vain = sum(not accepted for began, accepted in attempts if began >= listens_at)
        return cls(len(attempts) / cameras, vain, most_within(after, 1.0))


def most_within(moments: Iterable[float], seconds: float) -> int:
    """The most of them in any stretch so long, its end excluded."""
    ordered = sorted(moments)
    most = first = 0
    for count, moment in enumerate(ordered, start=1):
        while moment - ordered[first] >= seconds:
            first += 1
        most = max(most, count - first)
    return most
