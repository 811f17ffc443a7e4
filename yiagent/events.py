"""What can happen to a stream, and what can be done about it: what goes into the transition table and what comes out.

Pure: nouns only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from yiagent.model import Failure, Reason


class Signal(StrEnum):
    """What a child's process group is sent."""

    TERM = "TERM"
    KILL = "KILL"


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """The owner's wish as it now is.

    `job` tells one target (server, key, channel) from the next by a number; None: nothing is to run. `obstacle`: why
    nothing can be run although the owner wants it (no server is set, say); then `job` is None. `lesser`: the job to
    fall back to where uplink or memory do not carry `job`; None: there is no such choice.
    """

    job: int | None
    obstacle: Reason | None = None
    lesser: int | None = None


@dataclass(frozen=True, slots=True)
class Pressed:
    """The owner asked for a restart, now."""


@dataclass(frozen=True, slots=True)
class Flowing:
    """The child reported that media left since its last report."""


@dataclass(frozen=True, slots=True)
class Knocked:
    """Camera and server were knocked at, for this job. `failure`: who did not answer; None: both did."""

    job: int
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Uplink:
    """Whether the way to the server has begun, or ceased, to be too slow for what is sent."""

    slow: bool


@dataclass(frozen=True, slots=True)
class Unsuited:
    """The running child was launched for other codecs than the camera turns out to send."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The child is gone, or could not be started. `failure`: why it could not go on.

    `relaunch`: it has only looked what the camera sends, and the remux proper is to follow; that is no failure.
    """

    failure: Failure
    relaunch: bool = False


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The deadline has passed. `failure`: what the child was waiting for, as far as its messages tell."""

    failure: Failure | None = None


Event = Wanted | Pressed | Flowing | Knocked | Uplink | Unsuited | Exited | TimedOut

# --- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a child for this job."""

    job: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send this signal to the child's process group."""

    signal: Signal


Effect = Launch | Send
Effects = tuple[Effect, ...]
