"""ffmpeg's messages to the reasons of the contract: why one child ended, in words a camera's owner understands. Pure.

The table of single messages is in `rules`; here stands what follows from several of them, from the exit status and from
silence. A more telling message beats a more general one, whichever came first.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Final

from yiagent.model import Failure, Reason, ReasonCode
from yiagent.progress import Message
from yiagent.redact import MASK, Redactor
from yiagent.rules import RULES, SINK, SOURCE, Rule, then

_WRITE_FAILED = re.compile(
    then(
        r"av_interleaved_write_frame\(\)|Error (?:muxing a packet|submitting a packet to the muxer|writing trailer"
        r"|closing file|sending)",
        r"(Broken pipe|Connection reset|Connection timed out|End of file|Input/output error|Protocol error|error)",
    ),
    re.IGNORECASE,
)
_SOURCE_LOST = re.compile(
    rf"{then('rtsp|in#0|RTP|tcp', 'timed out|Connection reset|End of file|CSeq|Failed reading')}"
    rf"|{then('error while', 'reading')}|Error during demuxing|EOF",
    re.IGNORECASE,
)
_DECODERS: Final = frozenset({"h264", "hevc"})
_EXPECTED = re.compile(
    r"not enough frames to estimate rate|Guessed Channel Layout|At least one output file must be specified"
    r"|Estimating duration|deprecated pixel format"
)
# A complaint repeats with other positions and time stamps; a status code has three digits, and tells two apart.
_LONG_NUMBER = re.compile(r"\d{4,}")
MOST_KNOWN: Final = 32
# A message of this rank holds whatever else was said.
_CERTAIN: Final = 5
# What owners and camera makers call what ffmpeg names otherwise.
_NAMES: Final = {"hevc": "H.265", "pcm_alaw": "G.711", "pcm_mulaw": "G.711", "adpcm_g726": "G.726"}
_INPUT_STREAM = re.compile(r"\s*Stream #0:\d\S*: (Video|Audio): (\w{1,40})")

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


def _plain(text: str) -> str:
    """What a camera or a server said, without what would act on the terminal of whoever reads it."""
    return "".join(character if character.isprintable() else " " for character in text)


def is_expected(message: Message) -> bool:
    """Whether this complaint belongs to a healthy start: the price of a short look at the camera, in mid-GOP.

    A remux decodes nothing: what its decoders say comes from that look, before the first keyframe.
    """
    return message.component in _DECODERS or _EXPECTED.search(message.text) is not None


class Diagnosis:
    """Listens to one child and says, when it is gone or late, why. One instance for each launch.

    `encrypted`: whether the server's URL is rtmps. `redactor`: what knows the secrets that may stand in what is heard.
    """

    def __init__(self, *, encrypted: bool, redactor: Redactor | None = None) -> None:
        self._encrypted = encrypted
        self._redactor = redactor if redactor is not None else Redactor()
        self._best: tuple[int, Failure] | None = None
        self._input_open = False
        self._output_open = False
        self._write_failure: str | None = None
        self._source_lost = False
        self._told_to_end = False
        self._known: set[str] = set()
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

    def hear(self, message: Message, *, cut: bool = False) -> None:
        """Take in one line of ffmpeg's standard error. `cut`: its end was cut off, perhaps through a secret."""
        text = message.text
        if text.startswith(("Input #0", "Output #0")):
            # From here on, messages mean other things.
            self._known.clear()
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
        if self._is_known(message):
            return
        if "Exiting normally, received signal" in text:
            self._told_to_end = True
        if "Immediate exit requested" in text:
            # How everything fails once ffmpeg was told to end: no news of camera or server.
            return
        if (write := _WRITE_FAILED.search(text)) is not None and self._write_failure is None:
            self._write_failure = write.group(1).lower()
        if _SOURCE_LOST.search(message.line) and self._output_open and self._write_failure is None:
            self._source_lost = True
        self._weigh(message.line, cut=cut)

    def _is_known(self, message: Message) -> bool:
        """Whether this was said before, but for its numbers: then it changes nothing, and all the rules need not be
        tried on it. On a camera that takes milliseconds, and some streams are complained of with every frame."""
        shape = _LONG_NUMBER.sub("#", message.line)
        if shape in self._known:
            return True
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known.add(shape)
        return False

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

    def _weigh(self, line: str, *, cut: bool) -> None:
        side = SINK if self._input_open else SOURCE
        for rule in RULES:
            if rule.side is not None and rule.side != side:
                continue
            if self._best is not None and self._best[0] >= rule.rank:
                continue
            if rule.pattern.search(line) is not None:
                words = self._words(rule, line, cut=cut) if rule.pattern.groups else []
                reason = Reason(rule.code, rule.text.format(*words, "", "").replace(" .", "."))
                self._best = rule.rank, Failure(reason, rule.needs_person)

    def _words(self, rule: Rule, line: str, *, cut: bool) -> list[str]:
        """What of the line the reason repeats: taken out of it when it is redacted, for of half a key nobody knows."""
        match = rule.pattern.search(self._redactor.redact(line, cut=cut))
        # What is said is recognized in the line itself: a key may be a word like `Server`, or a number.
        groups = match.groups() if match is not None else (MASK,)
        return [_NAMES.get(group, _plain(group)).strip() for group in groups if group]
