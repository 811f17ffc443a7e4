"""Is there an ffmpeg, and does it have what the stream needs? Asked of the binary, never assumed from its version."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import Final

from yiagent.child import run_to_end
from yiagent.doctor.findings import Findings
from yiagent.ffmpeg import Capabilities, capabilities_arguments, missing_message, parse_capabilities
from yiagent.model import Audio, Transport
from yiagent.settings import Config
from yiagent.urls import Url

ASK_TIMEOUT_S: Final = 5.0
ASK_BYTES: Final = 1 << 20
# ffmpeg 6.1: the first whose FLV muxer writes H.265 (Enhanced RTMP). A build from git has no version, but has this.
_H265_LIBAVFORMAT: Final = (60, 16)
_LIBAVFORMAT = re.compile(r"^\s*libavformat\s+(\d+)\.\s*(\d+)", re.MULTILINE)
_COMPLETE: Final = "Install a complete ffmpeg (Debian and Ubuntu: apt install ffmpeg)."


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """A working ffmpeg. `takes_h265`: whether it can put H.265 into RTMP; None where it does not tell."""

    path: str
    capabilities: Capabilities
    takes_h265: bool | None


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    present: bool
    needed: bool
    without: str


async def examine_ffmpeg(config: Config, server: Url | None, findings: Findings) -> Ffmpeg | None:
    """Look at ffmpeg; None where it cannot be used. `server` is the one the agent would stream to."""
    path = shutil.which(config.ffmpeg)
    if path is None:
        message = missing_message(config.ffmpeg)
        findings.fail("ffmpeg", message)
        return None
    try:
        status, banner = await _ask(path, *capabilities_arguments())
    except OSError as error:
        findings.fail("ffmpeg", f"{path} cannot be started: {error.strerror}. Is it made for this machine?")
        return None
    capabilities = parse_capabilities(banner)
    if capabilities is None:
        late = f"did not answer within {ASK_TIMEOUT_S:g} s" if status is None else "does not say that it is ffmpeg"
        findings.fail("ffmpeg", f"{path} {late}. Install ffmpeg, or set `ffmpeg:` to it.")
        return None
    takes_h265 = _takes_h265(banner)
    note = {True: "yes", False: "no, that takes 6.1 or newer", None: "it does not tell"}[takes_h265]
    findings.ok("ffmpeg", f"{capabilities.version} ({path}); H.265 into RTMP: {note}")
    _tell_parts(await _parts(path, banner, config, server), findings)
    return Ffmpeg(path, capabilities, takes_h265)


async def has_decoder(ffmpeg: Ffmpeg, codec: str) -> bool:
    """Whether this ffmpeg can decode `codec`."""
    return await _has(ffmpeg.path, "decoder", codec)


def _tell_parts(parts: list[_Part], findings: Findings) -> None:
    missing = [part for part in parts if part.needed and not part.present]
    unneeded = [part for part in parts if not part.needed and not part.present]
    if missing:
        findings.fail("ffmpeg's parts", f"it lacks {_listed(missing)}. {_COMPLETE}")
    else:
        findings.ok("ffmpeg's parts", f"it has {', '.join(part.name for part in parts if part.present)}")
    if unneeded:
        findings.warn("ffmpeg's parts", f"it lacks {_listed(unneeded)}. {_COMPLETE}")


def _listed(parts: list[_Part]) -> str:
    return ", ".join(f"{part.name} ({part.without})" for part in parts)


async def _parts(path: str, banner: str, config: Config, server: Url | None) -> list[_Part]:
    inputs, outputs = _protocols((await _ask(path, "-hide_banner", "-protocols"))[1])
    audio = config.stream.audio
    sources = [url for url in (config.source.hd, config.source.sd) if url is not None]
    over_udp = config.source.transport is Transport.UDP
    encrypted_camera = any(url.scheme == "rtsps" for url in sources)
    encrypted_server = server is not None and server.scheme == "rtmps"
    silence = await _has(path, "demuxer", "lavfi") and await _has(path, "filter", "anullsrc")
    parts = [
        _Part("RTSP", bool(re.search(r"^Demuxer rtsp\b", banner, re.MULTILINE)), True, "no camera can be read"),
        _Part("TCP", "tcp" in inputs, True, "no camera can be read"),
        _Part("UDP", {"udp", "rtp"} <= inputs, over_udp, "source.transport: udp will not work"),
        _Part("RTMP", "rtmp" in outputs, True, "nothing can be streamed"),
        _Part("RTMPS", "rtmps" in outputs, encrypted_server, "rtmps:// servers will not work"),
        _Part("FLV", await _has(path, "muxer", "flv"), True, "nothing can be streamed"),
        _Part(
            "an AAC encoder",
            await _has(path, "encoder", "aac"),
            audio not in (Audio.COPY, Audio.NONE),
            "sound that is not AAC, and silence, cannot be sent",
        ),
        _Part("silence", silence, audio is Audio.SILENT, "a camera without sound gets no silent track"),
    ]
    if encrypted_camera:
        parts.append(_Part("TLS", "tls" in inputs, True, "rtsps:// cameras cannot be read"))
    return parts


async def _has(path: str, kind: str, name: str) -> bool:
    _, output = await _ask(path, "-hide_banner", "-h", f"{kind}={name}")
    return re.search(rf"^{kind} {re.escape(name)}\b", output, re.MULTILINE | re.IGNORECASE) is not None


async def _ask(path: str, *arguments: str) -> tuple[int | None, str]:
    return await run_to_end([path, *arguments], timeout_s=ASK_TIMEOUT_S, most_bytes=ASK_BYTES)


def _protocols(output: str) -> tuple[set[str], set[str]]:
    """The input and the output protocols of `-protocols`."""
    before, _, after = output.partition("Output:")
    return set(before.partition("Input:")[2].split()), set(after.split())


def _takes_h265(banner: str) -> bool | None:
    match = _LIBAVFORMAT.search(banner)
    return (int(match.group(1)), int(match.group(2))) >= _H265_LIBAVFORMAT if match is not None else None
