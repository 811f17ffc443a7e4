"""The head of an HTTP/1 request, taken apart strictly: what two programs could read in two ways is refused. Pure.

Sources: RFC 9110 and RFC 9112; the limits are what was measured to hold under attack on a small machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LONGEST_LINE: Final = 8192
LONGEST_HEAD: Final = 16384
MOST_HEADERS: Final = 64
LONGEST_BODY: Final = 16384
END: Final = b"\r\n\r\n"

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What a browser sends of a path and query: visible ASCII. Nothing here has other characters in its name.
_TARGET = re.compile(rb"/[!-~]*")
_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_LENGTH = re.compile(rb"[0-9]{1,10}")
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\0")
# Each of these twice is two meanings.
_SINGLE: Final = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "authorization",
        "origin",
        "last-event-id",
        "expect",
    }
)


class BadRequest(Exception):
    """A request that is not answered as asked, with the status that says so; `message` is for its sender."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Head:
    """`target` is path and query as sent; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    content_length: int
    continues: bool
    """Whether the sender waits for a word before it sends the body (`Expect: 100-continue`)."""


def check_piece(data: bytes) -> None:
    """Refuse early what can never become a head: a line feed or carriage return alone, a NUL, too much of it.

    Raises `BadRequest`.
    """
    if _BARE.search(data):
        raise BadRequest(400, "a line must end with CR LF, and no NUL may stand in it")
    if len(data) > LONGEST_HEAD:
        raise BadRequest(431, f"the head of the request is longer than {LONGEST_HEAD >> 10} kB")


def parse_head(data: bytes) -> Head:
    """The head in `data`, without the empty line that ends it. Raises `BadRequest`."""
    check_piece(data)
    first, *lines = data.split(b"\r\n")
    if len(first) > LONGEST_LINE:
        raise BadRequest(414, f"the address is longer than {LONGEST_LINE >> 10} kB")
    if len(lines) > MOST_HEADERS:
        raise BadRequest(431, f"more than {MOST_HEADERS} header lines")
    method, target, minor = _request_line(first)
    headers: dict[str, str] = {}
    for line in lines:
        name, value = _header(line)
        if name in headers and name in _SINGLE:
            raise BadRequest(400, f"the header {name} stands twice")
        headers[name] = value
    if minor >= 1 and "host" not in headers:
        raise BadRequest(400, "the header Host is missing")
    return Head(method, target, headers, _content_length(headers), _continues(headers))


def _request_line(line: bytes) -> tuple[str, str, int]:
    parts = line.split(b" ")
    version = _VERSION.fullmatch(parts[-1]) if len(parts) == 3 else None
    if version is None or not _TOKEN.fullmatch(parts[0]):
        raise BadRequest(400, "this is not an HTTP request")
    if version.group(1) != b"1":
        raise BadRequest(505, "this server speaks HTTP/1.1")
    if not _TARGET.fullmatch(parts[1]):
        raise BadRequest(400, "the address must be a path that begins with /")
    return parts[0].decode("ascii"), parts[1].decode("ascii"), int(version.group(2))


def _header(line: bytes) -> tuple[str, str]:
    if len(line) > LONGEST_LINE:
        raise BadRequest(431, f"a header line is longer than {LONGEST_LINE >> 10} kB")
    name, colon, value = line.partition(b":")
    # A space before the colon, or a line that continues the one before, is read in two ways by two programs.
    if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
        raise BadRequest(400, "a header line is malformed")
    return name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")


def _content_length(headers: dict[str, str]) -> int:
    value = headers.get("content-length")
    if "transfer-encoding" in headers:
        if value is not None:
            raise BadRequest(400, "Transfer-Encoding and Content-Length contradict each other")
        raise BadRequest(411, "send the body whole, with Content-Length; Transfer-Encoding is not taken")
    if value is None:
        return 0
    if not _LENGTH.fullmatch(value.encode("latin-1")):
        raise BadRequest(400, "Content-Length must be a number")
    if int(value) > LONGEST_BODY:
        raise BadRequest(413, f"the body is longer than {LONGEST_BODY >> 10} kB")
    return int(value)


def _continues(headers: dict[str, str]) -> bool:
    expected = headers.get("expect")
    if expected is not None and expected.lower() != "100-continue":
        raise BadRequest(417, "the only Expect known here is 100-continue")
    return expected is not None
