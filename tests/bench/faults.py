"""What is done to the peers, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.rtmp import RtmpServer

USUAL_RUNS = 5
LONG_RUNS = 3


@dataclass(frozen=True)
class Peers:
    """The two ends that a stream needs, and where the agent is heard."""

    camera: LiveCamera
    server: RtmpServer
    broker: Broker
    listener: Listener


@dataclass(frozen=True)
class Fault:
    """One fault: `apply` begins it, `mend` ends it `hold_s` later and returns when both peers answer again.

    `sway_s`: it is held that much shorter or longer from run to run, so that its end meets each program at any point of
    its waits. `at_start`: it is there before any program is. `silent`: no connection breaks by it. `runs`: how often
    unless told.
    """

    what: str
    hold_s: float
    sway_s: float
    apply: Callable[[Peers], None]
    mend: Callable[[Peers], object]
    runs: int = USUAL_RUNS
    at_start: bool = False
    silent: bool = False
    freezes_server: bool = False

    @property
    def name(self) -> str:
        """What the figures call it."""
        return f"{self.what} {self.hold_s:g} ± {self.sway_s:g} s"

    def hold_in(self, number: int, count: int) -> float:
        """How long it is held in this run of so many: evenly spread around `hold_s`."""
        return self.hold_s + self.sway_s * ((2 * number - 1) / count - 1)


def _kill_both(peers: Peers) -> None:
    peers.server.kill()
    peers.camera.kill()


def _start_both(peers: Peers) -> None:
    peers.server.start()
    peers.camera.start()


def faults(*, long: bool) -> list[Fault]:
    """All of them, in the order they are measured. `long`: the server's long absence takes ten minutes, not one."""
    return [
        Fault("server away", 4, 1.5, lambda peers: peers.server.kill(), lambda peers: peers.server.start()),
        Fault("camera away", 4, 1.5, lambda peers: peers.camera.kill(), lambda peers: peers.camera.start()),
        Fault("both away", 4, 1.5, _kill_both, _start_both),
        Fault(
            *("camera absent at the start", 10, 1.5),
            lambda peers: peers.camera.kill(),
            lambda peers: peers.camera.start(),
            at_start=True,
        ),
        Fault(
            *("camera's media frozen", 15, 4),
            lambda peers: peers.camera.freeze_media(),
            lambda peers: peers.camera.thaw_media(),
            silent=True,
        ),
        Fault(
            *("camera frozen", 15, 4),
            lambda peers: peers.camera.freeze(),
            lambda peers: peers.camera.thaw(),
            silent=True,
        ),
        Fault(
            *("server frozen", 60, 12),
            lambda peers: peers.server.freeze(),
            lambda peers: peers.server.thaw(),
            runs=LONG_RUNS,
            silent=True,
            freezes_server=True,
        ),
        Fault(
            *("server away", 600 if long else 60, 5),
            lambda peers: peers.server.kill(),
            lambda peers: peers.server.start(),
            runs=1 if long else LONG_RUNS,
        ),
    ]
