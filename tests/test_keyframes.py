"""The keeper of keyframes: the latest one, whole, from any pieces; bounded and silent whatever comes in."""

import subprocess
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peers.process import find_program
from yiagent.keyframes import MOST_TAG_BYTES, KeyframeKeeper

HEADER = b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"
SEQUENCE = b"\x17\x00\x00\x00\x00the parameter sets"
KEYFRAME = b"\x17\x01\x00\x00\x00a picture"
ANOTHER = b"\x17\x01\x00\x00\x00another picture"
BETWEEN = b"\x27\x01\x00\x00\x00what changed"
# What ffmpeg writes at the end of a stream; it calls itself a keyframe.
THE_END = b"\x17\x02\x00\x00\x00"
ENHANCED_SEQUENCE = b"\x90hvc1the parameter sets"
ENHANCED_KEYFRAME = b"\x91hvc1\x00\x00\x00a picture"
ENHANCED_KEYFRAME_X = b"\x93hvc1a picture"


def tag(body: bytes, kind: int = 9) -> bytes:
    """One tag as it stands in a file: with its length in front and behind."""
    head = bytes([kind]) + len(body).to_bytes(3, "big") + bytes(7)
    return head + body + (len(head) + len(body)).to_bytes(4, "big")


def stream(*bodies: bytes) -> bytes:
    return HEADER + b"".join(map(tag, bodies))


def kept(data: bytes) -> bytes | None:
    keeper = KeyframeKeeper()
    keeper.feed(data)
    return keeper.flv


def alone(*bodies: bytes) -> bytes:
    """The file that is kept: it says that it holds video alone."""
    return HEADER[:4] + b"\x01" + HEADER[5:] + b"".join(map(tag, bodies))


def test_the_latest_keyframe_is_kept_with_its_sequence_header() -> None:
    """What a decoder needs and no more; sound, metadata and what is no keyframe are left out."""
    keeper = KeyframeKeeper()
    assert not keeper.feed(HEADER + tag(b"metadata", 18) + tag(SEQUENCE))
    assert keeper.flv is None
    assert keeper.feed(tag(KEYFRAME) + tag(b"\xaf\x01sound", 8) + tag(BETWEEN))
    assert keeper.flv == alone(SEQUENCE, KEYFRAME)
    assert not keeper.feed(tag(BETWEEN) + tag(THE_END))
    assert keeper.flv == alone(SEQUENCE, KEYFRAME)
    assert keeper.feed(tag(ANOTHER))
    assert keeper.flv == alone(SEQUENCE, ANOTHER)


@pytest.mark.parametrize("keyframe", [ENHANCED_KEYFRAME, ENHANCED_KEYFRAME_X])
def test_h265_in_enhanced_rtmp(keyframe: bytes) -> None:
    """Both forms in which a coded frame can stand there."""
    assert kept(stream(ENHANCED_SEQUENCE, keyframe, b"\xa1hvc1\x00\x00\x00no key")) == alone(
        ENHANCED_SEQUENCE, keyframe
    )


def test_a_new_sequence_header_ends_the_old_picture() -> None:
    """A keyframe cannot be decoded with another picture's parameter sets; the same ones again change nothing."""
    other = SEQUENCE + b", others"
    assert kept(stream(SEQUENCE, KEYFRAME, SEQUENCE)) == alone(SEQUENCE, KEYFRAME)
    assert kept(stream(SEQUENCE, KEYFRAME, other)) is None
    assert kept(stream(SEQUENCE, KEYFRAME, other, ANOTHER)) == alone(other, ANOTHER)


@pytest.mark.parametrize("bodies", [(KEYFRAME,), (ENHANCED_KEYFRAME,), (b"",), (b"\x17",), (THE_END,)])
def test_what_cannot_be_decoded_is_not_offered(bodies: tuple[bytes, ...]) -> None:
    """A keyframe without its sequence header, and what is too short to be one."""
    assert kept(stream(*bodies)) is None


def test_a_codec_without_a_sequence_header() -> None:
    """Sorenson's H.263 has none, and needs none."""
    assert kept(stream(b"\x12a picture")) == alone(b"\x12a picture")


def test_a_tag_that_is_too_long_is_passed_over() -> None:
    """It is never held, and the one behind it is found."""
    keeper = KeyframeKeeper()
    keeper.feed(stream(SEQUENCE, KEYFRAME))
    long = tag(b"\x17\x01" + bytes(MOST_TAG_BYTES))
    most = 0
    for start in range(0, len(long), 65536):
        assert not keeper.feed(long[start : start + 65536])
        most = max(most, len(keeper._rest))
    assert most < 65536
    assert keeper.flv == alone(SEQUENCE, KEYFRAME)
    assert keeper.feed(tag(ANOTHER))


@pytest.mark.parametrize(
    "bad",
    [
        b"no FLV at all, but long enough to be looked at",
        HEADER[:3] + b"\x02" + HEADER[4:] + tag(SEQUENCE) + tag(KEYFRAME),
        HEADER + tag(SEQUENCE) + tag(b"?", 7) + tag(KEYFRAME),
        HEADER + tag(SEQUENCE) + tag(KEYFRAME)[:-1] + b"?" + tag(KEYFRAME),
    ],
)
def test_what_is_no_flv_is_thrown_away(bad: bytes) -> None:
    """From the first sign on: nothing is kept of it, and nothing found in it."""
    keeper = KeyframeKeeper()
    assert not keeper.feed(bad)
    assert not keeper.feed(bytes(1 << 20))
    assert keeper.flv is None
    assert len(keeper._rest) == 0


BODIES = st.sampled_from(
    [SEQUENCE, KEYFRAME, ANOTHER, BETWEEN, THE_END, ENHANCED_SEQUENCE, ENHANCED_KEYFRAME, b"", b"\x17", bytes(300)]
)
TAGS = st.builds(tag, BODIES | st.binary(max_size=40), st.sampled_from([8, 9, 18]))


@given(tags=st.lists(TAGS, max_size=12), cuts=st.lists(st.integers(0, 400), max_size=12))
def test_the_pieces_do_not_matter(tags: list[bytes], cuts: list[int]) -> None:
    """However the pipe cuts the stream, the same is kept."""
    data = HEADER + b"".join(tags)
    keeper = KeyframeKeeper()
    at = 0
    for cut in cuts:
        keeper.feed(data[at : at + cut])
        at += cut
    keeper.feed(data[at:])
    assert keeper.flv == kept(data)


@given(
    pieces=st.lists(st.binary(max_size=200) | TAGS | st.just(HEADER), max_size=30),
    begins=st.booleans(),
)
def test_garbage_is_harmless(pieces: list[bytes], begins: bool) -> None:
    """Whatever comes in, nothing raises, and no more is held than one tag of the longest allowed and one piece."""
    most = 120
    keeper = KeyframeKeeper(most)
    if begins:
        keeper.feed(HEADER)
    for piece in pieces:
        before = keeper.flv
        is_new = keeper.feed(piece)
        assert len(keeper._rest) < most
        flv = keeper.flv
        assert flv is not None or not is_new
        assert len(flv or b"") <= len(HEADER) + 2 * most
        assert is_new or flv in (before, None)


@cache
def real_stream() -> bytes:
    """Two keyframes and what is between them, with sound, as ffmpeg writes FLV."""
    return subprocess.run(
        [
            *(find_program("ffmpeg"), "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10"),
            *(
                "-f",
                "lavfi",
                "-i",
                "sine",
                "-t",
                "2",
                "-g",
                "10",
                "-pix_fmt",
                "yuv420p",
                "-f",
                "flv",
                "-c:v",
                "libx264",
            ),
            "pipe:1",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    ).stdout


def test_what_is_kept_of_a_real_stream_is_one_frame_of_its_size() -> None:
    """ffmpeg reads the kept file as it reads any other."""
    flv = kept(real_stream())
    assert flv is not None
    probe = [find_program("ffprobe"), "-v", "error", "-count_frames", "-show_entries"]
    seen = subprocess.run(
        [*probe, "stream=codec_name,width,height,nb_read_frames", "-of", "csv=p=0", "-f", "flv", "-i", "pipe:0"],
        input=flv,
        capture_output=True,
        check=True,
    )
    assert (seen.stdout.decode().strip(), seen.stderr) == ("h264,320,240,1", b"")
