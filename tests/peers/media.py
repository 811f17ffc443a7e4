"""Short clips made by ffmpeg once and cut into RTP payloads, to be played round and round."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from tests.peers.process import PeerError, dying_with_parent, find_program

# Beside the virtual environment's packages: private to the checkout, and gone with it.
KEPT = Path(os.environ.get("YIAGENT_TEST_CLIPS", Path(sys.prefix) / "clips"))

VIDEO_FPS = 15
VIDEO_CLOCK_HZ = 90_000
CLIP_S = 8.0
# RTP packets of this payload fit an Ethernet frame even inside a tunnel.
MAX_PAYLOAD_BYTES = 1400

AAC_SAMPLE_RATE = 16_000
AAC_SAMPLES_PER_FRAME = 1024
PCMA_SAMPLE_RATE = 8_000
PCMA_SAMPLES_PER_PACKET = 320

H264_IDR, H264_SPS, H264_PPS, H264_AUD = 5, 7, 8, 9
H265_VPS, H265_SPS, H265_PPS, H265_AUD = 32, 33, 34, 35


@dataclass(frozen=True)
class Clip:
    """A loop of media: access units, each already cut into RTP payloads, with what SDP says of them."""

    kind: str
    payload_type: int
    clock_hz: int
    rtpmap: str
    fmtp: str
    ticks_per_unit: int
    ends_units_with_marker: bool
    units: list[list[bytes]]


def make_video(codec: str, size: str, kbps: int, gop_s: float, *, with_parameter_sets: bool) -> Clip:
    """Encode a test picture with a running clock; the first unit of the clip and of every `gop_s` is a keyframe."""
    gop = max(1, round(gop_s * VIDEO_FPS))
    frames = gop * ceil(CLIP_S * VIDEO_FPS / gop)
    stream = _ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={VIDEO_FPS}", "-frames:v", f"{frames}"),
        *("-pix_fmt", "yuv420p", "-preset", "ultrafast", "-tune", "zerolatency"),
        *("-b:v", f"{kbps}k", "-maxrate", f"{kbps}k", "-bufsize", f"{kbps}k"),
        *_encoder(codec, gop),
    )
    units = _access_units(stream, codec)
    if len(units) != frames:
        raise PeerError(f"ffmpeg made {len(units)} frames of {frames}")
    cut = _h264_payloads if codec == "h264" else _h265_payloads
    return Clip(
        kind="video",
        payload_type=96,
        clock_hz=VIDEO_CLOCK_HZ,
        rtpmap=f"{codec.upper()}/{VIDEO_CLOCK_HZ}",
        fmtp=(_h264_fmtp if codec == "h264" else _h265_fmtp)(units[0], with_parameter_sets=with_parameter_sets),
        ticks_per_unit=VIDEO_CLOCK_HZ // VIDEO_FPS,
        ends_units_with_marker=True,
        units=[[payload for nal in unit for payload in cut(nal)] for unit in units],
    )


def make_audio(codec: str) -> Clip:
    """Encode a tone as mono AAC of 16 kHz or as G.711 A-law of 8 kHz, as cameras do."""
    if codec == "aac":
        stream = _ffmpeg(*_tone(AAC_SAMPLE_RATE), "-c:a", "aac", "-b:a", "32k", "-f", "adts")
        return Clip(
            kind="audio",
            payload_type=97,
            clock_hz=AAC_SAMPLE_RATE,
            rtpmap=f"MPEG4-GENERIC/{AAC_SAMPLE_RATE}/1",
            fmtp="streamtype=5;profile-level-id=15;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;"
            f"config={_audio_specific_config(stream)}",
            ticks_per_unit=AAC_SAMPLES_PER_FRAME,
            ends_units_with_marker=True,
            # RFC 3640: 16 bits that say how many bits of headers follow, then one header of 13 bits size, 3 bits index.
            units=[[b"\x00\x10" + (len(frame) << 3).to_bytes(2) + frame] for frame in _adts_frames(stream)],
        )
    stream = _ffmpeg(*_tone(PCMA_SAMPLE_RATE), "-c:a", "pcm_alaw", "-f", "alaw")
    return Clip(
        kind="audio",
        payload_type=8,
        clock_hz=PCMA_SAMPLE_RATE,
        rtpmap=f"PCMA/{PCMA_SAMPLE_RATE}",
        fmtp="",
        ticks_per_unit=PCMA_SAMPLES_PER_PACKET,
        ends_units_with_marker=False,
        units=[
            [stream[start : start + PCMA_SAMPLES_PER_PACKET]]
            for start in range(0, len(stream) - PCMA_SAMPLES_PER_PACKET + 1, PCMA_SAMPLES_PER_PACKET)
        ],
    )


def _tone(sample_rate: int) -> tuple[str, ...]:
    return "-f", "lavfi", "-i", f"sine=frequency=440:sample_rate={sample_rate}", "-t", f"{CLIP_S}", "-ac", "1"


def _encoder(codec: str, gop: int) -> tuple[str, ...]:
    if codec == "h264":
        parameters = f"keyint={gop}:min-keyint={gop}:scenecut=0"
        return "-c:v", "libx264", "-x264-params", parameters, "-bsf:v", "h264_metadata=aud=insert", "-f", "h264"
    parameters = f"keyint={gop}:min-keyint={gop}:scenecut=0:log-level=error"
    return "-c:v", "libx265", "-x265-params", parameters, "-bsf:v", "hevc_metadata=aud=insert", "-f", "hevc"


def _ffmpeg(*arguments: str) -> bytes:
    """What ffmpeg makes of these arguments, kept: every camera of a test run would encode the same clips."""
    program = Path(find_program("ffmpeg"))
    made = program.stat()
    what = f"{arguments} {program} {made.st_mtime_ns} {made.st_size}"
    kept = KEPT / hashlib.sha256(what.encode()).hexdigest()
    with suppress(OSError):
        return kept.read_bytes()
    command = dying_with_parent([f"{program}", "-nostdin", "-v", "error", *arguments, "pipe:1"])
    run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if run.returncode != 0:
        raise PeerError(f"ffmpeg failed with status {run.returncode}: {' '.join(command)}")
    with suppress(OSError):
        if sys.prefix == sys.base_prefix:
            return run.stdout  # no virtual environment, so no place of the checkout's own
        KEPT.mkdir(exist_ok=True)
        # Whole or not at all: another test may be looking for it.
        written = kept.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        written.write_bytes(run.stdout)
        written.replace(kept)
    return run.stdout


def _nal_type(nal: bytes, codec: str) -> int:
    return nal[0] & 0x1F if codec == "h264" else nal[0] >> 1 & 0x3F


def _access_units(stream: bytes, codec: str) -> list[list[bytes]]:
    """Cut an Annex B stream at its access unit delimiters, and leave those out as cameras do."""
    units: list[list[bytes]] = []
    for piece in re.split(rb"\x00\x00\x01", stream):
        nal = piece.rstrip(b"\x00")
        if not nal:
            continue
        if _nal_type(nal, codec) == (H264_AUD if codec == "h264" else H265_AUD):
            units.append([])
        else:
            units[-1].append(nal)
    return units


def _h264_payloads(nal: bytes) -> list[bytes]:
    """Cut one NAL unit as RFC 6184 says: whole, or in fragments of type FU-A."""
    if len(nal) <= MAX_PAYLOAD_BYTES:
        return [nal]
    indicator = nal[0] & 0xE0 | 28
    return [bytes([indicator, flags | nal[0] & 0x1F]) + part for flags, part in _fragments(nal[1:])]


def _h265_payloads(nal: bytes) -> list[bytes]:
    """Cut one NAL unit as RFC 7798 says: whole, or in fragments of type 49."""
    if len(nal) <= MAX_PAYLOAD_BYTES:
        return [nal]
    header = bytes([nal[0] & 0x81 | 49 << 1, nal[1]])
    return [header + bytes([flags | _nal_type(nal, "h265")]) + part for flags, part in _fragments(nal[2:])]


def _fragments(body: bytes) -> list[tuple[int, bytes]]:
    step = MAX_PAYLOAD_BYTES - 3
    starts = range(0, len(body), step)
    first, last = 0x80, 0x40
    return [
        ((first if start == 0 else 0) | (last if start == starts[-1] else 0), body[start : start + step])
        for start in starts
    ]


def _h264_fmtp(unit: list[bytes], *, with_parameter_sets: bool) -> str:
    sets = {_nal_type(nal, "h264"): nal for nal in unit}
    fmtp = f"packetization-mode=1;profile-level-id={sets[H264_SPS][1:4].hex().upper()}"
    if with_parameter_sets:
        fmtp += f";sprop-parameter-sets={_base64(sets[H264_SPS])},{_base64(sets[H264_PPS])}"
    return fmtp


def _h265_fmtp(unit: list[bytes], *, with_parameter_sets: bool) -> str:
    if not with_parameter_sets:
        return ""
    sets = {_nal_type(nal, "h265"): _base64(nal) for nal in unit}
    return f"sprop-vps={sets[H265_VPS]};sprop-sps={sets[H265_SPS]};sprop-pps={sets[H265_PPS]}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _adts_frames(stream: bytes) -> list[bytes]:
    frames = []
    while stream:
        header_bytes = 7 if stream[1] & 1 else 9
        length = (stream[3] & 3) << 11 | stream[4] << 3 | stream[5] >> 5
        frames.append(stream[header_bytes:length])
        stream = stream[length:]
    return frames


def _audio_specific_config(adts: bytes) -> str:
    object_type = (adts[2] >> 6) + 1
    frequency_index = adts[2] >> 2 & 0xF
    channels = (adts[2] & 1) << 2 | adts[3] >> 6
    return f"{object_type << 11 | frequency_index << 7 | channels << 3:04X}"
