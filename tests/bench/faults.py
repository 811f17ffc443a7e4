"""What is done to the peers, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.rtmp import RtmpServer

# A quick run waits no longer for anything.
QUICK_HOLD_S = 15.0


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
    its waits. `at_start`: it is there before any program is. `silent`: no connection breaks by it. `side_by_side`: its
    runs take place at the same time, each with peers and programs of its own.
    """

    what: str
    hold_s: float
    sway_s: float
    apply: Callable[[Peers], None]
    mend: Callable[[Peers], object]
    at_start: bool = False
    silent: bool = False
    freezes_server: bool = False
    side_by_side: bool = False

    @property
    def name(self) -> str:
        """What the figures call it."""
        hold = f"{self.hold_s / 60:g} min" if self.hold_s > 60 else f"{self.hold_s:g} s"
        return f"{self.what} {hold}"

    def hold_in(self, number: int, count: int) -> float:
        """How long it is held in this run of so many: evenly spread around `hold_s`."""
        return self.hold_s + self.sway_s * ((2 * number - 1) / count - 1)


def _kill_both(peers: Peers) -> None:
    peers.server.kill()
    peers.camera.kill()


def _start_both(peers: Peers) -> None:
    peers.server.start()
    peers.camera.start()


def faults(*, long: bool, quick: bool = False) -> list[Fault]:
    """All of them, in the order they are measured. `long`: also the server's absence of ten minutes."""

    def held(hold_s: float) -> float:
        return min(hold_s, QUICK_HOLD_S) if quick else hold_s

    def server_away(hold_s: float, sway_s: float, *, side_by_side: bool = False) -> Fault:
        return Fault(
            *("server away", hold_s, sway_s),
            lambda peers: peers.server.kill(),
            lambda peers: peers.server.start(),
            side_by_side=side_by_side,
        )

    return [
        server_away(4, 1.5),
        Fault("camera away", 4, 1.5, lambda peers: peers.camera.kill(), lambda peers: peers.camera.start()),
        Fault("both away", 4, 1.5, _kill_both, _start_both),
        Fault(
            *("camera absent at start", 10, 1.5),
            lambda peers: peers.camera.kill(),
            lambda peers: peers.camera.start(),
            at_start=True,
        ),
        Fault(
            *("camera sends nothing", 15, 4),
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
            *("server frozen", held(60), 12),
            lambda peers: peers.server.freeze(),
            lambda peers: peers.server.thaw(),
            silent=True,
            freezes_server=True,
            side_by_side=True,
        ),
        # The runs end some seconds apart, so that none is mended while the one before comes back.
        server_away(held(60), 10, side_by_side=True),
        *([server_away(held(600), 10, side_by_side=True)] if long else []),
    ]
