"""The arithmetic of `scripts/bench telemetry`, and the ffmpeg that talks for it."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.bench.process import Memory, memory_of, parse_rollup, processor_s
from tests.bench.talker import Kind, Talker
from tests.bench.telemetry import delays_ms, publish_bytes
from tests.peers.broker import Message

ROLLUP = """\
55e0c0a00000-7ffd3c5f2000 ---p 00000000 00:00 0                          [rollup]
Rss:               20480 kB
Pss:               15360 kB
Pss_Dirty:          9216 kB
Private_Clean:      2048 kB
Private_Dirty:     10240 kB
"""


@pytest.mark.parametrize(("payload", "length"), [(0, 8), (121, 129), (122, 131), (349, 358)])
def test_length_of_a_publication(payload: int, length: int) -> None:
    """One byte of kind, one or two of length (two from 128 on), two and the topic, one of properties, the payload."""
    assert publish_bytes("a/b", b"x" * payload) == length


def test_delay_of_a_line() -> None:
    """Against the moment it tells, in letters for digits; on one topic, and only lines that tell one."""

    def heard(topic: str, payload: bytes) -> Message:
        return Message(topic, payload, 0, False, 12.345_678)

    messages = [
        heard("log", b'{"message":"said at bcdeegggaaa"}'),
        heard("log", b'{"message":"On air (hd)"}'),
        heard("other", b"[warning] said at bcdeegggaaa"),
    ]
    assert delays_ms(messages, "log") == [pytest.approx(12_345.678 - 12_344.666)]


def test_memory_as_the_kernel_counts_it() -> None:
    """In MB; and a real one's can be read."""
    assert parse_rollup(ROLLUP) == Memory(20.0, 15.0, 10.0)
    assert memory_of(os.getpid()).rss_mb > memory_of(os.getpid()).private_dirty_mb > 0


def test_processor_time_of_a_process() -> None:
    """The same clock as its own, read from outside."""
    before = time.process_time()
    assert before <= processor_s(os.getpid()) <= time.process_time()


@pytest.mark.parametrize("kind", [Kind.NEW, Kind.SAME])
def test_what_the_talker_says(tmp_path: Path, kind: Kind) -> None:
    """As many lines as it counts, all different whatever their digits, or all equal."""
    talker = Talker(tmp_path)
    with subprocess.Popen(talker.alone, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            talker.talk(kind, 1000)
            lines = [process.stderr.readline() for _ in range(100)]
            assert talker.written >= 80
        finally:
            process.kill()
    different = {line.translate(str.maketrans("", "", "0123456789")) for line in lines}
    assert len(different) == (100 if kind is Kind.NEW else 1)
