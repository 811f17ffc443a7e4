"""Pictures of what the camera shows: asked for by command, and taken by themselves while it streams.

One is the latest keyframe of the running remux, decoded by an ffmpeg that lives for a moment. Only where no remux runs,
or where the installed ffmpeg cannot hand on keyframes, the camera is asked in a short session of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from math import inf
from typing import Final

from yiagent.child import run_through
from yiagent.commands import RefusalCode, Refused
from yiagent.diagnosis import Diagnosis
from yiagent.ffmpeg import Capabilities, Job, Plan, camera_picture_arguments, keyframe_picture_arguments
from yiagent.guard import Guard
from yiagent.installed import FfmpegUnusable, InstalledFfmpeg, cannot_start
from yiagent.memory import REMUX_OOM_SCORE, offer_to_oom_killer, oom_kills
from yiagent.model import Channel, Level, Origin, Phase, Picture, ReasonCode
from yiagent.progress import parse_message
from yiagent.redact import Redactor, Secret
from yiagent.settings import Config
from yiagent.store import Journal, Store
from yiagent.supervisor import Supervisor
from yiagent.tap import Tap

# While streaming, one is taken by itself this often; after a new start sooner, but not more often than every so many.
PERIOD_S: Final = 60.0
LEAST_PERIOD_S: Final = 10.0
# A keyframe is decoded in 0.1 s, on a camera in a few.
DECODE_TIMEOUT_S: Final = 10.0
# A session has to wait for the camera's next keyframe.
SESSION_TIMEOUT_S: Final = 15.0
# For how long a request waits for the first keyframe of a remux that has just been launched.
KEYFRAME_TIMEOUT_S: Final = 10.0
MOST_JPEG_BYTES: Final = 2 << 20
NICENESS: Final = 10
_JPEG_BEGIN: Final = b"\xff\xd8"
_JPEG_END: Final = b"\xff\xd9"
# What a failure of ffmpeg can mean besides what it says of the camera.
_OF_THIS_MACHINE: Final = frozenset({ReasonCode.OUT_OF_MEMORY, ReasonCode.FFMPEG_MISSING})
_UP: Final = frozenset({Phase.STREAMING, Phase.STALLED})


class NoPicture(Exception):
    """None could be taken; the message says why, for the owner."""


class Pictures:
    """Takes pictures and puts them in `store`, one at a time."""

    def __init__(
        self,
        *,
        config: Config,
        ffmpeg: InstalledFfmpeg,
        supervisor: Supervisor,
        store: Store,
        journal: Journal,
        redactor: Redactor,
        guard: Guard,
    ) -> None:
        self._job = _job(config)
        self._ffmpeg = ffmpeg
        self._supervisor = supervisor
        self._store = store
        self._journal = journal
        self._redactor = redactor
        self._guard = guard
        self._news = asyncio.Event()
        self._taking: asyncio.Task[None] | None = None
        self._failing = False
        self._stopping = False
        # A phase that changes is a new snapshot.
        store.listen(self._news.set)

    def news(self) -> None:
        """There is a new keyframe."""
        self._news.set()

    async def take(self) -> None:
        """Take a picture, or wait for the one that is being taken. Raises `Refused`."""
        if self._taking is None or self._taking.done():
            self._taking = asyncio.create_task(self._take())
            # Whoever waited for it may be gone.
            self._taking.add_done_callback(lambda task: task.cancelled() or task.exception())
        taking = self._taking
        try:
            # Somebody who waits no longer must not take it from the others.
            await asyncio.shield(taking)
        except NoPicture as error:
            message = self._redactor.redact(f"no picture could be taken: {error}")
            raise Refused(RefusalCode.NOT_AVAILABLE, message) from None
        except asyncio.CancelledError:
            if not (self._stopping and taking.cancelled()):
                raise
            raise Refused(RefusalCode.NOT_AVAILABLE, "no picture could be taken: the agent is stopping") from None

    async def run(self) -> None:
        """Take one soon after media begins to flow, and then now and then. Ends only by cancellation."""
        seen: Tap | None = None
        last_at, due_at = -inf, inf
        while True:
            self._news.clear()
            tap, now = self._supervisor.tap, time.monotonic()
            # Only from a remux that hands on its keyframes: nobody asked for a second session on the camera.
            if tap is None or tap.keyframe is None or self._supervisor.state.phase is not Phase.STREAMING:
                await self._news.wait()
                continue
            if tap is not seen:
                seen, due_at = tap, max(now, last_at + LEAST_PERIOD_S)
            if now >= due_at:
                last_at, due_at = now, now + PERIOD_S
                await self._take_by_itself()
            else:
                await self._wait(due_at - now)

    async def stop(self) -> None:
        """End what is being taken, with its ffmpeg; none is taken after this."""
        self._stopping = True
        self._store.forget(self._news.set)
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)

    async def _take_by_itself(self) -> None:
        try:
            await self.take()
        except Refused as refused:
            say = self._journal.debug if self._failing else self._journal.warning
            say(f"While streaming, {refused.message}")
            self._failing = True
        else:
            if self._failing:
                self._journal.info("Pictures are taken again")
            self._failing = False

    async def _take(self) -> None:
        if self._stopping:
            raise NoPicture("the agent is stopping")
        try:
            capabilities = await self._ffmpeg.capabilities()
            self._store.put_picture(await self._picture(capabilities))
        except FfmpegUnusable as error:
            raise NoPicture(error.failure.reason.message) from None
        except OSError as error:
            raise NoPicture(cannot_start(self._ffmpeg.program, error).failure.reason.message) from None

    # --- where it comes from ---

    async def _picture(self, capabilities: Capabilities) -> Picture:
        deadline = time.monotonic() + KEYFRAME_TIMEOUT_S
        while True:
            self._news.clear()
            supervisor = self._supervisor
            tap = supervisor.tap
            if tap is not None and (keyframe := tap.keyframe) is not None:
                # As old as the keyframe is: with a camera that stands still, some seconds.
                return Picture(await self._decode(keyframe), time.time() - tap.age_s)
            if supervisor.active_channel is None:
                picture = await self._of_idle_camera(capabilities)
                if picture is not None:
                    return picture
            elif supervisor.state.phase in _UP and not capabilities.picks_keyframes:
                return await self._of_camera(capabilities)
            elif (left_s := deadline - time.monotonic()) <= 0:
                raise NoPicture("the stream is starting, and no picture has come from the camera yet")
            else:
                await self._wait(left_s)

    async def _of_idle_camera(self, capabilities: Capabilities) -> Picture | None:
        """By a session of its own; None where it made way for a remux, which will bring a keyframe itself."""
        session = asyncio.create_task(self._of_camera(capabilities))
        session.add_done_callback(lambda _: self._news.set())
        try:
            while not session.done():
                self._news.clear()
                if self._supervisor.active_channel is not None:
                    return None
                await self._news.wait()
            return session.result()
        finally:
            session.cancel()
            await asyncio.gather(session, return_exceptions=True)

    async def _of_camera(self, capabilities: Capabilities) -> Picture:
        arguments = camera_picture_arguments(self._job, Plan(None), capabilities)
        jpeg = await self._run(arguments, None, SESSION_TIMEOUT_S)
        return Picture(jpeg, time.time())

    async def _decode(self, keyframe: bytes) -> bytes:
        return await self._run(keyframe_picture_arguments(), keyframe, DECODE_TIMEOUT_S)

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

    async def _wait(self, longest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._news.wait()


def _why(diagnosis: Diagnosis, status: int | None, *, of_camera: bool, kills: int | None, timeout_s: float) -> str:
    """Why ffmpeg gave no picture, in words."""
    if status is not None:
        failure = diagnosis.ended(status, flowed=False, killed_for_memory=lambda: oom_kills() != kills)
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
