"""One picture made by an ffmpeg that lives for a moment: of a keyframe, or of the camera in a session of its own."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from yiagent.child import TooMuchOutput, run_through
from yiagent.diagnosis import Diagnosis
from yiagent.ffmpeg import Capabilities, Job, Plan, camera_picture_arguments, keyframe_picture_arguments
from yiagent.guard import Guard
from yiagent.installed import FfmpegUnusable, InstalledFfmpeg, cannot_start
from yiagent.memory import REMUX_OOM_SCORE, offer_to_oom_killer, oom_kills, was_killed_for_memory
from yiagent.model import Channel, Level, Origin, ReasonCode
from yiagent.progress import parse_message
from yiagent.redact import Redactor, Secret
from yiagent.settings import Config
from yiagent.store import Journal

# A keyframe is decoded in 0.1 s, on a camera in a few.
DECODE_TIMEOUT_S: Final = 10.0
# A session has to wait for the camera's next keyframe.
SESSION_TIMEOUT_S: Final = 15.0
MOST_JPEG_BYTES: Final = 2 << 20
NICENESS: Final = 10
_JPEG_BEGIN: Final = b"\xff\xd8"
_JPEG_END: Final = b"\xff\xd9"
# What a failure of ffmpeg can mean besides what it says of the camera.
_OF_THIS_MACHINE: Final = frozenset({ReasonCode.OUT_OF_MEMORY, ReasonCode.FFMPEG_MISSING})


class NoPicture(Exception):
    """None could be taken; the message says why, for the owner."""


class Stills:
    """Makes JPEGs, one at a time: its ffmpeg is the only one of its kind that the guard watches."""

    def __init__(
        self, *, config: Config, ffmpeg: InstalledFfmpeg, journal: Journal, redactor: Redactor, guard: Guard
    ) -> None:
        self._job = _job(config)
        self._ffmpeg = ffmpeg
        self._journal = journal
        self._redactor = redactor
        self._guard = guard

    async def can_pick_keyframes(self) -> bool:
        """Whether a remux by the installed ffmpeg hands on its keyframes. Raises `NoPicture`."""
        return (await self._capabilities()).picks_keyframes

    async def of_camera(self) -> bytes:
        """What it shows now. Raises `NoPicture`."""
        arguments = camera_picture_arguments(self._job, Plan(None), await self._capabilities())
        return await self._run(arguments, None, SESSION_TIMEOUT_S)

    async def of_keyframe(self, flv: bytes) -> bytes:
        """What the keyframe in this FLV file shows. Raises `NoPicture`."""
        return await self._run(keyframe_picture_arguments(), flv, DECODE_TIMEOUT_S)

    async def _capabilities(self) -> Capabilities:
        try:
            return await self._ffmpeg.capabilities()
        except FfmpegUnusable as error:
            raise NoPicture(error.failure.reason.message) from None

    async def _run(self, arguments: list[str], data: bytes | None, timeout_s: float) -> bytes:
        diagnosis = Diagnosis(encrypted=False, redactor=self._redactor)
        last: tuple[str, bool] = "", False

        def heard(line: str, cut: bool) -> None:
            nonlocal last
            message = parse_message(line)
            diagnosis.hear(message, cut=cut)
            last = message.line, cut

        kills = oom_kills()
        try:
            status, jpeg = await run_through(
                [self._ffmpeg.program, *arguments],
                data,
                timeout_s=timeout_s,
                most_bytes=MOST_JPEG_BYTES,
                on_start=self._started,
                on_line=heard,
            )
        except OSError as error:
            raise NoPicture(cannot_start(self._ffmpeg.program, error).failure.reason.message) from None
        except TooMuchOutput:
            raise NoPicture(f"it is longer than {MOST_JPEG_BYTES >> 20} MB") from None
        finally:
            self._guard.watch([], of="picture")
        # Not by its status: ffmpeg 5.1 gives a good picture with a bad one where the first packets could not be used.
        if jpeg.startswith(_JPEG_BEGIN) and jpeg.endswith(_JPEG_END):
            return jpeg
        self._journal.add(Level.DEBUG, Origin.FFMPEG, f"The last line of a picture's: {last[0]}", cut=last[1])
        raise NoPicture(_why(diagnosis, status, of_camera=data is None, kills=kills, timeout_s=timeout_s))

    def _started(self, pid: int) -> None:
        self._guard.watch([pid], of="picture")
        offer_to_oom_killer(pid, REMUX_OOM_SCORE)
        with contextlib.suppress(OSError):
            # The stream goes first.
            os.setpriority(os.PRIO_PROCESS, pid, NICENESS)


def _why(diagnosis: Diagnosis, status: int | None, *, of_camera: bool, kills: int | None, timeout_s: float) -> str:
    """Why ffmpeg gave no picture, in words."""
    if status is not None:
        failure = diagnosis.ended(status, flowed=False, killed_for_memory=lambda: was_killed_for_memory(kills))
        code, message = failure.reason.code, failure.reason.message
        of_its_own = code in _OF_THIS_MACHINE or status < 0
        if of_its_own or (of_camera and (not diagnosis.input_open or code is ReasonCode.SOURCE_NO_VIDEO)):
            return message
        return "ffmpeg cannot make one of what the camera sends; with log.level: debug the log has its last line"
    if of_camera and not diagnosis.input_open:
        return diagnosis.late().reason.message
    what = "the camera sent none that is whole" if of_camera else "ffmpeg did not finish decoding it"
    return f"{what} within {timeout_s:.0f} s"


def _job(config: Config) -> Job:
    """The camera, at the channel that costs it least. There is no server in it."""
    source = config.source
    channel = Channel.SD if source.sd is not None else Channel.HD
    url = source.url(channel)
    assert url is not None
    return Job(
        channel=channel,
        source=url,
        username=source.username,
        password=source.password,
        transport=source.transport,
        audio=config.stream.audio,
        server="",
        key=Secret(""),
        stall_timeout_s=config.stream.stall_timeout_s,
    )
