"""What single messages of ffmpeg mean, in words a camera's owner understands: a table. Pure.

The patterns come from recordings of ffmpeg 5.1, 7.1 and 9.0 against real and broken peers (`tests/data/stderr`), and
hold on to the parts that did not change between them. None takes time that grows with the square of a line's length
(whoever is at the other end may write it), nor more of a line than a sentence can hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from yiagent.model import ReasonCode


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


def then(first: str, second: str) -> str:
    """A pattern for `first` and, anywhere after it, `second`: the same as `first.*second`, in one pass.

    Where `first` stands a thousand times and `second` never, that one would read the rest of the line a thousand times.
    """
    return rf"\A(?>.*?(?:{first})).*(?:{second})"


_R = ReasonCode
SOURCE: Final = "source"
SINK: Final = "sink"
# A server URL and a key, at their longest.
_SERVER = r"rtmps?://\S{0,600}"
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
        side=SOURCE,
    ),
    _rule(
        r"method \w+ failed: 404|Server returned 404",
        _R.SOURCE_NOT_FOUND,
        "The camera answers, but has no stream at this path. Check the path in source.hd and source.sd.",
        rank=4,
        side=SOURCE,
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
        side=SOURCE,
    ),
    _rule(
        r"Connection refused",
        _R.SOURCE_UNREACHABLE,
        "Nothing answers at the camera's RTSP address. Is the camera on, and its RTSP server running?",
        side=SOURCE,
    ),
    _rule(
        _NO_ROUTE,
        _R.SOURCE_UNREACHABLE,
        "There is no way to the camera's address ({0}). Check its address and the network.",
        side=SOURCE,
    ),
    _rule(
        r"timed out",
        _R.SOURCE_UNREACHABLE,
        "The camera does not answer. Is it on, and is its address right?",
        side=SOURCE,
    ),
    _rule(
        r"Invalid data found when processing input|End of file|Connection reset|Operation not permitted",
        _R.SOURCE_UNREACHABLE,
        "Something answers at the camera's address but gives no RTSP stream. Check the port; it may be starting.",
        rank=1,
        side=SOURCE,
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
        r"Video codec (\w{1,40}) not compatible with flv"
        r"|codec (\w{1,40})[^.]{0,80} not (?:currently )?supported in (?:container|flv)",
        _R.SOURCE_CODEC,
        "The camera sends {0}, which this ffmpeg cannot put into RTMP. Set the camera to H.264,"
        " or install ffmpeg 6.1 or newer if the server takes H.265.",
        rank=5,
        needs_person=True,
    ),
    _rule(
        r"Audio codec (\w{1,40}) not compatible with flv|FLV does not support sample rate (\d{1,9})",
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
        side=SINK,
    ),
    _rule(
        r"certificate failed verification|certificate verify failed|owner does not match hostname|hostname mismatch|"
        + then("certificate", "expired|not yet valid|unknown|untrusted|self.signed"),
        _R.SINK_TLS,
        "The server's certificate is not trusted, has expired, or is for another name. Check the server URL"
        " and this machine's clock; behind rtmps:// a certificate must be valid.",
        rank=5,
    ),
    _rule(
        r"TLS fatal alert|unexpected TLS packet|handshake failure|wrong version number|SSL routines|gnutls_handshake"
        r"|mbedtls_ssl_handshake|" + then("ssl", "handshake"),
        _R.SINK_TLS,
        "The server refused the encrypted connection, or does not speak TLS on this port. Check port and rtmps://.",
        rank=4,
    ),
    _rule(
        r"Error in the (?:pull|push) function|^tls: IO error",
        _R.SINK_TLS,
        "The server did not complete the encrypted connection. Does it speak TLS on this port? Check port and rtmps://.",
        rank=3,
        side=SINK,
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
        side=SINK,
    ),
    _rule(
        rf"Connection to tcp://\S+ failed: {_NO_ROUTE}",
        _R.SINK_UNREACHABLE,
        "There is no way to the server ({0}). Check this machine's connection to the internet.",
        rank=3,
        side=SINK,
    ),
    _rule(
        r"Connection to tcp://\S+ failed|Cannot open connection tcp:",
        _R.SINK_UNREACHABLE,
        "The server does not answer. Check the server URL, and that no firewall stands between.",
        side=SINK,
    ),
    _rule(
        r"Cannot read RTMP handshake response|RTMP packet size mismatch|Invalid RTMP",
        _R.SINK_UNREACHABLE,
        "Something answers at the server's address but does not speak RTMP. Check host, port and rtmp:// or rtmps://.",
        rank=2,
        side=SINK,
    ),
    _rule(
        rf"(?:{_SERVER}|output[^:]{{0,80}}): (?:Input/output error|Unknown error occurred|Operation not permitted)",
        _R.SINK_REJECTED,
        "The server refused the stream. Check the application in the server URL, and the stream key.",
        rank=1,
        needs_person=True,
        side=SINK,
    ),
    _rule(
        rf"{_SERVER}: (?:End of file|Connection reset|Broken pipe)",
        _R.SINK_CLOSED,
        "The server closed the connection while the stream was being set up.",
        rank=1,
        side=SINK,
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
