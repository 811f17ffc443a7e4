"""Pictures of what the camera shows: asked for by command, and taken by themselves while it streams.

One is the latest keyframe of the running remux, decoded by an ffmpeg that lives for a moment. Only where no remux runs,
or where the installed ffmpeg cannot hand on keyframes, the camera is asked in a short session of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from math import inf
from typing import Final

from yiagent.commands import RefusalCode, Refused
from yiagent.model import Phase, Picture
from yiagent.redact import Redactor
from yiagent.still import NoPicture, Stills
from yiagent.store import Journal, Store
from yiagent.supervisor import Supervisor
from yiagent.tap import Tap

# While streaming, one is taken by itself this often; after a new start sooner, but not more often than every so many.
PERIOD_S: Final = 60.0
LEAST_PERIOD_S: Final = 10.0
# For how long a request waits for the first keyframe of a remux that has just been launched.
KEYFRAME_TIMEOUT_S: Final = 10.0
_UP: Final = frozenset({Phase.STREAMING, Phase.STALLED})


class Pictures:
    """Takes pictures and puts them in `store`, one at a time."""

    def __init__(
        self, *, stills: Stills, supervisor: Supervisor, store: Store, journal: Journal, redactor: Redactor
    ) -> None:
        self._stills = stills
        self._supervisor = supervisor
        self._store = store
        self._journal = journal
        self._redactor = redactor
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
            if tap is None or not tap.has_keyframe or self._supervisor.state.phase is not Phase.STREAMING:
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
            if self._stopping:
                return
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
        picks_keyframes = await self._stills.can_pick_keyframes()
        self._store.put_picture(await self._picture(picks_keyframes=picks_keyframes))

    # --- where it comes from ---

    async def _picture(self, *, picks_keyframes: bool) -> Picture:
        deadline = time.monotonic() + KEYFRAME_TIMEOUT_S
        while True:
            self._news.clear()
            supervisor = self._supervisor
            tap = supervisor.tap
            if tap is not None and (keyframe := tap.keyframe) is not None:
                # As old as the keyframe is: with a camera that stands still, some seconds.
                ts = time.time() - tap.age_s
                return Picture(await self._stills.of_keyframe(keyframe), ts)
            if supervisor.active_channel is None:
                picture = await self._of_idle_camera()
                if picture is not None:
                    return picture
            elif supervisor.state.phase in _UP and not picks_keyframes:
                return await self._of_camera()
            elif (left_s := deadline - time.monotonic()) <= 0:
                raise NoPicture("the stream is starting, and no picture has come from the camera yet")
            else:
                await self._wait(left_s)

    async def _of_idle_camera(self) -> Picture | None:
        """By a session of its own; None where it made way for a remux, which will bring a keyframe itself."""
        session = asyncio.create_task(self._of_camera())
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

    async def _of_camera(self) -> Picture:
        jpeg = await self._stills.of_camera()
        return Picture(jpeg, time.time())

    async def _wait(self, longest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._news.wait()
