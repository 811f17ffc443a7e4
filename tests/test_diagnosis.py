"""ffmpeg's own words, recorded with 5.1, 7.1 and 9.0 against real and broken peers, lead to the contract's reasons.

Each file of `data/stderr` is one fault, with a section for each version: exit status, `frames/total_size` of its first
progress reports and its last, and its standard error (of this machine only ports and memory addresses are gone).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yiagent.diagnosis import Diagnosis, is_expected
from yiagent.model import Failure, Level, ReasonCode
from yiagent.progress import Message, parse_message

RECORDINGS = Path(__file__).parent / "data" / "stderr"
SECTION = re.compile(r"^### ffmpeg (\S+) exit (-?\d+) progress (.*)\n", re.MULTILINE)
VERSIONS = ("5.1", "7.1", "9.0")
R = ReasonCode


@dataclass(frozen=True)
class Recording:
    """What one ffmpeg said until it ended. `flowed`: frames and bytes grew between two reports while it ran."""

    fault: str
    version: str
    status: int
    flowed: bool
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        """The fault and the version."""
        return f"{self.fault}-{self.version}"

    def diagnosis(self, lines: int | None = None) -> Diagnosis:
        """What is known after its first `lines`."""
        diagnosis = Diagnosis(encrypted=self.fault.startswith("tls"))
        for line in self.lines[:lines]:
            diagnosis.hear(parse_message(line))
        return diagnosis

    def failure(self, *, killed_for_memory: bool = False) -> Failure:
        """Why it ended."""
        return self.diagnosis().ended(self.status, flowed=self.flowed, killed_for_memory=lambda: killed_for_memory)


def _flowed(progress: str) -> bool:
    # The report that ffmpeg writes as it ends tells what it was about to send, not what the server took.
    reports = [tuple(map(int, report.split("/"))) for report in progress.split() if re.fullmatch(r"\d+/\d+", report)]
    return any(after[0] > before[0] and after[1] > before[1] for before, after in pairwise(reports))


def _read(path: Path) -> Iterator[Recording]:
    parts = SECTION.split(path.read_text())[1:]
    for version, status, progress, text in zip(*[iter(parts)] * 4, strict=True):
        yield Recording(path.stem, version, int(status), _flowed(progress), tuple(text.splitlines()))


ALL = {recording.name: recording for path in sorted(RECORDINGS.glob("*.txt")) for recording in _read(path)}

# What each fault must be called, and whether waiting cannot mend it.
EXPECTED: dict[str, tuple[ReasonCode, bool]] = {
    "source_closed": (R.SOURCE_UNREACHABLE, False),
    "source_backlog_full": (R.SOURCE_UNREACHABLE, False),
    "source_accepts_silent": (R.SOURCE_UNREACHABLE, False),
    "source_close_at_once": (R.SOURCE_UNREACHABLE, False),
    "source_rst_at_once": (R.SOURCE_UNREACHABLE, False),
    "source_garbage_closes": (R.SOURCE_UNREACHABLE, False),
    "source_describe_silent": (R.SOURCE_UNREACHABLE, False),
    "source_dns": (R.SOURCE_UNREACHABLE, False),
    "source_401_digest_wrong": (R.SOURCE_UNAUTHORIZED, True),
    "source_401_basic_none": (R.SOURCE_UNAUTHORIZED, True),
    "source_403": (R.SOURCE_UNAUTHORIZED, True),
    "source_404": (R.SOURCE_NOT_FOUND, False),
    "source_404_setup": (R.SOURCE_NOT_FOUND, False),
    "source_453_play": (R.SOURCE_UNREACHABLE, False),
    "source_454_setup": (R.SOURCE_UNREACHABLE, False),
    "source_500": (R.SOURCE_UNREACHABLE, False),
    "source_503": (R.SOURCE_UNREACHABLE, False),
    "source_udp_refused_461": (R.SOURCE_UNREACHABLE, False),
    "source_no_video": (R.SOURCE_NO_VIDEO, False),
    "source_no_streams": (R.SOURCE_NO_VIDEO, False),
    "source_no_audio_required": (R.SOURCE_CODEC, True),
    "source_hevc": (R.SOURCE_CODEC, True),
    "source_no_parameter_sets": (R.SOURCE_NO_VIDEO, False),
    "source_play_then_silent": (R.SOURCE_NO_VIDEO, False),
    "source_udp_no_packets": (R.SOURCE_NO_VIDEO, False),
    "source_play_rst": (R.SOURCE_UNREACHABLE, False),
    "source_ends_eof": (R.SOURCE_UNREACHABLE, False),
    "source_ends_rst": (R.SOURCE_UNREACHABLE, False),
    "source_ends_bye": (R.SOURCE_UNREACHABLE, False),
    "source_freezes": (R.SOURCE_UNREACHABLE, False),
    "sink_closed": (R.SINK_UNREACHABLE, False),
    "sink_backlog_full": (R.SINK_UNREACHABLE, False),
    "sink_accepts_silent": (R.SINK_UNREACHABLE, False),
    "sink_closes_at_once": (R.SINK_UNREACHABLE, False),
    "sink_closes_in_handshake": (R.SINK_UNREACHABLE, False),
    "sink_garbage_stays_open": (R.SINK_UNREACHABLE, False),
    "sink_http_reply": (R.SINK_UNREACHABLE, False),
    "plain_rtmp_to_tls_port": (R.SINK_UNREACHABLE, False),
    "sink_dns": (R.SINK_DNS, False),
    "sink_unknown_app": (R.SINK_REJECTED, True),
    "sink_on_publish_403": (R.SINK_REJECTED, True),
    "sink_on_connect_403": (R.SINK_REJECTED, True),
    # The server says nothing, so it may have been an accident: it is tried again soon.
    "sink_deny_publish": (R.SINK_REJECTED, False),
    "sink_already_publishing": (R.SINK_REJECTED, False),
    "sink_eof_while_streaming": (R.SINK_CLOSED, False),
    "sink_rst_while_streaming": (R.SINK_CLOSED, False),
    "sink_server_killed": (R.SINK_CLOSED, False),
    "sink_dropped_by_control": (R.SINK_CLOSED, False),
    "sink_freezes": (R.STALLED, False),
    "tls_closed": (R.SINK_UNREACHABLE, False),
    "tls_dns": (R.SINK_DNS, False),
    "tls_wrong_host": (R.SINK_TLS, False),
    "tls_unknown_ca": (R.SINK_TLS, False),
    "tls_expired": (R.SINK_TLS, False),
    "tls_old_protocol": (R.SINK_TLS, False),
    "tls_handshake_refused": (R.SINK_TLS, False),
    "tls_to_plain_rtmp": (R.SINK_TLS, False),
    "tls_to_http_port": (R.SINK_TLS, False),
    "tls_silent": (R.SINK_TLS, False),
    "tls_closes_at_once": (R.SINK_TLS, False),
    "tls_rst_at_once": (R.SINK_TLS, False),
    "tls_no_ca_file": (R.SINK_TLS, False),
    "option_unknown": (R.FFMPEG_CRASHED, True),
    "option_value_unknown": (R.FFMPEG_CRASHED, True),
    "option_value_no_number": (R.FFMPEG_CRASHED, True),
    "encoder_unknown": (R.FFMPEG_CRASHED, True),
    "signal_kill": (R.FFMPEG_CRASHED, False),
    "signal_term": (R.FFMPEG_CRASHED, False),
    "signal_term_twice": (R.FFMPEG_CRASHED, False),
    "memory_for_libraries": (R.OUT_OF_MEMORY, False),
    "memory_for_decoder": (R.OUT_OF_MEMORY, False),
    "memory_for_threads": (R.OUT_OF_MEMORY, False),
}
# Enhanced RTMP, from ffmpeg 6.1 on, carries H.265: with those the recording is of a healthy stream.
HEALTHY = [name for name in ALL if name.startswith("healthy")] + ["source_hevc-7.1", "source_hevc-9.0"]
LOOKS = [name for name in ALL if name.startswith("look")]
FAULTS = [name for name in ALL if name not in HEALTHY and name not in LOOKS]
# One begins with ffmpeg's name, which is written small.
SENTENCE = re.compile(r"([A-Z]|ffmpeg ).{15,300}[.?]")
ADDRESS = re.compile(r"rt[ms]ps?://\w|127\.0\.0\.1|::1|0x[0-9a-f]|#0|made-up|Pw-")


def test_every_recording_is_in_the_table() -> None:
    """A recording that no line of the table expects anything of would prove nothing."""
    assert {ALL[name].fault for name in FAULTS} == set(EXPECTED)
    assert {recording.version for recording in ALL.values()} == set(VERSIONS)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_own_reason(name: str) -> None:
    """The same fault gives the same code with every ffmpeg, and says whether waiting can mend it."""
    failure = ALL[name].failure()
    assert (failure.reason.code, failure.needs_person) == EXPECTED[ALL[name].fault]


@pytest.mark.parametrize("name", FAULTS)
def test_messages_are_sentences_for_an_owner(name: str) -> None:
    """Whole sentences about camera, server or machine; no address, no password, no word of ffmpeg's insides."""
    message = ALL[name].failure().reason.message
    assert SENTENCE.fullmatch(message)
    assert "{" not in message
    assert not ADDRESS.search(message)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("source_453_play", "453 Not Enough Bandwidth"),
        ("source_454_setup", "454 Session Not Found"),
        ("source_500", "500 Internal Server Error"),
        ("source_503", "503 Service Unavailable"),
        ("source_udp_refused_461", "source.transport"),
        ("source_404", "source.hd"),
        ("source_401_digest_wrong", "source.password"),
    ],
)
def test_messages_name_what_to_look_at(fault: str, words: str, version: str) -> None:
    """The camera's own words, readable whichever version brings them, or the setting to change."""
    assert words in ALL[f"{fault}-{version}"].failure().reason.message


def test_codecs_are_called_as_owners_call_them() -> None:
    """A camera's menu says H.265 where ffmpeg says hevc."""
    message = ALL["source_hevc-5.1"].failure().reason.message
    assert "H.265" in message
    assert "hevc" not in message


def test_the_kernel_is_told_from_a_hand() -> None:
    """SIGKILL is out of memory only where the kernel's killer was at work."""
    for version in VERSIONS:
        killed = ALL[f"signal_kill-{version}"]
        assert killed.failure(killed_for_memory=True).reason.code is R.OUT_OF_MEMORY
        assert killed.failure(killed_for_memory=False).reason.code is R.FFMPEG_CRASHED


@pytest.mark.parametrize(("status", "code"), [(-9, R.OUT_OF_MEMORY), (-11, R.FFMPEG_CRASHED), (-4, R.FFMPEG_CRASHED)])
@pytest.mark.parametrize("flowed", [True, False])
def test_a_signal_says_more_than_what_was_heard_before(status: int, code: ReasonCode, flowed: bool) -> None:
    """A complaint that ffmpeg lived on with does not explain why a signal ended it."""
    diagnosis = Diagnosis(encrypted=False)
    diagnosis.hear(Message(Level.WARNING, "rtsp", "Could not find codec parameters for stream 0: unspecified size"))
    failure = diagnosis.ended(status, flowed=flowed, killed_for_memory=lambda: status == -9)
    assert failure.reason.code is code


@pytest.mark.parametrize("name", ["source_ends_eof-9.0", "sink_freezes-5.1", "healthy-7.1"])
def test_the_kernel_is_asked_only_about_sigkill(name: str) -> None:
    """Whether somebody else was killed meanwhile has no bearing on a child that ended by itself."""
    recording = ALL[name]
    assert recording.failure(killed_for_memory=True) == recording.failure(killed_for_memory=False)


@pytest.mark.parametrize(
    ("name", "audio", "video"),
    [
        *[(f"healthy-{version}", "aac", "h264") for version in VERSIONS],
        *[(f"healthy_alaw-{version}", "pcm_alaw", "h264") for version in VERSIONS],
        *[(f"healthy_no_audio-{version}", "", "h264") for version in VERSIONS],
        *[(f"source_hevc-{version}", "", "hevc") for version in VERSIONS],
        *[(f"look_alaw-{version}", "pcm_alaw", "h264") for version in VERSIONS],
        *[(f"look_no_video-{version}", "aac", None) for version in VERSIONS],
        *[(f"source_no_streams-{version}", "", None) for version in VERSIONS],
        *[(f"source_404-{version}", None, None) for version in VERSIONS],
    ],
)
def test_the_codecs_are_read_off(name: str, audio: str | None, video: str | None) -> None:
    """The camera's codecs are known from any launch that reached it: "" is no sound, None not known."""
    diagnosis = ALL[name].diagnosis()
    assert (diagnosis.audio_codec, diagnosis.video_codec) == (audio, video)


def test_the_codecs_are_the_cameras() -> None:
    """What ffmpeg sends, or generates beside the camera, is not taken for what the camera sends."""
    diagnosis = Diagnosis(encrypted=False)
    for line in (
        "[info] Input #0, rtsp, from 'rtsp://127.0.0.1/ch0_0.h264':",
        "[info]   Stream #0:0: Video: h264 (Main), yuv420p(progressive), 640x360, 20 fps",
        "[info] Input #1, lavfi, from 'anullsrc=r=44100:cl=mono':",
        "[info]   Stream #1:0: Audio: pcm_u8, 44100 Hz, mono, u8, 352 kb/s",
        "[info] Output #0, flv, to 'rtmp://127.0.0.1/live':",
        "[info]   Stream #0:1: Audio: aac (LC) ([10][0][0][0] / 0x000A), 44100 Hz, mono, fltp, 32 kb/s",
    ):
        diagnosis.hear(parse_message(line))
    assert (diagnosis.audio_codec, diagnosis.video_codec) == ("", "h264")


@pytest.mark.parametrize("name", list(ALL))
def test_patience_is_asked_for_where_it_helps(name: str) -> None:
    """A longer look helps where the picture's size was not known in time, and nowhere else."""
    patient = {"source_no_parameter_sets", "source_play_then_silent", "source_udp_no_packets", "memory_for_decoder"}
    assert ALL[name].diagnosis().wants_patience == (ALL[name].fault in patient)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_start_gives_no_cause_for_worry(name: str) -> None:
    """Nothing that ffmpeg says of a healthy stream reaches the owner as a warning, and nothing of it is a reason."""
    messages = [parse_message(line) for line in ALL[name].lines]
    assert [
        message for message in messages if message.level.rank >= Level.WARNING.rank and not is_expected(message)
    ] == []
    diagnosis = ALL[name].diagnosis()
    assert diagnosis.input_open
    assert diagnosis.output_open
    assert not diagnosis.wants_patience


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_is_hidden_as_expected(name: str) -> None:
    """Where ffmpeg complains of a fault, at least one line of it reaches the log as a warning or worse."""
    messages = [parse_message(line) for line in ALL[name].lines]
    loud = [message for message in messages if message.level.rank >= Level.WARNING.rank]
    # 5.1 says nothing at all when the camera ends its stream; a signal is told of as information.
    if all(is_expected(message) for message in loud):
        assert ALL[name].fault.startswith(("source_ends", "signal"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "encrypted", "until", "code"),
    [
        ("healthy", False, "ffmpeg stats", R.SOURCE_UNREACHABLE),
        ("healthy", False, "Input #0", R.SINK_UNREACHABLE),
        ("healthy", True, "Input #0", R.SINK_TLS),
        ("healthy", False, "Output #0", R.SOURCE_NO_VIDEO),
        ("healthy", True, "Output #0", R.SOURCE_NO_VIDEO),
        ("tls_rst_at_once", True, "IO error", R.SINK_TLS),
        ("source_401_basic_none", False, "401", R.SOURCE_UNAUTHORIZED),
    ],
)
def test_a_late_start_is_blamed_on_the_one_waited_for(
    name: str, encrypted: bool, until: str, code: ReasonCode, version: str
) -> None:
    """First the camera, then the server (its TLS, where encrypted), then the camera's picture; or what was heard."""
    diagnosis = Diagnosis(encrypted=encrypted)
    for line in ALL[f"{name}-{version}"].lines:
        diagnosis.hear(parse_message(line))
        if until in line:
            break
    else:
        pytest.fail(f"no line holds {until}")
    failure = diagnosis.late()
    assert failure.reason.code is code
    assert SENTENCE.fullmatch(failure.reason.message)


def test_silence_from_the_first_moment_is_the_cameras() -> None:
    """A child that has said nothing yet is waiting for the camera."""
    assert Diagnosis(encrypted=True).late().reason.code is R.SOURCE_UNREACHABLE


@pytest.mark.parametrize(
    ("line", "code", "person"),
    [
        ("[rtmp @ 0x1] [error] Server error: Authentication failed", R.SINK_REJECTED, True),
        ("[tcp @ 0x1] [error] Connection to tcp://192.0.2.1:1935 failed: No route to host", R.SINK_UNREACHABLE, False),
        (
            "[tcp @ 0x1] [error] Connection to tcp://192.0.2.1:1935 failed: Network is unreachable",
            R.SINK_UNREACHABLE,
            False,
        ),
        ("[error] av_interleaved_write_frame(): Cannot allocate memory", R.OUT_OF_MEMORY, False),
        ("[flv @ 0x1] [error] Audio codec pcm_s24le not compatible with flv", R.SOURCE_CODEC, True),
        (
            "[flv @ 0x1] [error] FLV does not support sample rate 48000, choose from (44100, 22050, 11025)",
            R.SOURCE_CODEC,
            True,
        ),
        ("[tls @ 0x1] [error] error:0A00010B:SSL routines::wrong version number", R.SINK_TLS, False),
        ("[tls @ 0x1] [error] mbedtls_ssl_handshake returned -0x7780", R.SINK_TLS, False),
    ],
)
def test_words_of_other_builds(line: str, code: ReasonCode, person: bool) -> None:
    """Messages that the recordings do not hold, from ffmpeg's source and from other TLS libraries."""
    diagnosis = ALL["healthy-7.1"].diagnosis(lines=6)
    assert diagnosis.input_open
    assert not diagnosis.output_open
    diagnosis.hear(parse_message(line))
    failure = diagnosis.ended(1, flowed=False, killed_for_memory=lambda: False)
    assert (failure.reason.code, failure.needs_person) == (code, person)


def test_the_more_telling_message_wins_in_any_order() -> None:
    """Which line came first does not matter: the one that names the cause does."""
    lines = ["[tls @ 0x1] [error] Peer certificate failed verification", "[error] rtmps://h/live: Input/output error"]
    codes = set()
    for order in (lines, lines[::-1]):
        diagnosis = ALL["healthy-5.1"].diagnosis(lines=6)
        for line in order:
            diagnosis.hear(parse_message(line))
        codes.add(diagnosis.ended(1, flowed=False, killed_for_memory=lambda: False).reason.code)
    assert codes == {R.SINK_TLS}


@given(
    st.lists(st.tuples(st.sampled_from(Level), st.text(max_size=12), st.text(max_size=200))),
    st.integers(-64, 255),
    st.booleans(),
)
def test_any_words_end_in_a_reason(lines: list[tuple[Level, str, str]], status: int, flowed: bool) -> None:
    """Whatever a child says and however it ends, there is one reason with a message, and nothing raises."""
    diagnosis = Diagnosis(encrypted=False)
    for level, component, text in lines:
        diagnosis.hear(Message(level, component, text))
    for failure in (diagnosis.late(), diagnosis.ended(status, flowed=flowed, killed_for_memory=lambda: flowed)):
        assert failure.reason.code in set(ReasonCode)
        assert failure.reason.message


@given(st.sampled_from(["Server error: ", "method PLAY failed: 500 ", "Video codec "]), st.text(max_size=200))
def test_a_peers_words_cannot_break_a_message(start: str, words: str) -> None:
    """Braces and format fields in what a server says are text like any other."""
    diagnosis = Diagnosis(encrypted=False)
    diagnosis.hear(Message(Level.ERROR, "rtmp", f"{start}{words}{{0.__class__}} not compatible with flv"))
    failure = diagnosis.ended(1, flowed=False, killed_for_memory=lambda: False)
    assert "<class" not in failure.reason.message


def test_a_message_is_weighed_again_where_it_means_something_else() -> None:
    """One that repeats is weighed once, but what is no news of the camera before both ends are open is so after."""
    lost = parse_message("[rtsp @ 0x1] [error] CSeq 7000 expected, 0 received.")
    diagnosis = Diagnosis(encrypted=False)
    for line in ("[info] Input #0, rtsp, from 'rtsp://camera/ch':", "[info] Output #0, flv, to 'rtmp://server/live':"):
        diagnosis.hear(lost)
        diagnosis.hear(parse_message(line))
    diagnosis.hear(lost)
    assert diagnosis.ended(1, flowed=True, killed_for_memory=lambda: False).reason.code is R.SOURCE_UNREACHABLE


@pytest.mark.parametrize("code", [401, 404])
def test_a_status_code_is_no_number_that_repeats(code: int) -> None:
    """What differs by it alone is another message."""
    diagnosis = Diagnosis(encrypted=False)
    diagnosis.hear(parse_message("[rtsp @ 0x1] [error] method DESCRIBE failed: 500 Internal Server Error"))
    diagnosis.hear(parse_message(f"[rtsp @ 0x1] [error] method DESCRIBE failed: {code} Internal Server Error"))
    expected = {401: R.SOURCE_UNAUTHORIZED, 404: R.SOURCE_NOT_FOUND}[code]
    assert diagnosis.late().reason.code is expected
