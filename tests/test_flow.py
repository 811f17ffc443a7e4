"""Whether media leaves is judged by what the server's kernel took, not by what ffmpeg counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from yiagent.flow import (
    FAST_AFTER_LOOKS,
    HEADER_BYTES,
    PACE_WINDOW_S,
    SLOW_AFTER_S,
    SLOW_WINDOWS,
    FlowMeter,
)
from yiagent.model import Progress

PERIOD_S = 0.5
# 1 Mbit/s at 16 frames a second, for half a second.
STEP_BYTES = 62_500
STEP_FRAMES = 8


def run(
    looks: int, written: Callable[[int], int], frames: Callable[[int], int], queued: Callable[[int], int | None]
) -> tuple[FlowMeter, list[bool]]:
    """The meter after so many looks, and which of them saw media leave."""
    meter = FlowMeter()
    moved = [
        meter.look(Progress(frames(n), written(n), None, None, 0), queued(n), n * PERIOD_S) for n in range(1, looks + 1)
    ]
    return meter, moved


def test_a_healthy_stream_moves_at_every_look_but_the_first() -> None:
    """The first look is the mark from which the second measures."""
    meter, moved = run(10, lambda n: n * STEP_BYTES, lambda n: n * STEP_FRAMES, lambda n: 0)
    assert moved == [False] + [True] * 9
    assert meter.flowed
    assert not meter.is_slow


@pytest.mark.parametrize("queued", [0, None])
def test_a_header_is_not_media(queued: int | None) -> None:
    """A server that will refuse the stream takes its header, while ffmpeg 7 counts frames."""
    meter, moved = run(20, lambda n: min(n * 378, HEADER_BYTES), lambda n: n * STEP_FRAMES, lambda n: queued)
    assert not any(moved)
    assert not meter.flowed


def pace(seconds: int, media_s: Callable[[int], float]) -> FlowMeter:
    """The meter after looks at a run whose queue cannot be seen, one a second."""
    meter = FlowMeter()
    for n in range(1, seconds + 1):
        meter.look(Progress(n * 16, n * 2 * STEP_BYTES, None, None, 0, media_s(n)), None, float(n))
    return meter


def test_where_no_queue_can_be_seen_the_pace_tells_a_slow_uplink() -> None:
    """Half the media a second for ten seconds is slow; the pace of a live camera is not, nor is standing still."""
    assert pace(int(PACE_WINDOW_S * SLOW_WINDOWS) + 1, lambda n: n * 0.5).is_slow
    assert not pace(int(PACE_WINDOW_S * SLOW_WINDOWS), lambda n: n * 0.5).is_slow
    assert not pace(60, lambda n: float(n)).is_slow
    assert not pace(60, lambda n: float(min(n, 20))).is_slow
    assert not pace(60, lambda n: n * 0.5 if n < 30 else 15.0 + n - 30).is_slow


@pytest.mark.parametrize("queued", [0, None])
def test_a_sound_track_alone_is_no_life(queued: int | None) -> None:
    """A camera that freezes under a generated sound track sends no frames, though bytes go on leaving."""
    _, moved = run(20, lambda n: n * STEP_BYTES, lambda n: min(n, 5) * STEP_FRAMES, lambda n: queued)
    assert moved == [False] + [True] * 4 + [False] * 15


def test_a_frozen_server_takes_nothing_though_all_counters_grow() -> None:
    """All that is written stands in the queue, less the 2.7 % by which FLV is larger than RTMP."""
    meter, moved = run(
        30,
        lambda n: n * STEP_BYTES,
        lambda n: n * STEP_FRAMES,
        lambda n: int(max(0, n - 10) * STEP_BYTES * 0.973),
    )
    assert moved[1:10] == [True] * 9
    assert not any(moved[11:])
    assert meter.is_slow
    assert meter.is_queueing


@pytest.mark.parametrize("share", [0.5, 0.34, 0.2, 0.12])
def test_a_slow_uplink_moves(share: float) -> None:
    """An uplink that carries only a part of the bit rate is slow, and is seen to move at nearly every look."""
    meter, moved = run(
        60,
        lambda n: n * STEP_BYTES,
        lambda n: n * STEP_FRAMES,
        lambda n: int(n * STEP_BYTES * (1 - share)),
    )
    assert meter.is_slow
    assert sum(moved) >= 55


def test_a_blocked_ffmpeg_moves_while_its_queue_drains() -> None:
    """With full buffers ffmpeg reports nothing for seconds; what drains meanwhile is media that leaves."""
    meter = FlowMeter()
    assert not meter.look(Progress(100, 1_000_000, None, None, 0), 500_000, 0.0)
    assert all(
        meter.look(Progress(100, 1_000_000, None, None, 0), 500_000 - n * 20_000, n * PERIOD_S) for n in range(1, 20)
    )


def test_slow_is_told_after_a_while_and_taken_back_after_a_while() -> None:
    """One look at a queue that is not empty is no slow uplink, and one at an empty one is no fast one."""
    meter = FlowMeter()
    looks = int(SLOW_AFTER_S / PERIOD_S)
    for n in range(looks):
        meter.look(Progress(n, n * STEP_BYTES, None, None, 0), 1, n * PERIOD_S)
        assert not meter.is_slow
    meter.look(Progress(looks, looks * STEP_BYTES, None, None, 0), 1, looks * PERIOD_S)
    assert meter.is_slow
    for n in range(1, FAST_AFTER_LOOKS):
        meter.look(Progress(looks + n, (looks + n) * STEP_BYTES, None, None, 0), 0, 100 + n * PERIOD_S)
        assert meter.is_slow
    meter.look(Progress(99, 99 * STEP_BYTES, None, None, 0), 0, 110)
    assert not meter.is_slow
