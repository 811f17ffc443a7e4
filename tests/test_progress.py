"""What ffmpeg writes comes in any pieces and may be anything: the same lines and reports come out, within bounds."""

import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yiagent.model import Level, Progress
from yiagent.progress import (
    LINE_BURST,
    LINE_LENGTH,
    LINES_PER_S,
    LINES_TO_RESUME,
    LONGEST_LINE,
    MOST_HELD_BYTES,
    MOST_HELD_LINES,
    MOST_LANDMARKS,
    LineSieve,
    LineSplitter,
    ProgressParser,
    parse_message,
)

# Every length near the limit, and every kind of line end.
PIECES = st.lists(
    st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"a", "é€😀".encode(), b"\xff\xc3", b"\0"])
    | st.binary(max_size=20)
    | st.integers(LONGEST_LINE - 2, LONGEST_LINE + 2).map(lambda length: b"x" * length)
    | st.integers(2, 3).map(lambda times: b"y" * (times * LONGEST_LINE + 1)),
    max_size=6,
)
CUTS = st.lists(st.integers(0, 5 * LONGEST_LINE), max_size=8)


def _chunks(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in pairwise(edges)]


def _lines(chunks: Iterable[bytes]) -> list[tuple[str, bool]]:
    splitter = LineSplitter()
    return [line for chunk in [*chunks, b"\n"] for line in splitter.feed(chunk)]


@given(PIECES, CUTS)
def test_any_chunking_gives_the_same_lines(pieces: list[bytes], cuts: list[int]) -> None:
    """Where the pipe cuts does not matter: not in a line, a line end, a character, nor at the longest line."""
    data = b"".join(pieces)
    whole = [line for line in data.replace(b"\r", b"\n").split(b"\n") if line]
    expected = [(line[:LONGEST_LINE].decode("utf-8", "replace"), len(line) > LONGEST_LINE) for line in whole]
    assert _lines(_chunks(data, cuts)) == expected
    assert _lines([data]) == expected


@given(st.binary(max_size=60))
def test_bytes_one_by_one(data: bytes) -> None:
    """The smallest pieces there are."""
    assert _lines(data[at : at + 1] for at in range(len(data))) == _lines([data])


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n", b"\n\r", b"\r\r\n\n"])
def test_any_line_end(end: bytes) -> None:
    """ffmpeg overwrites its statistics with CR; what lies between two ends is no line."""
    assert _lines([b"one", end, b"two", end]) == [("one", False), ("two", False)]


@pytest.mark.parametrize(
    ("length", "cut"), [(LONGEST_LINE, False), (LONGEST_LINE + 1, True), (50 * LONGEST_LINE, True)]
)
@pytest.mark.parametrize("step", [1000, LONGEST_LINE, 1 << 20])
def test_a_line_too_long_is_cut_and_says_so(length: int, cut: bool, step: int) -> None:
    """What stands at a cut may be half a secret: whoever shows the line must know. The next line is whole again."""
    data = b"x" * length + b"\nnext\n"
    lines = _lines(data[at : at + step] for at in range(0, len(data), step))
    assert lines == [("x" * min(length, LONGEST_LINE), cut), ("next", False)]


def test_a_line_without_an_end_takes_no_memory() -> None:
    """A child that never ends its line, for as long as it likes, costs one line."""
    splitter, parser = LineSplitter(), ProgressParser()
    chunk = b"x" * 16384
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        lines = [line for _ in range(2000) for line in splitter.feed(chunk)]
        reports = [report for _ in range(2000) for report in parser.feed(chunk)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(len(text), cut) for text, cut in lines] == [(LONGEST_LINE, True)]
    assert reports == []
    assert after - before < 100_000


# --- progress -------------------------------------------------------------------------------------------------------

# Recorded with ffmpeg 5.1 and 7.1.
REPORTS = b"""frame=0
fps=0.00
stream_0_0_q=-1.0
bitrate= 131.5kbits/s
total_size=378
out_time_us=23000
out_time_ms=23000
out_time=00:00:00.023000
dup_frames=0
drop_frames=0
speed=2.3e+04x
progress=continue
frame=113
fps=20.35
stream_0_0_q=-1.0
bitrate= 736.4kbits/s
total_size=547871
out_time_us=5952000
out_time_ms=5952000
out_time=00:00:05.952000
dup_frames=0
drop_frames=3
speed=1.07x
progress=continue
frame=114
fps=20.00
total_size=N/A
speed=N/A
progress=continue
frame=115
fps=N/A
bitrate=N/A
total_size=560000
speed=N/A
progress=continue
frame=116
fps=20.00
total_size=570000
speed=1.0x
progress=end
"""
READ = [
    Progress(frames=0, total_bytes=378, fps=0.0, speed=None, dropped_frames=0, media_s=0.023),
    Progress(frames=113, total_bytes=547871, fps=20.35, speed=1.07, dropped_frames=3, media_s=5.952),
    Progress(frames=115, total_bytes=560000, fps=None, speed=None, dropped_frames=0),
]


def _reports(chunks: Iterable[bytes]) -> list[Progress]:
    parser = ProgressParser()
    return [report for chunk in chunks for report in parser.feed(chunk)]


def test_reports_as_ffmpeg_writes_them() -> None:
    """A figure not known yet is None; a report without frames or size tells nothing; the one that says `end` counts
    what ffmpeg tried to send as it ended, so it is no proof of anything."""
    assert _reports([REPORTS]) == READ


@given(CUTS, st.sampled_from([b"\n", b"\r\n"]))
def test_any_chunking_gives_the_same_reports(cuts: list[int], end: bytes) -> None:
    """Where the pipe cuts does not matter; a report comes with its last line, not later."""
    data = REPORTS.replace(b"\n", end)
    assert _reports(_chunks(data, cuts)) == READ
    parser = ProgressParser()
    assert parser.feed(data[: data.index(b"progress=continue")]) == []
    assert parser.feed(b"progress=continue\n") == READ[:1]


@given(st.lists(st.binary(max_size=30), max_size=8), CUTS)
def test_garbage_is_passed_over(garbage: list[bytes], cuts: list[int]) -> None:
    """Whatever stands between the reports: nothing raises, and no report is made up from it."""
    noise = b"".join(
        b"# " + piece.replace(b"\n", b"").replace(b"\r", b"").replace(b"=", b"") + b"\n" for piece in garbage
    )
    data = noise + REPORTS.replace(b"speed=", noise + b"=\n==\nspeed\nspeed=") + noise
    assert _reports(_chunks(data, cuts)) == READ


@given(st.binary(max_size=300), st.sampled_from(["frame", "total_size", "fps", "speed", "drop_frames"]))
def test_any_value_gives_sane_figures(value: bytes, key: str) -> None:
    """Counts are whole and not negative, rates are finite, whatever stands for them."""
    good = {"frame": "10", "total_size": "1000", "fps": "20.0", "speed": "1.0x", "drop_frames": "0"}
    lines = [f"{name}={text}".encode() for name, text in good.items() if name != key]
    data = b"\n".join([*lines, key.encode() + b"=" + value, b"progress=continue", b""])
    for report in _reports([data]):
        assert report.frames >= 0
        assert report.total_bytes >= 0
        assert report.dropped_frames >= 0
        assert report.fps is None or 0 <= report.fps < 1000
        assert report.speed is None or 0 <= report.speed < 1000


@pytest.mark.parametrize(
    "value", ["", "-1", "1.5", "N/A", "nan", "1e9", "0x10", "٣", "9" * 19, "9" * 5000, " ", "+1", "1_0"]
)
@pytest.mark.parametrize("key", ["frame", "total_size"])
def test_a_count_that_is_none(key: str, value: str) -> None:
    """A report with a frame count or a size that is no number is left out, and costs nothing: the next one counts."""
    good = "frame=1\ntotal_size=2\n"
    data = f"{good}{key}={value}\nprogress=continue\n{good}progress=continue\n"
    assert [(report.frames, report.total_bytes) for report in _reports([data.encode()])] == [(1, 2)]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e99", "2.3e+04", "9" * 400, "", "x"])
@pytest.mark.parametrize(("key", "unit"), [("fps", ""), ("speed", "x")])
def test_a_rate_that_is_none(key: str, unit: str, value: str) -> None:
    """No real figure is beyond a thousand; what is not known is None, never 0."""
    (report,) = _reports([f"frame=1\ntotal_size=2\n{key}={value}{unit}\nprogress=continue\n".encode()])
    assert (report.fps, report.speed) == (None, None)


def test_a_report_does_not_lend_to_the_next() -> None:
    """What a report leaves out is not known for it, though the one before had it."""
    first = b"frame=1\nfps=20\ntotal_size=2\nspeed=1x\ndrop_frames=4\nprogress=continue\n"
    assert _reports([first, b"frame=2\ntotal_size=3\nprogress=continue\n"])[1] == Progress(2, 3, None, None, 0)
    assert _reports([first, b"frame=2\nprogress=continue\n"])[1:] == []


# --- messages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "level", "component", "text"),
    [
        ("[info] Input #0, rtsp, from 'rtsp://h/a':", Level.DEBUG, "", "Input #0, rtsp, from 'rtsp://h/a':"),
        ("[info]   Stream #0:0: Video: h264", Level.DEBUG, "", "  Stream #0:0: Video: h264"),
        (
            "[rtsp @ 0x55c8f72a23c0] [warning] Stream #0: not enough frames",
            Level.WARNING,
            "rtsp",
            "Stream #0: not enough frames",
        ),
        (
            "[in#0/rtsp @ 0x55bcb9a19480] [error] Error during demuxing: Connection timed out",
            Level.ERROR,
            "in#0/rtsp",
            "Error during demuxing: Connection timed out",
        ),
        (
            "[vost#0:0/copy @ 0x1f] [error] Error submitting a packet to the muxer: Broken pipe",
            Level.ERROR,
            "vost#0:0/copy",
            "Error submitting a packet to the muxer: Broken pipe",
        ),
        (
            "[flv muxer @ 0x55a87d9dbf80] [Eval @ 0x7ffd7d2e9670] [error] Undefined constant",
            Level.ERROR,
            "flv muxer Eval",
            "Undefined constant",
        ),
        ("[fatal] Error opening output files: End of file", Level.ERROR, "", "Error opening output files: End of file"),
        ("[panic] x", Level.ERROR, "", "x"),
        ("[verbose] x", Level.DEBUG, "", "x"),
        ("[debug] x", Level.DEBUG, "", "x"),
        ("[trace] x", Level.DEBUG, "", "x"),
        ("[error] ", Level.ERROR, "", ""),
        ("[error]", Level.ERROR, "", ""),
        ("[tcp @ 0x1] [error] tcp://[::1]:1935 failed", Level.ERROR, "tcp", "tcp://[::1]:1935 failed"),
        ("Consider increasing the value", Level.WARNING, "", "Consider increasing the value"),
        (
            "ffmpeg: error while loading shared libraries",
            Level.WARNING,
            "",
            "ffmpeg: error while loading shared libraries",
        ),
        ("[h264 @ 0x1] no tag of a level", Level.WARNING, "", "[h264 @ 0x1] no tag of a level"),
        ("", Level.WARNING, "", ""),
    ],
)
def test_lines_of_every_version(line: str, level: Level, component: str, text: str) -> None:
    """Severity, who said it, and the text; no memory address. What has no tag is worth a warning."""
    message = parse_message(line)
    assert (message.level, message.component, message.text) == (level, component, text)
    assert message.line == (f"{component}: {text}" if component else text)


@given(st.text(max_size=200))
def test_any_line_is_a_message(line: str) -> None:
    """Nothing raises, and nothing is added to what was said."""
    message = parse_message(line)
    assert line.endswith(message.text)
    assert message.text in message.line
    tagged = parse_message(f"[error] {line}")
    assert tagged.level is not Level.WARNING or line.startswith("[")


@given(st.integers(0, 40))
def test_a_hostile_line_costs_little(times: int) -> None:
    """Brackets without end take no time that grows faster than the line."""
    assert parse_message("[a] " * times * 50 + "x").level is Level.WARNING
    assert parse_message("[" * times * 200).level is Level.WARNING


# --- more than can be taken in ---

MUCH = 5_000


def _flood(numbers: Iterable[int], width: int = 0) -> bytes:
    return "".join(f"[warning] line {number} {'x' * width}\n" for number in numbers).encode()


def _heard(lines: list[tuple[str, bool]]) -> list[int]:
    return [int(line.split()[2]) for line, _ in lines]


@given(PIECES, CUTS)
def test_what_can_be_taken_in_passes_a_sieve(pieces: list[bytes], cuts: list[int]) -> None:
    """It gives what the splitter gives, however the bytes come."""
    chunks = _chunks(b"".join(pieces), cuts)
    sieve = LineSieve(0.0)
    assert [line for chunk in [*chunks, b"\n"] for line in sieve.feed(chunk, 0.0)] == _lines(chunks)
    assert not sieve.leaves_out
    assert sieve.count_left_out() == 0


@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 2)), max_size=40), st.integers(0, 300))
def test_of_a_flood_only_whole_lines_are_heard(steps: list[tuple[int, float]], width: int) -> None:
    """In their order, no more than the limits, and together with those that are counted, all; the last one too."""
    data = _flood(range(MUCH), width)
    sieve = LineSieve(0.0)
    heard, left_out, now = [], 0, 0.0
    for size, seconds in steps:
        now += seconds
        piece, data = data[: size * 7], data[size * 7 :]
        heard += sieve.feed(piece, now)
        left_out += sieve.count_left_out()
        assert len(heard) <= LINE_BURST + now * LINES_PER_S
    heard += sieve.release()
    left_out += sieve.count_left_out()
    numbers = _heard(heard)
    came = MUCH - len(data.splitlines())
    assert numbers == sorted(set(numbers))
    assert {line for line, _ in heard} <= set(_flood(range(MUCH), width).decode().splitlines())
    assert came <= len(numbers) + left_out <= came + MOST_HELD_LINES * (1 + len(steps))
    assert not heard or numbers[-1] in (came - 1, came)


def test_after_a_flood_all_is_heard_again() -> None:
    """Once there is time for it, its last lines first."""
    sieve = LineSieve(0.0)
    assert _heard(sieve.feed(_flood(range(MUCH)), 0.0)) == list(range(LINE_BURST))
    assert sieve.leaves_out
    assert sieve.feed(_flood([MUCH]), LINES_TO_RESUME / LINES_PER_S / 2) == []
    lines = sieve.feed(_flood([MUCH + 1]), LINES_TO_RESUME / LINES_PER_S)
    assert _heard(lines) == list(range(MUCH + 1 - MOST_HELD_LINES, MUCH + 2))
    assert not sieve.leaves_out
    assert sieve.count_left_out() == MUCH + 1 - LINE_BURST - MOST_HELD_LINES


def test_long_lines_are_fewer() -> None:
    """It is their length that takes time."""
    sieve = LineSieve(0.0)
    count = LINE_BURST * LINE_LENGTH // LONGEST_LINE
    lines = [line for number in range(MUCH) for line in sieve.feed(_flood([number], LONGEST_LINE - 100), 0.0)]
    assert count <= len(lines) <= count + 1


def test_the_end_of_a_line_whose_beginning_is_gone_is_not_heard() -> None:
    """It may be the second half of a secret, which nobody would know."""
    sieve = LineSieve(0.0)
    sieve.feed(_flood(range(LINE_BURST + 1)), 0.0)
    sieve.feed(b"k" * (MOST_HELD_BYTES + 1), 0.0)
    assert sieve.release() == []
    assert sieve.feed(b"ey\n[warning] line 7\n", 60.0) == [("[warning] line 7", False)]


def test_a_line_that_a_flood_begins_in_is_whole() -> None:
    """What came of it before the flood is not lost."""
    sieve = LineSieve(0.0)
    sieve.feed(_flood(range(LINE_BURST)) + b"[warning] li", 0.0)
    assert sieve.feed(b"ne 7 \n", 0.0) == []
    assert _heard(sieve.release()) == [7]


def test_which_ends_are_open_is_heard_in_a_flood() -> None:
    """ffmpeg says so once in its life, perhaps amid thousands of complaints. Nor may this be a flood."""
    sieve = LineSieve(0.0)
    landmark = "[info] Output #0, flv, to 'rtmp://server/live':"
    flood = _flood(range(MUCH)) + f"{landmark}\n".encode() + _flood(range(MUCH))
    assert (landmark, False) in sieve.feed(flood, 0.0)
    assert len(sieve.feed(f"{landmark}\n".encode() * MUCH, 0.0)) == MOST_LANDMARKS - 1
    assert sieve.feed(f"{landmark}\n".encode() * MUCH, 0.0) == []
