"""A camera by gst-rtsp-server, another implementation of RTSP than ours; run by the system's Python, which has `gi`.

It begins with a keyframe for each client. Prints `ready URL`; SIGINT and SIGTERM end it.
"""

import argparse
import os
import signal

import gi  # type: ignore[import-not-found,import-untyped,unused-ignore]  # only the system's Python has it

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import (  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: E402
    GLib,  # the import is late because gi must be told the versions first
    Gst,
    GstRtsp,
    GstRtspServer,
)

PATH = "/ch0_0.h264"
FPS = 15
VIDEO = {
    "h264": f"x264enc tune=zerolatency speed-preset=ultrafast bitrate=1000 key-int-max={2 * FPS} "
    "! video/x-h264,profile=baseline ! h264parse ! rtph264pay name=pay{number} pt=96 config-interval=-1",
    "h265": f"x265enc tune=zerolatency speed-preset=ultrafast bitrate=1000 key-int-max={2 * FPS} "
    "! h265parse ! rtph265pay name=pay{number} pt=96 config-interval=-1",
}
AUDIO = {
    "aac": "audio/x-raw,rate=16000,channels=1 ! voaacenc bitrate=32000 ! aacparse ! rtpmp4gpay name=pay{number} pt=97",
    "pcma": "audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay{number} pt=8",
}


def _pipeline(video: str, audio: str) -> str:
    branches: list[str] = []
    if video != "none":
        picture = (
            f"videotestsrc pattern=ball is-live=true ! video/x-raw,format=I420,width=640,height=360,framerate={FPS}/1"
        )
        branches.append(f"{picture} ! {VIDEO[video].format(number=len(branches))}")
    if audio != "none":
        tone = "audiotestsrc is-live=true ! audioconvert ! audioresample"
        branches.append(f"{tone} ! {AUDIO[audio].format(number=len(branches))}")
    return f"( {' '.join(branches)} )"


def _require_digest(server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, login: str) -> None:
    user, _, password = login.partition(":")
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    auth = GstRtspServer.RTSPAuth()
    # Its default is Basic, even if digest users were added.
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", required=True)
    parser.add_argument("--video", choices=[*VIDEO, "none"], default="h264")
    parser.add_argument("--audio", choices=[*AUDIO, "none"], default="aac")
    parser.add_argument("--login", default="", metavar="USER:PASS")
    options = parser.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    factory = GstRtspServer.RTSPMediaFactory()
    pipeline = _pipeline(options.video, options.audio)
    # The server would tell of a missing element by answering clients 503, and go on with half a pipeline.
    Gst.parse_launch_full(pipeline, None, Gst.ParseFlags.FATAL_ERRORS)
    factory.set_launch(pipeline)
    factory.set_shared(True)
    if options.login:
        _require_digest(server, factory, options.login)
    server.get_mount_points().add_factory(PATH, factory)
    if not server.attach(None):
        parser.error(f"cannot listen on port {options.port}")
    loop = GLib.MainLoop()
    for number in (signal.SIGINT, signal.SIGTERM):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, loop.quit)
    print(f"ready rtsp://127.0.0.1:{server.get_bound_port()}{PATH}", flush=True)
    loop.run()
    # Tearing down pipelines that still play can take GStreamer seconds.
    os._exit(0)


if __name__ == "__main__":
    main()
