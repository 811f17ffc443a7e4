"""What the log tells of the stream: each thing once, its repeats at `debug`, and its end with the figures."""

from __future__ import annotations

import time

from yiagent.events import Event, Exited, Flowing, Uplink, Wanted
from yiagent.ffmpeg import Job
from yiagent.machine import UPLINK_SLOW, State
from yiagent.model import Failure, Level, Phase, Reason, ReasonCode
from yiagent.store import Journal
from yiagent.urls import parse_server

_NO_MEMORY = "this machine has not enough memory for HD"


class Narrator:
    """Follows the transitions of one supervisor."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._same_failures = 0
        self._told: Reason | None = None
        self._failed_at: float | None = None
        self._told_no_room = False

    def heard(self, level: Level) -> Level:
        """How severe a line of ffmpeg's is just now: of a failure told already, it is for those who look for it."""
        return Level.DEBUG if self._same_failures > 1 else level

    def tell(self, before: State, event: Event, state: State, job: Job | None) -> None:
        """Tell what `event` changed; `job` is what runs or is about to."""
        if isinstance(event, Uplink) and state.slow is not before.slow and state.phase is Phase.STREAMING:
            if state.slow:
                self._journal.warning(f"uplink_slow: {UPLINK_SLOW.message}")
            else:
                self._journal.info("The connection to the server carries the bit rate again")
        self._tell_channel(before, event, state)
        if state.phase is before.phase and state.failure == before.failure:
            return
        if state.phase is Phase.STREAMING:
            self._tell_streaming(before, job)
        elif state.phase is Phase.STARTING and job is not None:
            what = f"Starting: {job.channel} to {parse_server(job.server).masked}"
            (self._journal.debug if self._same_failures else self._journal.info)(what)
        elif state.phase is Phase.IDLE:
            self._journal.info("Stopped")
        elif state.phase is Phase.STOPPING:
            self._journal.debug("Ending ffmpeg")
        if state.failure is not None and (state.failure != before.failure or isinstance(event, Exited)):
            is_try = isinstance(event, Exited) and state.phase in (Phase.BACKING_OFF, Phase.FAILED)
            self._tell_failure(state.failure, is_try=is_try)
        if state.phase is Phase.IDLE:
            self._forget()

    def tell_room(self, *, has_room: bool) -> None:
        """Tell that HD is launched in want of memory, there being nothing lesser: once, until a launch has room."""
        if not has_room and not self._told_no_room:
            self._journal.warning(
                "HD is started with hardly any memory left: the kernel may end ffmpeg or another program for it."
                " channel/set sd needs less"
            )
        self._told_no_room = not has_room

    def _tell_channel(self, before: State, event: Event, state: State) -> None:
        """What `channel: auto` does, and why: each change is a restart that the viewers see."""
        if state.stepped_down and not before.stepped_down:
            if isinstance(event, Wanted) or _is_for_memory(state):
                why = _NO_MEMORY
            elif isinstance(event, Flowing) or before.slow:
                why = "the connection to the server does not carry HD"
            else:
                why = "the try in HD failed"
            self._journal.warning(f"channel auto: going on in SD, because {why}. HD is tried again in {_wait(state)}")
        elif before.stepped_down and state.better_at > before.better_at:
            self._journal.debug(f"channel auto: still in SD, because {_NO_MEMORY}. HD is tried again in {_wait(state)}")
        elif state.trying and not before.trying:
            self._journal.info("channel auto: trying HD again")

    def _tell_streaming(self, before: State, job: Job | None) -> None:
        channel = job.channel if job is not None else ""
        if before.phase is Phase.STALLED:
            self._journal.info("Video flows again")
        elif self._failed_at is not None:
            seconds = round(time.monotonic() - self._failed_at)
            tries = f"{self._same_failures} failed {'try' if self._same_failures == 1 else 'tries'}"
            self._journal.info(f"On air again ({channel}), {seconds} s and {tries} later")
        else:
            self._journal.info(f"On air ({channel})")
        self._forget()

    def _tell_failure(self, failure: Failure, *, is_try: bool) -> None:
        if self._failed_at is None:
            self._failed_at = time.monotonic()
        if is_try:
            self._same_failures += 1
        reason = failure.reason
        if reason == self._told:
            self._journal.debug(f"{reason.code}: still, after {self._same_failures} tries")
            return
        self._told = reason
        self._same_failures = min(self._same_failures, 1)
        say = self._journal.error if failure.needs_person else self._journal.warning
        say(f"{reason.code}: {reason.message}")

    def _forget(self) -> None:
        self._same_failures, self._told, self._failed_at = 0, None, None


def _is_for_memory(state: State) -> bool:
    return state.failure is not None and state.failure.reason.code is ReasonCode.OUT_OF_MEMORY


def _wait(state: State) -> str:
    minutes = round((state.better_at - time.monotonic()) / 60)
    return f"{minutes} minute{'' if minutes == 1 else 's'}"
