"""Camera and server at once."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.row import row
from tests.faults.scene import Scene

GROUP = "both"


@row(GROUP, "killed, the server back 3 s before the camera")
def killed_camera_last(scene: Scene) -> None:
    """Both die, as in a power cut, and come back one after the other: on air when the second is there."""
    _killed(scene, scene.server.start, scene.camera.start)


@row(GROUP, "killed, the camera back 3 s before the server")
def killed_server_last(scene: Scene) -> None:
    """The same in the other order."""
    _killed(scene, scene.camera.start, scene.server.start)


@row(GROUP, "absent at the start for 20 s")
def absent_at_start(scene: Scene) -> None:
    """After a power cut the agent is the first to be there: one launch, and on air when the last of the others is."""
    scene.camera.kill()
    scene.server.kill()
    scene.start_in_vain("backing_off", "source_unreachable", within_s=5, word="camera")
    scene.let_pass(10)
    scene.camera.start()
    scene.let_pass(20)
    # One for the camera's absence, one for the server's once the camera is there.
    scene.expect_cheap(lines=2)
    scene.mend(scene.server.start, "both started")
    scene.expect_on_air(within_s=3)


@row(GROUP, "frozen for 20 s")
def frozen(scene: Scene) -> None:
    """Both stand still, as when the network between hangs, and are thawed together."""
    scene.go_live()
    scene.strike(_all(scene.server.freeze, scene.camera.freeze), "both frozen")
    scene.expect("stalled", "stalled", within_s=13)
    scene.let_pass(20)
    scene.mend(_all(scene.server.thaw, scene.camera.thaw), "both thawed")
    scene.expect_on_air(within_s=3, anew=True)
    scene.expect_untouched(3)


@row(GROUP, "frozen, the camera thawed 15 s before the server")
def frozen_server_last(scene: Scene) -> None:
    """Both stand still and are thawed one after the other."""
    scene.go_live()
    scene.strike(_all(scene.server.freeze, scene.camera.freeze_media), "both frozen")
    scene.expect("stalled", "stalled", within_s=13)
    scene.let_pass(20)
    scene.camera.thaw_media()
    scene.let_pass(35)
    scene.mend(scene.server.thaw, "the server thawed too")
    scene.expect_on_air(within_s=3, anew=True)
    scene.expect_untouched(3)


@row(GROUP, "camera killed while the server is frozen")
def camera_killed_under_frozen_server(scene: Scene) -> None:
    """The server stands still; before that is over, the camera dies. The server is thawed, then the camera started."""
    scene.go_live()
    scene.strike(scene.server.freeze, "server frozen")
    scene.let_pass(3)
    scene.strike(scene.camera.kill, "camera killed")
    scene.expect("backing_off", "source_unreachable", within_s=13)
    scene.let_pass(15)
    scene.server.thaw()
    scene.let_pass(20)
    # One for the stream's end, one for the camera's absence.
    scene.expect_cheap(lines=2)
    scene.mend(scene.camera.start, "camera started")
    scene.expect_on_air(within_s=3, anew=True)
    scene.expect_untouched(3)


@row(GROUP, "server killed while the camera is frozen")
def server_killed_under_frozen_camera(scene: Scene) -> None:
    """The camera sends nothing more, so nothing is written, and the server's end goes unnoticed until something is."""
    scene.go_live()
    scene.strike(scene.camera.freeze_media, "camera frozen")
    scene.let_pass(3)
    scene.server.kill()
    scene.expect("backing_off", "sink_unreachable", within_s=20)
    scene.camera.thaw_media()
    scene.let_pass(25)
    scene.mend(scene.server.start, "server started")
    scene.expect_on_air(within_s=3, anew=True)
    scene.expect_untouched(3)


def _all(*acts: Callable[[], object]) -> Callable[[], None]:
    def do() -> None:
        for act in acts:
            act()

    return do


def _killed(scene: Scene, first: Callable[[], object], last: Callable[[], object]) -> None:
    scene.go_live()
    scene.strike(_all(scene.server.kill, scene.camera.kill), "both killed")
    scene.expect("backing_off", "source_unreachable", within_s=4)
    scene.let_pass(4)
    first()
    scene.let_pass(8)
    # One for the stream's end, one for the absence of each.
    scene.expect_cheap(lines=3)
    scene.mend(last, "both started")
    scene.expect_on_air(within_s=3)
