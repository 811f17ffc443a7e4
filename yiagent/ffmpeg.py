"""The ffmpeg command line: what the installed ffmpeg can do, and the arguments of one remux. Pure.

Every address and key stands where ffmpeg takes a value, never an option, and reaches it as one argument of an argument
vector: no shell sees it. What ffmpeg may open is limited to the camera's protocols for input.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from yiagent.model import Audio, Channel, Transport
from yiagent.redact import Secret
from yiagent.urls import Url, parse_server, source_address

# Measured (ffmpeg 5.1, 720p, joined in mid-GOP): 0.65 s to publish with these, 2.3 to 3.2 s with the defaults.
# `-analyzeduration 0` would mean the default, and `-fflags nobuffer` throws the probed keyframe away.
TUNED_PROBE: Final = ("-probesize", "32768", "-analyzeduration", "500000", "-fpsprobesize", "0")
# For a camera whose SDP holds no parameter sets: the picture's size is known only from its next keyframe.
PATIENT_PROBE: Final = ("-probesize", "5000000", "-analyzeduration", "10000000", "-fpsprobesize", "0")
STATS_PERIOD_S: Final = 0.5
# A camera may take its time to answer at first; one that stops sending later is the agent's own stall timer's business.
READ_TIMEOUT_S: Final = 5.0
# A push that takes nothing for this long ends by itself, behind the agent's own stall timer.
WRITE_TIMEOUT_S: Final = 10.0
# Linux lets a send queue grow to 4 MB: half a minute of video that arrives late, and a ninth of a camera's memory. This
# holds 2 to 4 s at 1 Mbit/s (the kernel grants twice as much, headers included, up to its own limit).
SEND_BUFFER_BYTES: Final = 256 * 1024
AAC: Final = "aac"
# Of 2 (best) to 31: good enough to look at, at about 100 kB in 720p.
JPEG_QUALITY: Final = "5"
_INPUT_PROTOCOLS: Final = "rtsp,rtsps,rtp,srtp,udp,tcp,tls"

_VERSION = re.compile(r"^ffmpeg version (\S+)", re.MULTILINE)
_OPTION = re.compile(r"^\s+-(\w+)\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the installed ffmpeg is: asked of the binary, never assumed from its version."""

    version: str
    socket_timeout: str | None
    """The RTSP demuxer's option for a socket time-out in µs: `timeout` since ffmpeg 5; before, that meant *listen*."""
    verifies_cameras: bool = False
    """Whether it checks the certificate of an rtsps camera by itself, as ffmpeg 9 does; most cameras made their own."""
    picks_keyframes: bool = False
    """Whether it can hand on keyframes alone; asked only where pictures are wanted."""


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to stream: everything a command line is made of but the camera's codecs."""

    channel: Channel
    source: Url
    username: str | None
    password: Secret | None
    transport: Transport
    audio: Audio
    server: str
    key: Secret
    stall_timeout_s: float
    ca_file: str | None = field(default=None)
    """The certificate authorities for rtmps, as a file; None leaves them to ffmpeg's TLS library."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a remux is to be launched, given what is known of the camera.

    `audio_codec`: ffmpeg's name of the camera's audio codec, "" for a camera without sound, None where not known yet.
    """

    audio_codec: str | None
    patient: bool = False


def missing_message(program: str) -> str:
    """What to tell the owner where there is no such program."""
    return f"There is no program “{program}” on this machine. Install ffmpeg, or set `ffmpeg:` to where it is."


def capabilities_arguments() -> list[str]:
    """Arguments that make ffmpeg tell its version (in the banner) and the RTSP demuxer's options in one start."""
    return ["-loglevel", "info", "-h", "demuxer=rtsp"]


def parse_capabilities(output: str) -> Capabilities | None:
    """What ffmpeg printed for `capabilities_arguments`; None where that was not ffmpeg."""
    version = _VERSION.search(output)
    if version is None:
        return None
    options = set(_OPTION.findall(output))
    # Where both stand, `timeout` is the old one, which turns the camera's client into a server.
    name = "stimeout" if "stimeout" in options else "timeout" if "timeout" in options else None
    return Capabilities(version.group(1), name, verifies_cameras="tls_verify" in options)


def keyframe_arguments() -> list[str]:
    """Arguments that make ffmpeg tell the options of the filter that hands on keyframes alone."""
    return ["-loglevel", "info", "-h", "bsf=noise"]


def parse_picks_keyframes(output: str) -> bool:
    """Whether that filter drops packets by an expression, as it does since ffmpeg 5."""
    return "drop" in _OPTION.findall(output)


def needs_look(job: Job, plan: Plan) -> bool:
    """Whether the camera's audio codec must be looked at before a command line can be made."""
    return job.audio is Audio.AUTO and plan.audio_codec is None


def look_arguments(job: Job, plan: Plan, capabilities: Capabilities) -> list[str]:
    """Arguments that make ffmpeg print what the camera sends, and end."""
    return [*_common(), *_input(job, plan, capabilities)]


def remux_arguments(job: Job, plan: Plan, capabilities: Capabilities, *, keyframes_to: int | None = None) -> list[str]:
    """Arguments of the remux proper. Holds secrets: never logged, never shown.

    `keyframes_to`: a descriptor that gets the keyframes as FLV besides.
    """
    return [
        *_common(),
        "-progress",
        "pipe:1",
        "-stats_period",
        str(STATS_PERIOD_S),
        *_input(job, plan, capabilities),
        *_media(job.audio, plan),
        *_output(job),
        # Behind the server's: what ffmpeg reports is about its first output.
        *(_keyframes(keyframes_to) if keyframes_to is not None else []),
    ]


def camera_picture_arguments(job: Job, plan: Plan, capabilities: Capabilities) -> list[str]:
    """Arguments that make ffmpeg write one JPEG of what the camera shows to its standard output. Holds secrets."""
    # A decoder that begins between two keyframes would show grey.
    return [*_common(), "-threads", "1", "-skip_frame", "nokey", *_input(job, plan, capabilities), *_jpeg()]


def keyframe_picture_arguments() -> list[str]:
    """Arguments that make ffmpeg turn the keyframe on its standard input, as FLV, into a JPEG on its output."""
    read = ["-protocol_whitelist", "pipe", "-threads", "1", "-f", "flv", "-i", "pipe:0"]
    return [*_common(), *read, *_jpeg()]


def _common() -> list[str]:
    # `level` puts each line's severity in front of it; `repeat` leaves the collapsing of repeats to the journal.
    return ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "repeat+level+info"]


def _input(job: Job, plan: Plan, capabilities: Capabilities) -> list[str]:
    arguments = ["-protocol_whitelist", _INPUT_PROTOCOLS, "-fflags", "+genpts", "-rtsp_transport", job.transport]
    if capabilities.socket_timeout is not None:
        arguments += [f"-{capabilities.socket_timeout}", str(int(max(READ_TIMEOUT_S, job.stall_timeout_s) * 1e6))]
    if job.source.scheme == "rtsps" and capabilities.verifies_cameras:
        arguments += ["-tls_verify", "0"]
    arguments += PATIENT_PROBE if plan.patient else TUNED_PROBE
    return [*arguments, "-i", source_address(job.source, job.username, job.password)]


def _media(audio: Audio, plan: Plan) -> list[str]:
    video = ["-map", "0:v:0", "-c:v", "copy"]
    camera_audio = ["-map", "0:a:0"]
    # 44.1 kHz because RTMP servers and their players take no other rate for granted; cameras send 8 kHz G.711.
    encode = ["-c:a", AAC, "-ar", "44100", "-ac", "1", "-b:a", "64k"]
    silence = audio is Audio.SILENT or (audio is Audio.AUTO and plan.audio_codec == "")
    if silence:
        # -shortest ends it with the camera: without, it runs ahead without bounds. It is not paced by -re, because a
        # camera's clock is not this machine's: over days the sound would fall behind, and the picture with it.
        source = ["-f", "lavfi", "-i", "anullsrc=r=44100:cl=mono"]
        return [*source, *video, "-map", "1:a:0", "-c:a", AAC, "-b:a", "32k", "-shortest"]
    if audio is Audio.NONE:
        return [*video, "-an"]
    if audio is Audio.AAC or (audio is Audio.AUTO and plan.audio_codec != AAC):
        return [*video, *camera_audio, *encode]
    # ffmpeg 7 takes no RTSP audio packet for a keyframe and drops all before the first one: without -copyinkf the sound
    # never begins, and the muxer waits for it.
    copy = ["-c:a", "copy", "-copyinkf:a"]
    if audio is Audio.COPY:
        return [*video, "-map", "0:a:0?", *copy]
    return [*video, *camera_audio, *copy]


def _output(job: Job) -> list[str]:
    url = parse_server(job.server)
    # Application and stream name are given apart from the URL: ffmpeg would otherwise cut a query, a second path
    # segment or odd characters its own way, and would print the key in its messages.
    app = url.path.removeprefix("/").removesuffix("/")
    userinfo = ""
    if url.username is not None:
        password = f":{url.password.reveal()}" if url.password is not None else ""
        userinfo = f"{url.username}{password}@"
    arguments = [
        "-protocol_whitelist",
        "rtmps,tls,tcp" if url.scheme == "rtmps" else "rtmp,tcp",
        "-flvflags",
        "no_duration_filesize",
        "-rw_timeout",
        str(int(max(WRITE_TIMEOUT_S, job.stall_timeout_s) * 1e6)),
        "-tcp_nodelay",
        "1",
        "-send_buffer_size",
        str(SEND_BUFFER_BYTES),
    ]
    if url.scheme == "rtmps":
        # ffmpeg checks no certificate unless told to.
        arguments += ["-tls_verify", "1"]
        if job.ca_file is not None:
            arguments += ["-ca_file", job.ca_file]
    arguments += ["-rtmp_app", app, "-rtmp_playpath", job.key.reveal()]
    return [*arguments, "-f", "flv", f"{url.scheme}://{userinfo}{url.authority}/{app.partition('?')[0]}"]


def _keyframes(descriptor: int) -> list[str]:
    pick = ["-map", "0:v:0", "-c:v", "copy", "-bsf:v", "noise=drop=not(key)"]
    # A pipe has no beginning to go back to, and each keyframe is wanted at once.
    shape = ["-flvflags", "no_duration_filesize", "-flush_packets", "1"]
    return [*pick, *shape, "-f", "flv", f"pipe:{descriptor}"]


def _jpeg() -> list[str]:
    one = ["-map", "0:v:0", "-frames:v", "1", "-threads", "1"]
    return [*one, "-c:v", "mjpeg", "-q:v", JPEG_QUALITY, "-f", "image2pipe", "pipe:1"]
