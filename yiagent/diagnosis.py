"""ffmpeg's messages to the reasons of the contract: why one child ended, in words a camera's owner understands. Pure.

The patterns come from recordings of ffmpeg 5.1, 7.1 and 9.0 against real and broken peers (`tests/data/stderr`), and
hold on to the parts that did not change between them. A more telling message beats a more general one, whichever
came first.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from yiagent.model import Failure, Reason, ReasonCode
from yiagent.progress import Message


@dataclass(frozen=True, slots=True)
class Rule:
    """One message and what it means. `{0}`, `{1}` in `text` are the pattern's groups that matched.

    `rank`: the higher, the more telling. `side`: only while (`source`) or after (`sink`) the camera was being opened.
    """

    pattern: re.Pattern[str]
    code: ReasonCode
    text: str
    rank: int = 2
    needs_person: bool = False
    side: str | None = None


def _rule(
    pattern: str, code: ReasonCode, text: str, *, rank: int = 2, needs_person: bool = False, side: str | None = None
) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE), code, text, rank, needs_person, side)


_R = ReasonCode
_SOURCE: Final = "source"
_SINK: Final = "sink"
_NO_ROUTE = r"(No route to host|Network is unreachable|Host is unreachable|Network is down)"

RULES: Final = (
    # The camera.
    _rule(
        r"method \w+ failed: 401|401 Unauthorized",
        _R.SOURCE_UNAUTHORIZED,
        "The camera refused the user name or password. Set source.username and source.password as the camera has them.",
        rank=4,
        needs_person=True,
    ),
    _rule(
        r"method \w+ failed: 403|Server returned 403",
        _R.SOURCE_UNAUTHORIZED,
        "The camera denies access to this stream (403). Check the user's rights on the camera.",
        rank=4,
        needs_person=True,
        side=_SOURCE,
    ),
    _rule(
        r"method \w+ failed: 404|Server returned 404",
        _R.SOURCE_NOT_FOUND,
        "The camera answers, but has no stream at this path. Check the path in source.hd and source.sd.",
        rank=4,
        side=_SOURCE,
    ),
    _rule(
        r"method SETUP failed: 461",
        _R.SOURCE_UNREACHABLE,
        "The camera does not offer this transport. Set source.transport to the other one (tcp or udp).",
        rank=4,
    ),
    _rule(
        r"method \w+ failed: (\d{3}) ?\(?([\w -]{0,40})",
        _R.SOURCE_UNREACHABLE,
        "The camera answered with an error: {0} {1}. It may be busy with another viewer, or still starting.",
        rank=3,
    ),
    _rule(
        r"Failed to resolve hostname",
        _R.SOURCE_UNREACHABLE,
        "The camera's name does not resolve to an address. Check the host in source.hd and source.sd.",
        rank=3,
        side=_SOURCE,
    ),
    _rule(
        r"Connection refused",
        _R.SOURCE_UNREACHABLE,
        "Nothing answers at the camera's RTSP address. Is the camera on, and its RTSP server running?",
        side=_SOURCE,
    ),
    _rule(
        _NO_ROUTE,
        _R.SOURCE_UNREACHABLE,
        "There is no way to the camera's address ({0}). Check its address and the network.",
        side=_SOURCE,
    ),
    _rule(
        r"timed out",
        _R.SOURCE_UNREACHABLE,
        "The camera does not answer. Is it on, and is its address right?",
        side=_SOURCE,
    ),
    _rule(
        r"Invalid data found when processing input|End of file|Connection reset|Operation not permitted",
        _R.SOURCE_UNREACHABLE,
        "Something answers at the camera's address but gives no RTSP stream. Check the port; it may be starting.",
        rank=1,
        side=_SOURCE,
    ),
    _rule(
        r"Stream map '(0:v:0)?' matches no streams|Failed to set value '0:v:0'",
        _R.SOURCE_NO_VIDEO,
        "The camera's stream holds no video. Check the path in source.hd and source.sd.",
        rank=3,
    ),
    _rule(
        r"dimensions not set|unspecified size",
        _R.SOURCE_NO_VIDEO,
        "The camera sent no picture to begin with. It may be starting; with source.transport: udp a firewall may keep"
        " it out: try tcp.",
        rank=3,
    ),
    _rule(
        r"Video codec (\w+) not compatible with flv|codec (\w+)[^.]* not (?:currently )?supported in (?:container|flv)",
        _R.SOURCE_CODEC,
        "The camera sends {0}, which this ffmpeg cannot put into RTMP. Set the camera to H.264,"
        " or install ffmpeg 6.1 or newer if the server takes H.265.",
        rank=5,
        needs_person=True,
    ),
    _rule(
        r"Audio codec (\w+) not compatible with flv|FLV does not support sample rate (\d+)",
        _R.SOURCE_CODEC,
        "The camera's sound ({0}) does not go into RTMP as it is. Set stream.audio to auto or aac.",
        rank=5,
        needs_person=True,
    ),
    _rule(
        r"Stream map '0:a:0' matches no streams|Failed to set value '0:a:0'",
        _R.SOURCE_CODEC,
        "The camera sends no sound. Set stream.audio to auto or silent.",
        rank=4,
        needs_person=True,
    ),
    # The server.
    _rule(
        r"Failed to resolve hostname",
        _R.SINK_DNS,
        "The server's name does not resolve to an address. Check the server URL, and that this machine has DNS.",
        rank=4,
        side=_SINK,
    ),
    _rule(
        r"certificate failed verification|certificate verify failed|owner does not match hostname"
        r"|certificate.*(expired|not yet valid|unknown|untrusted|self.signed)|hostname mismatch",
        _R.SINK_TLS,
        "The server's certificate is not trusted, has expired, or is for another name. Check the server URL"
        " and this machine's clock; behind rtmps:// a certificate must be valid.",
        rank=5,
    ),
    _rule(
        r"TLS fatal alert|unexpected TLS packet|handshake failure|wrong version number|SSL routines|gnutls_handshake"
        r"|mbedtls_ssl_handshake|ssl.*handshake",
        _R.SINK_TLS,
        "The server refused the encrypted connection, or does not speak TLS on this port. Check port and rtmps://.",
        rank=4,
    ),
    _rule(
        r"Error in the (?:pull|push) function|^tls: IO error",
        _R.SINK_TLS,
        "The server did not complete the encrypted connection. Does it speak TLS on this port? Check port and rtmps://.",
        rank=3,
        side=_SINK,
    ),
    _rule(
        r"Already publishing|already exists|BadName",
        _R.SINK_REJECTED,
        "The server says that this stream key is in use already. Another sender, or the connection before this one?",
        rank=5,
    ),
    _rule(
        r"Server error: ?(.{0,120})",
        _R.SINK_REJECTED,
        "The server refused the stream: {0}. Check the server URL and the stream key.",
        rank=4,
        needs_person=True,
    ),
    _rule(
        r"Connection to tcp://\S+ failed: Connection refused",
        _R.SINK_UNREACHABLE,
        "Nothing answers at the server's address. Is the server running, and is its port right?",
        rank=3,
        side=_SINK,
    ),
    _rule(
        rf"Connection to tcp://\S+ failed: {_NO_ROUTE}",
        _R.SINK_UNREACHABLE,
        "There is no way to the server ({0}). Check this machine's connection to the internet.",
        rank=3,
        side=_SINK,
    ),
    _rule(
        r"Connection to tcp://\S+ failed|Cannot open connection tcp:",
        _R.SINK_UNREACHABLE,
        "The server does not answer. Check the server URL, and that no firewall stands between.",
        side=_SINK,
    ),
    _rule(
        r"Cannot read RTMP handshake response|RTMP packet size mismatch|Invalid RTMP",
        _R.SINK_UNREACHABLE,
        "Something answers at the server's address but does not speak RTMP. Check host, port and rtmp:// or rtmps://.",
        rank=2,
        side=_SINK,
    ),
    _rule(
        r"(?:rtmps?://\S*|output[^:]*): (?:Input/output error|Unknown error occurred|Operation not permitted)",
        _R.SINK_REJECTED,
        "The server refused the stream. Check the application in the server URL, and the stream key.",
        rank=1,
        needs_person=True,
        side=_SINK,
    ),
    _rule(
        r"rtmps?://\S*: (?:End of file|Connection reset|Broken pipe)",
        _R.SINK_CLOSED,
        "The server closed the connection while the stream was being set up.",
        rank=1,
        side=_SINK,
    ),
    # Either.
    _rule(
        r"Cannot allocate memory|Out of memory|Error allocating|pthread_create\(\) failed|failed to map segment",
        _R.OUT_OF_MEMORY,
        "This machine ran out of memory. The SD channel needs less.",
        rank=6,
    ),
    _rule(
        r"cannot open shared object file",
        _R.FFMPEG_CRASHED,
        "This ffmpeg is incomplete: a library it needs is missing. Install it again.",
        rank=6,
        needs_person=True,
    ),
    _rule(
        r"Unrecognized option|Unable to parse option value|Error setting option|Option not found|Unknown encoder"
        r"|Protocol not found|Unknown input format"
        r"|Requested output format '?flv'? is not",
        _R.FFMPEG_CRASHED,
        "This ffmpeg lacks something the stream needs. `yiagent doctor` says what; install a complete ffmpeg.",
        rank=6,
        needs_person=True,
    ),
)

_WRITE_FAILED = re.compile(
    r"(av_interleaved_write_frame\(\)|Error (?:muxing a packet|submitting a packet to the muxer|writing trailer"
    r"|closing file|sending)[^:]*):? .*?(Broken pipe|Connection reset|Connection timed out|End of file"
    r"|Input/output error|Protocol error|error)",
    re.IGNORECASE,
)
_SOURCE_LOST = re.compile(
    r"(rtsp|in#0|RTP|tcp).*(timed out|Connection reset|End of file|CSeq|Failed reading)|error while.*reading|"
    r"Error during demuxing|EOF",
    re.IGNORECASE,
)
_DECODERS: Final = frozenset({"h264", "hevc"})
_EXPECTED = re.compile(
    r"not enough frames to estimate rate|Guessed Channel Layout|At least one output file must be specified"
    r"|Estimating duration|deprecated pixel format"
)
# A message of this rank holds whatever else was said.
_CERTAIN: Final = 5
# What owners and camera makers call what ffmpeg names otherwise.
_NAMES: Final = {"hevc": "H.265", "pcm_alaw": "G.711", "pcm_mulaw": "G.711", "adpcm_g726": "G.726"}
_INPUT_STREAM = re.compile(r"\s*Stream #0:\d+\S*: (Video|Audio): (\w+)")

_CLOSED = Reason(ReasonCode.SINK_CLOSED, "The server closed the connection.")
_CLOSED_AT_ONCE = Reason(
    ReasonCode.SINK_REJECTED,
    "The server closed the connection as soon as video arrived. Most servers do so to refuse the stream key.",
)
_PUSH_TIMED_OUT = Reason(ReasonCode.STALLED, "The server took no more data, though the connection stood.")
_SOURCE_ENDED = Reason(ReasonCode.SOURCE_UNREACHABLE, "The camera ended its stream, or no more came from it.")
_NO_ANSWER_SOURCE = Reason(
    ReasonCode.SOURCE_UNREACHABLE, "The camera did not begin to send in time. Is it on, and is its address right?"
)
_NO_ANSWER_SINK = Reason(
    ReasonCode.SINK_UNREACHABLE, "The server did not answer in time. Check the server URL and the connection to it."
)
_NO_ANSWER_TLS = Reason(
    ReasonCode.SINK_TLS, "The server did not complete the encrypted connection in time. Does it speak TLS on this port?"
)
_NO_MEDIA = Reason(
    ReasonCode.SOURCE_NO_VIDEO, "The connections stand, but no video came from the camera within the time for a start."
)
_TOLD_TO_END = Reason(ReasonCode.FFMPEG_CRASHED, "ffmpeg was told to end by something other than the agent.")
_OUT_OF_MEMORY = Reason(
    ReasonCode.OUT_OF_MEMORY, "This machine ran out of memory and its kernel ended ffmpeg. The SD channel needs less."
)


def _ended_by_signal(number: int) -> Reason:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
        return Reason(ReasonCode.FFMPEG_CRASHED, f"ffmpeg was ended by something other than the agent ({name}).")
    return Reason(ReasonCode.FFMPEG_CRASHED, f"ffmpeg itself crashed ({name}). Another version may not.")


def is_expected(message: Message) -> bool:
    """Whether this complaint belongs to a healthy start: the price of a short look at the camera, in mid-GOP.

    A remux decodes nothing: what its decoders say comes from that look, before the first keyframe.
    """
    return message.component in _DECODERS or _EXPECTED.search(message.text) is not None


class Diagnosis:
    """Listens to one child and says, when it is gone or late, why. One instance for each launch.

    `encrypted`: whether the server's URL is rtmps.
    """

    def __init__(self, *, encrypted: bool) -> None:
        self._encrypted = encrypted
        self._best: tuple[int, Failure] | None = None
        self._input_open = False
        self._output_open = False
        self._write_failure: str | None = None
        self._source_lost = False
        self._told_to_end = False
        self.audio_codec: str | None = None
        """ffmpeg's name of the camera's audio codec, "" for none; None until ffmpeg has told."""
        self.video_codec: str | None = None
        self.wants_patience = False
        """Whether a longer look at the camera would have helped: its picture size was not known in time."""

    @property
    def input_open(self) -> bool:
        """Whether the camera answered with a stream."""
        return self._input_open

    @property
    def output_open(self) -> bool:
        """Whether the server accepted the connection."""
        return self._output_open

    def hear(self, message: Message) -> None:
        """Take in one line of ffmpeg's standard error."""
        text = message.text
        if text.startswith("Input #0"):
            self._input_open = True
            self.audio_codec = self.audio_codec or ""
        elif text.startswith("Output #0"):
            self._output_open = True
            # What was odd before is past: both ends are open.
            self._best = None
        elif self._input_open and not self._output_open and (stream := _INPUT_STREAM.match(text)):
            kind, codec = stream.groups()
            if kind == "Audio":
                self.audio_codec = self.audio_codec or codec
            else:
                self.video_codec = self.video_codec or codec
        elif "dimensions not set" in text or "unspecified size" in text:
            self.wants_patience = True
        if "Exiting normally, received signal" in text:
            self._told_to_end = True
        if "Immediate exit requested" in text:
            # How everything fails once ffmpeg was told to end: no news of camera or server.
            return
        if (write := _WRITE_FAILED.search(text)) is not None and self._write_failure is None:
            self._write_failure = write.group(2).lower()
        if _SOURCE_LOST.search(message.line) and self._output_open and self._write_failure is None:
            self._source_lost = True
        self._weigh(message.line)

    def ended(self, status: int, *, flowed: bool, killed_for_memory: Callable[[], bool]) -> Failure:
        """Why the child ended with this status (negative: by that signal), which the agent did not ask for.

        `flowed`: media had left. `killed_for_memory`: whether the kernel's out-of-memory killer was at work.
        """
        if status == -signal.SIGKILL and killed_for_memory():
            return Failure(_OUT_OF_MEMORY)
        if status < 0:
            return Failure(_ended_by_signal(-status))
        if self._best is not None and self._best[0] >= _CERTAIN:
            return self._best[1]
        if self._told_to_end:
            return Failure(_TOLD_TO_END)
        if self._write_failure is not None:
            if "timed out" in self._write_failure:
                return Failure(_PUSH_TIMED_OUT)
            return Failure(_CLOSED if flowed else _CLOSED_AT_ONCE)
        if self._source_lost:
            return Failure(_SOURCE_ENDED)
        if self._best is not None:
            return self._best[1]
        if status == 0 and self._input_open:
            return Failure(_SOURCE_ENDED)
        message = f"ffmpeg ended with status {status} and did not say why; the log has its last lines."
        return Failure(Reason(ReasonCode.FFMPEG_CRASHED, message))

    def late(self) -> Failure:
        """What the child is waiting for when its start takes too long."""
        if self._best is not None:
            return self._best[1]
        if self._output_open:
            return Failure(_NO_MEDIA)
        if self._input_open:
            return Failure(_NO_ANSWER_TLS if self._encrypted else _NO_ANSWER_SINK)
        return Failure(_NO_ANSWER_SOURCE)

    def _weigh(self, line: str) -> None:
        side = _SINK if self._input_open else _SOURCE
        for rule in RULES:
            if rule.side is not None and rule.side != side:
                continue
            if self._best is not None and self._best[0] >= rule.rank:
                continue
            match = rule.pattern.search(line)
            if match is not None:
                words = [_NAMES.get(group, group).strip() for group in match.groups() if group]
                reason = Reason(rule.code, rule.text.format(*words, "", "").replace(" .", "."))
                self._best = rule.rank, Failure(reason, rule.needs_person)
