"""Whether media leaves, and whether the way to the server carries it: judged from counters, look by look. Pure."""

from __future__ import annotations

from typing import Final

from yiagent.model import Progress

# Metadata and the codecs' headers: 250 to 720 bytes were measured (ffmpeg 5.1 to 9.0).
HEADER_BYTES: Final = 1000
# ffmpeg counts FLV, the queue counts RTMP, which takes 2.7 % less (measured): so much seems taken by a server that
# takes nothing. An uplink that carries a tenth of the bit rate is still seen to move.
COUNTING_ERROR: Final = 0.08
# Healthy, the queue is empty in 99 of 100 looks; one that was never empty for this long is an uplink too slow.
SLOW_AFTER_S: Final = 3.0
# And one that was empty at so many looks in a row is none any more.
FAST_AFTER_LOOKS: Final = 4
# Where the queue cannot be seen, ffmpeg's own pace has to do: once its buffers are full, it writes no faster than the
# server takes. Measured over so many seconds at a time; media that stands still altogether is a stall, not slow.
PACE_WINDOW_S: Final = 5.0
SLOW_PACE: Final = 0.8
SLOW_WINDOWS: Final = 2


class FlowMeter:
    """Looks at one launch of ffmpeg, twice a second or so."""

    def __init__(self) -> None:
        self._queued: int | None = None
        self._taken = 0
        self._written = 0
        self._frames = 0
        self._queued_since: float | None = None
        self._empty_looks = 0
        self._flowed = False
        self._slow = False
        self._pace_from: tuple[float, float] | None = None
        self._slow_windows = 0

    @property
    def flowed(self) -> bool:
        """Whether media has ever left."""
        return self._flowed

    @property
    def is_queueing(self) -> bool:
        """Whether what was written stood in the kernel's queue at the last look: then the server does not take it."""
        return bool(self._queued)

    @property
    def is_slow(self) -> bool:
        """Whether the way to the server does not carry what is sent."""
        return self._slow

    def look(self, progress: Progress, queued: int | None, now: float) -> bool:
        """Whether media has left since the last look. `queued`: bytes in the send queue, None where it cannot be seen.

        What the server's kernel has taken is what ffmpeg wrote less what stands in the queue. A server that will refuse
        the stream has taken its header as well, and frames are counted without a byte leaving (ffmpeg 7): only what
        grows beyond the header counts. With an empty queue frames must have come too, or the camera is frozen under a
        generated sound track; with a full one they only wait their turn.
        """
        self._queued = queued
        if queued is None:
            self._judge_pace(progress.media_s, now)
        else:
            self._judge_queue(now)
        written = progress.total_bytes
        taken = written - (queued or 0)
        is_moving = taken - self._taken > max(0, written - self._written) * COUNTING_ERROR
        if taken <= HEADER_BYTES or not is_moving or not (queued or progress.frames > self._frames):
            return False
        # The first time is only a mark to measure from.
        is_first = self._taken == 0
        self._taken, self._written, self._frames = taken, written, progress.frames
        self._flowed = not is_first
        return self._flowed

    def _judge_pace(self, media_s: float | None, now: float) -> None:
        if media_s is None or self._pace_from is None:
            self._pace_from = (now, media_s) if media_s is not None else None
            return
        since, media_then_s = self._pace_from
        if now - since >= PACE_WINDOW_S:
            pace = (media_s - media_then_s) / (now - since)
            self._slow_windows = self._slow_windows + 1 if 0 < pace < SLOW_PACE else 0
            self._slow = self._slow_windows >= SLOW_WINDOWS
            self._pace_from = (now, media_s)

    def _judge_queue(self, now: float) -> None:
        if self._queued:
            self._empty_looks = 0
            if self._queued_since is None:
                self._queued_since = now
            self._slow = self._slow or now - self._queued_since >= SLOW_AFTER_S
        else:
            self._empty_looks += 1
            self._queued_since = None
            self._slow = self._slow and self._empty_looks < FAST_AFTER_LOOKS
