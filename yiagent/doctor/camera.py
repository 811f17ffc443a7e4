"""Does the camera answer, does it let us in, and what does it send? Seen with the agent's own ffmpeg and arguments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from yiagent.child import run_to_end
from yiagent.diagnosis import Diagnosis
from yiagent.doctor.ffmpeg import Ffmpeg, has_decoder
from yiagent.doctor.findings import Findings
from yiagent.ffmpeg import AAC, Job, Plan, look_arguments
from yiagent.knock import camera_failure, ffmpeg_message
from yiagent.memory import oom_kills, was_killed_for_memory
from yiagent.model import Audio, Channel
from yiagent.network import addresses_of, connect, port_of
from yiagent.progress import Message, parse_message
from yiagent.redact import Redactor, Secret
from yiagent.settings import Config
from yiagent.threads import in_daemon_thread
from yiagent.urls import Url

# A look ends by itself within a second or two; a patient one waits for a keyframe, up to ten.
LOOK_TIMEOUT_S: Final = 8.0
PATIENT_LOOK_TIMEOUT_S: Final = 12.0
LOOK_BYTES: Final = 1 << 20
_NAMES: Final = {
    "h264": "H.264",
    "hevc": "H.265",
    "aac": "AAC",
    "pcm_alaw": "G.711 (A-law)",
    "pcm_mulaw": "G.711 (µ-law)",
    "adpcm_g726": "G.726",
    "adpcm_g726le": "G.726",
}
# What ffmpeg muxes into FLV without a word besides AAC. Servers drop it, or play silence.
_COPIED_IN_VAIN: Final = frozenset(
    {"mp3", "pcm_alaw", "pcm_mulaw", "pcm_s16be", "pcm_s16le", "pcm_u8", "adpcm_swf", "nellymoser", "speex"}
)
_SIZE = re.compile(r"\b[1-9]\d{1,4}x[1-9]\d{1,4}\b")


@dataclass(slots=True)
class _Look:
    """What one look at the camera brought. `failure`: why it brought nothing."""

    diagnosis: Diagnosis
    picture: str
    failure: str | None


async def examine_camera(config: Config, ffmpeg: Ffmpeg | None, findings: Findings) -> None:
    """Look at each configured channel, one after the other: a cheap camera may serve but one viewer at a time."""
    for channel in (Channel.HD, Channel.SD):
        url = config.source.url(channel)
        if url is not None:
            await _examine_channel(config, channel, url, ffmpeg, findings)


async def _examine_channel(
    config: Config, channel: Channel, url: Url, ffmpeg: Ffmpeg | None, findings: Findings
) -> None:
    what = f"camera {channel}"
    try:
        await in_daemon_thread(lambda: _knock(url))
    except OSError as error:
        findings.fail(what, f"{url.masked}: {camera_failure(ffmpeg_message(error)).reason.message}")
        return
    if ffmpeg is None:
        findings.skip(what, f"{url.masked} answers; what it sends cannot be seen without ffmpeg")
        return
    job = _job(config, channel, url)
    look = await _look(ffmpeg, job, Plan(None))
    if look.failure is None and look.diagnosis.wants_patience:
        look = await _look(ffmpeg, job, Plan(None, patient=True))
    if look.failure is not None:
        findings.fail(what, f"{url.masked}: {look.failure}")
        return
    await _tell(what, config.stream.audio, ffmpeg, look, findings)


def _knock(url: Url) -> None:
    port = port_of(url)
    connect(addresses_of(url.host, port), port).close()


def _job(config: Config, channel: Channel, url: Url) -> Job:
    source = config.source
    return Job(
        channel=channel,
        source=url,
        username=source.username,
        password=source.password,
        transport=source.transport,
        audio=config.stream.audio,
        # A look has no output.
        server="",
        key=Secret(""),
        # ffmpeg's own limit lies behind the doctor's, which then says what it waited for.
        stall_timeout_s=PATIENT_LOOK_TIMEOUT_S,
    )


async def _look(ffmpeg: Ffmpeg, job: Job, plan: Plan) -> _Look:
    timeout_s = PATIENT_LOOK_TIMEOUT_S if plan.patient else LOOK_TIMEOUT_S
    kills = oom_kills()
    command = [ffmpeg.path, *look_arguments(job, plan, ffmpeg.capabilities)]
    status, output = await run_to_end(command, timeout_s=timeout_s, most_bytes=LOOK_BYTES)
    redactor = Redactor()
    redactor.learn(job.password, user=job.username)
    look = _Look(Diagnosis(encrypted=False, redactor=redactor), "", None)
    for line in output.splitlines():
        message = parse_message(line)
        look.diagnosis.hear(message)
        look.picture = look.picture or _picture(message)
    if not look.diagnosis.input_open:
        failure = (
            look.diagnosis.late()
            if status is None
            else look.diagnosis.ended(status, flowed=False, killed_for_memory=lambda: was_killed_for_memory(kills))
        )
        look.failure = failure.reason.message
    elif look.diagnosis.video_codec is None:
        look.failure = camera_failure("Stream map '0:v:0' matches no streams").reason.message
    return look


def _picture(message: Message) -> str:
    """The size in a `Stream #0:0: Video: …` line, such as `1280x720`; "" for any other line.

    Not the frame rate: after so short a look ffmpeg guesses it (30 for a camera of 15 was seen).
    """
    if not message.text.lstrip().startswith("Stream #0:") or " Video: " not in message.text:
        return ""
    size = _SIZE.search(message.text)
    return size.group() if size is not None else ""


async def _tell(what: str, audio: Audio, ffmpeg: Ffmpeg, look: _Look, findings: Findings) -> None:
    video, sound = look.diagnosis.video_codec or "", look.diagnosis.audio_codec or ""
    sends = " ".join(filter(None, [_name(video), look.picture]))
    sends += f", sound {_name(sound)}" if sound else ", no sound"
    if video not in ("h264", "hevc") or (video == "hevc" and ffmpeg.takes_h265 is False):
        findings.fail(what, f"{sends}. {camera_failure(f'Video codec {video} not compatible with flv').reason.message}")
    elif video == "hevc":
        note = "only servers with Enhanced RTMP take H.265 (YouTube does, nginx-rtmp does not)"
        findings.warn(what, f"{sends}; {note}: set the camera to H.264 to be safe")
    else:
        findings.ok(what, sends)
    await _tell_sound(f"{what} sound", audio, ffmpeg, sound, findings)


async def _tell_sound(what: str, audio: Audio, ffmpeg: Ffmpeg, sound: str, findings: Findings) -> None:
    """What stream.audio makes of the camera's sound."""
    setting = f"stream.audio: {audio}"
    if audio is Audio.NONE:
        findings.warn(what, f"left out ({setting}); YouTube shows no stream without sound, even silent")
    elif audio is Audio.SILENT or (audio is Audio.AUTO and not sound):
        findings.ok(what, f"a silent AAC track is sent ({setting})")
    elif sound == AAC and audio is not Audio.AAC:
        findings.ok(what, f"AAC, copied ({setting})")
    elif audio is not Audio.COPY and not sound:
        findings.fail(what, camera_failure("Stream map '0:a:0' matches no streams").reason.message)
    elif audio is not Audio.COPY:
        if await has_decoder(ffmpeg, sound):
            findings.ok(what, f"{_name(sound)} becomes AAC ({setting})")
        else:
            findings.fail(what, f"this ffmpeg cannot decode {_name(sound)}. Set stream.audio to silent or none.")
    elif not sound:
        findings.warn(what, f"none to copy ({setting}); YouTube shows no stream without sound: set auto or silent")
    elif sound in _COPIED_IN_VAIN:
        findings.warn(what, f"{_name(sound)}, copied ({setting}); servers drop it or play silence: set auto or aac")
    else:
        findings.fail(what, camera_failure(f"Audio codec {sound} not compatible with flv").reason.message)


def _name(codec: str) -> str:
    return _NAMES.get(codec, codec)
