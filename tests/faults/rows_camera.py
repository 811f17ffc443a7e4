"""What cameras do."""

from __future__ import annotations

import re
import subprocess
from typing import Final

from tests.faults.row import row
from tests.faults.scene import NotHeld, Scene
from tests.harness import State
from tests.peers.broken_servers import BrokenServer, GarbageServer, HangUpServer, SilentServer
from tests.peers.camera import Audio, GstCamera, LiveCamera

GROUP = "camera"

# The configured default, in which a camera that sends nothing more must have been told.
STALL_TIMEOUT_S: Final = 10.0
# From the agent's start to a failed launch: Python, a look at ffmpeg, one at the camera, and the launch.
START_S: Final = 5.0
# What a launch takes at the most to have media at the server.
LAUNCH_S: Final = 3.0
# The back-off's waits, as long as their jitter makes them.
WAITS_S: Final = (1.25, 2.5, 5.0, 10.0)
OTHER_PASSWORD: Final = "made-up/other@password"


def ffmpeg_carries_h265() -> str | None:
    """Why this machine's ffmpeg does not refuse H.265 for RTMP, None where it does."""
    banner = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"ffmpeg version n?(\d+)\.(\d+)", banner)
    if version is None or (int(version[1]), int(version[2])) >= (6, 1):
        return "this ffmpeg is new enough to put H.265 into RTMP"
    return None


# --- away ---


@row(GROUP, "killed, back after 4 s", quick=True)
def killed(scene: Scene) -> None:
    """The camera dies, its connections with it, and is started again."""
    _killed(scene, away_s=4)


@row(GROUP, "killed, away for a minute")
def killed_for_a_minute(scene: Scene) -> None:
    """The camera is away for a minute, which costs knocks but no launch, and one line in the log."""
    _killed(scene, away_s=60)


@row(GROUP, "absent at the start")
def absent_at_start(scene: Scene) -> None:
    """The agent starts without its camera: one launch, one line, and on air when it comes."""
    scene.camera.kill()
    scene.start_in_vain("backing_off", "source_unreachable", within_s=START_S, word="camera")
    scene.expect_state(_is_knocking, "waited for by knocking", within_s=START_S + 2)
    scene.let_pass(6)
    scene.expect_cheap(lines=1)
    scene.mend(scene.camera.start, "started")
    scene.expect_on_air(within_s=3)


@row(GROUP, "name unknown", quick=True)
def name_unknown(scene: Scene) -> None:
    """The camera's name does not resolve."""
    _source(scene, "rtsp://no-such-host.invalid/ch0_0.h264")
    scene.start_in_vain("backing_off", "source_unreachable", within_s=START_S, word="name")


# --- standing still ---


@row(GROUP, "media frozen for 7 s")
def media_frozen_for_a_moment(scene: Scene) -> None:
    """The camera sends nothing for less than the stall time: told, and the same ffmpeg goes on."""
    _frozen_for_a_moment(scene)


@row(GROUP, "media frozen for 7 s under generated silence", quick=True)
def media_frozen_for_a_moment_under_silence(scene: Scene) -> None:
    """The same for a camera without a microphone, whose sound track ffmpeg makes."""
    scene.camera.set_audio("none")
    _frozen_for_a_moment(scene)


@row(GROUP, "media frozen for 20 s")
def media_frozen(scene: Scene) -> None:
    """The camera answers but sends nothing for longer than the stall time: ffmpeg is replaced, and hangs anew."""
    _frozen_for_long(scene)


@row(GROUP, "media frozen for 20 s under generated silence")
def media_frozen_under_silence(scene: Scene) -> None:
    """The same for a camera without a microphone: silence that goes on is no life."""
    scene.camera.set_audio("none")
    _frozen_for_long(scene)


@row(GROUP, "media frozen for a minute")
def media_frozen_for_a_minute(scene: Scene) -> None:
    """The camera answers but sends nothing for a minute, in which several launches wait in vain for a picture."""
    _frozen_for_long(scene, seconds=60)


@row(GROUP, "media frozen before the start")
def media_frozen_before_start(scene: Scene) -> None:
    """The camera answers but has sent nothing since before the agent's start."""
    scene.camera.freeze_media()
    scene.strike(scene.agent.start, "the agent's start")
    scene.expect_state(_has_a_reason_of_the_camera, "told", within_s=30 + START_S)
    scene.let_pass(40)
    scene.mend(scene.camera.thaw_media, "thawed")
    scene.expect_on_air(within_s=3)


@row(GROUP, "process frozen for 20 s")
def process_frozen(scene: Scene) -> None:
    """The camera's process stands still, answers nobody, and is thawed after 20 s."""
    scene.go_live()
    scene.strike(scene.camera.freeze, "frozen")
    scene.expect("stalled", "stalled", within_s=STALL_TIMEOUT_S, word="camera")
    scene.let_pass(20)
    scene.mend(scene.camera.thaw, "thawed")
    scene.expect_on_air(within_s=3)


@row(GROUP, "process frozen before the start")
def process_frozen_before_start(scene: Scene) -> None:
    """The agent starts against a camera that accepts and says nothing, and is thawed after 30 s."""
    scene.camera.freeze()
    scene.start_in_vain("backing_off", "source_unreachable", within_s=30 + START_S, word="camera")
    scene.let_pass(40)
    scene.mend(scene.camera.thaw, "thawed")
    scene.expect_on_air(within_s=3)


# --- another camera than before ---


@row(GROUP, "restarted with G.711 in place of AAC")
def sound_changed(scene: Scene) -> None:
    """The camera comes back with sound that does not go into RTMP as it is: it is AAC at the server all the same."""
    _restarted_with_sound(scene, "pcma")


@row(GROUP, "restarted without sound")
def sound_gone(scene: Scene) -> None:
    """The camera comes back without sound: there is AAC at the server all the same, of silence."""
    _restarted_with_sound(scene, "none")


@row(GROUP, "restarted with sound that it had not before")
def sound_come(scene: Scene) -> None:
    """The camera comes back with a microphone: no person need tell the agent."""
    scene.camera.set_audio("none")
    _restarted_with_sound(scene, "aac")


@row(GROUP, "restarted with another resolution")
def resolution_changed(scene: Scene) -> None:
    """The camera comes back with another picture behind the same path."""
    other = LiveCamera(scene.folder / "other", gop_s=1, login=scene.camera_login, swapped=True, port=scene.camera.port)
    scene.go_live()
    before = _picture_width(scene)
    scene.strike(scene.camera.kill, "killed")
    scene.expect("backing_off", "source_unreachable", within_s=3)
    scene.mend(lambda: scene.use(other), "another one")
    scene.expect_on_air(within_s=3)
    scene.expect_true(lambda: _picture_width(scene) not in (0, before), "another picture at the server", within_s=6)


# --- refusing ---


@row(GROUP, "login changed, then as it was", quick=True)
def login_changed(scene: Scene) -> None:
    """Somebody sets another password on the camera: told for a person, who sets it right again and presses restart."""
    scene.go_live()
    scene.camera.set_login(f"viewer:{OTHER_PASSWORD}")
    scene.strike(scene.camera.drop_clients, "login changed")
    scene.expect("failed", "source_unauthorized", within_s=3 + WAITS_S[0] + LAUNCH_S, word="password")
    scene.camera.set_login(scene.camera_login)
    scene.mend(lambda: scene.publish("restart/set", "PRESS"), "press")
    scene.expect_on_air(within_s=3)


@row(GROUP, "wrong password, then right in the configuration", quick=True)
def password_corrected(scene: Scene) -> None:
    """The configured password is wrong; the owner corrects it and restarts the agent."""
    scene.camera.set_login(f"viewer:{OTHER_PASSWORD}")
    scene.further_secrets.append(OTHER_PASSWORD)
    scene.start_in_vain("failed", "source_unauthorized", within_s=START_S, word="password")
    scene.agent.config["source"]["password"] = OTHER_PASSWORD
    scene.agent.stop()
    scene.mend(scene.agent.start, "restart")
    # The agent's own start and its first look at ffmpeg are in it.
    scene.expect_on_air(within_s=START_S)


@row(GROUP, "no password where one is asked for", quick=True)
def no_password(scene: Scene) -> None:
    """A camera of another make asks for a login and none is configured."""
    camera = scene.use(GstCamera(scene.folder / "locked", login=scene.camera_login))
    _source(scene, camera.hd_url)
    scene.config["source"].update(username=None, password=None)
    scene.start_in_vain("failed", "source_unauthorized", within_s=START_S, word="password")


@row(GROUP, "path gone", quick=True)
def path_gone(scene: Scene) -> None:
    """The camera answers but has no stream at this path."""
    _source(scene, f"rtsp://127.0.0.1:{scene.camera.port}/no-such-channel")
    scene.start_in_vain("backing_off", "source_not_found", within_s=START_S, word="path")


@row(GROUP, "refusing clients for 10 s")
def refusing(scene: Scene) -> None:
    """The camera closes every new connection, as one does that is busy with another viewer: the waits grow."""
    scene.go_live()
    scene.camera.refuse_clients()
    scene.strike(scene.camera.drop_clients, "refusing")
    scene.expect("backing_off", "source_unreachable", within_s=3)
    scene.let_pass(10)
    _never_given_up(scene)
    scene.mend(scene.camera.accept_clients, "serving")
    # It answers all the while, so this is the back-off: the fourth wait at the most.
    scene.expect_on_air(within_s=WAITS_S[3] + LAUNCH_S)


@row(GROUP, "dropping every client after 15 s")
def dropping(scene: Scene) -> None:
    """A camera that ends every stream after 15 s: back at once each time, since each launch was a good one."""
    scene.go_live()
    start = scene.listener.position
    for _ in range(4):
        scene.expect_untouched(15)
        scene.strike(scene.camera.drop_clients, "dropped")
        scene.expect_state(_has_a_reason_of_the_camera, "told", within_s=3)
        scene.expect_on_air(within_s=3, anew=True)
    if "failed" in scene.phases(after=start):
        raise NotHeld("it was given up")


# --- no stream for RTMP ---


@row(GROUP, "without video", quick=True)
def without_video(scene: Scene) -> None:
    """The camera sends sound alone."""
    scene.camera = scene.use(LiveCamera(scene.folder / "deaf", video="none", login=scene.camera_login))
    scene.start_in_vain("backing_off", "source_no_video", within_s=START_S, word="video")


@row(GROUP, "H.265", quick=True, hindrance=ffmpeg_carries_h265)
def h265(scene: Scene) -> None:
    """The camera sends H.265, which this ffmpeg cannot put into RTMP: a person must act."""
    scene.camera = scene.use(LiveCamera(scene.folder / "hevc", video="h265", login=scene.camera_login))
    scene.start_in_vain("failed", "source_codec", within_s=START_S, word="H.264")


@row(GROUP, "answering garbage")
def garbage(scene: Scene) -> None:
    """Something answers that is no RTSP server, and goes on listening."""
    _broken(scene, GarbageServer())
    # ffmpeg waits for ever; the time for a start is what ends it.
    scene.config["stream"] = {"start_timeout_s": 4}
    scene.start_in_vain("backing_off", "source_unreachable", within_s=4 + START_S, word="camera")


@row(GROUP, "silent", quick=True)
def silent(scene: Scene) -> None:
    """Something accepts and never answers."""
    _broken(scene, SilentServer())
    scene.config["stream"] = {"start_timeout_s": 3}
    scene.start_in_vain("backing_off", "source_unreachable", within_s=3 + START_S, word="camera")


@row(GROUP, "hanging up at connect")
def hanging_up(scene: Scene) -> None:
    """Something accepts and closes at once, as a camera does that is starting; then the camera is there."""
    broken = _broken(scene, HangUpServer())
    scene.start_in_vain("backing_off", "source_unreachable", within_s=START_S, word="RTSP")
    broken.stop()
    camera = LiveCamera(scene.folder / "camera", gop_s=1, login=scene.camera_login, port=broken.port)
    scene.mend(lambda: scene.use(camera), "a real one")
    # A camera takes a second or more to start, in which nothing answers: it is knocked at, or was never missed.
    scene.expect_on_air(within_s=WAITS_S[1] + LAUNCH_S)


# --- UDP ---


@row(GROUP, "a tenth of its packets lost")
def packets_lost(scene: Scene) -> None:
    """By UDP, one packet in ten is lost for 20 s: the picture suffers, the stream goes on, and so does its ffmpeg."""
    scene.config["source"] = {"transport": "udp"}
    scene.go_live()
    scene.strike(lambda: scene.camera.lose_packets(10), "losing")
    scene.expect_untouched(20)
    if scene.phases():
        raise NotHeld(f"something was told: {scene.phases()}")


@row(GROUP, "all of its packets lost for 20 s")
def all_packets_lost(scene: Scene) -> None:
    """By UDP, nothing arrives any more though the camera answers: a stall, and on air when packets come again."""
    scene.config["source"] = {"transport": "udp"}
    scene.go_live()
    scene.strike(lambda: scene.camera.lose_packets(100), "losing")
    scene.expect("stalled", "stalled", within_s=STALL_TIMEOUT_S, word="camera")
    scene.let_pass(20)
    scene.mend(lambda: scene.camera.lose_packets(0), "arriving")
    scene.expect_on_air(within_s=3)


# --- what they have in common ---


def _killed(scene: Scene, *, away_s: float) -> None:
    scene.go_live()
    scene.strike(scene.camera.kill, "killed")
    scene.expect("backing_off", "source_unreachable", within_s=3)
    scene.expect_state(_is_knocking, "waited for by knocking", within_s=4)
    scene.let_pass(away_s)
    # One for the stream's end, one for the camera's absence.
    scene.expect_cheap(lines=2)
    scene.mend(scene.camera.start, "started")
    scene.expect_on_air(within_s=3)


def _frozen_for_a_moment(scene: Scene) -> None:
    scene.go_live()
    remux = scene.remux
    scene.strike(scene.camera.freeze_media, "frozen")
    scene.expect("stalled", "stalled", within_s=7, word="camera")
    scene.let_pass(7)
    scene.mend(scene.camera.thaw_media, "thawed")
    scene.expect_on_air(within_s=3)
    if scene.agent.ffmpegs() != [remux]:
        raise NotHeld("ffmpeg was replaced")


def _frozen_for_long(scene: Scene, *, seconds: float = 20) -> None:
    scene.go_live()
    scene.strike(scene.camera.freeze_media, "frozen")
    scene.expect("stalled", "stalled", within_s=STALL_TIMEOUT_S, word="camera")
    scene.let_pass(seconds)
    if {"streaming", "failed"} & set(scene.phases()):
        raise NotHeld(f"on air or given up while nothing came: {scene.phases()}")
    scene.mend(scene.camera.thaw_media, "thawed")
    scene.expect_on_air(within_s=3)


def _restarted_with_sound(scene: Scene, audio: Audio) -> None:
    # Made before, so that it is there as soon as the other one is gone; the port is what a camera keeps.
    other = LiveCamera(scene.folder / "other", gop_s=1, login=scene.camera_login, audio=audio, port=scene.camera.port)
    scene.go_live()
    scene.strike(scene.camera.kill, "killed")
    scene.expect("backing_off", "source_unreachable", within_s=3)
    scene.mend(lambda: scene.use(other), "another one")
    scene.expect_on_air(within_s=3)
    stream = scene.server.stream(scene.key)
    if stream is None or stream.audio_codec != "AAC":
        raise NotHeld(f"not AAC at the server: {stream}")
    scene.expect_untouched(3)


def _picture_width(scene: Scene) -> int:
    stream = scene.server.stream(scene.key)
    return 0 if stream is None else stream.width


def _never_given_up(scene: Scene) -> None:
    if "failed" in scene.phases():
        raise NotHeld(f"it was given up: {scene.phases()}")


def _is_knocking(state: State) -> bool:
    return state["phase"] == "backing_off" and state["retry_at"] is None


def _has_a_reason_of_the_camera(state: State) -> bool:
    reason = state["reason"]
    return reason is not None and (reason["code"].startswith("source_") or "camera" in reason["message"])


def _source(scene: Scene, url: str) -> None:
    scene.config["source"] = {"sd": url}


def _broken(scene: Scene, broken: BrokenServer) -> BrokenServer:
    _source(scene, f"rtsp://127.0.0.1:{broken.port}/ch0_1.h264")
    return scene.use(broken)
