"""The head of a request: what is taken, and that nothing is taken in two ways."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yiagent.web.head import LONGEST_BODY, LONGEST_LINE, MOST_HEADERS, BadRequest, check_piece, parse_head


def head(*lines: bytes, first: bytes = b"GET /api/state?x=1 HTTP/1.1", host: bytes | None = b"Host: camera") -> bytes:
    return b"\r\n".join([first, *([host] if host is not None else []), *lines])


def test_a_plain_request() -> None:
    """Method, address and headers by lower-case name, values without the blanks around."""
    parsed = parse_head(head(b"X-Two:  a b \t", b"Content-Length: 12"))
    assert (parsed.method, parsed.target) == ("GET", "/api/state?x=1")
    assert parsed.headers == {"host": "camera", "x-two": "a b", "content-length": "12"}
    assert (parsed.content_length, parsed.continues) == (12, False)


def test_http_1_0_needs_no_host() -> None:
    """It came later."""
    assert parse_head(head(first=b"GET / HTTP/1.0", host=None)).target == "/"


def test_who_waits_for_a_word() -> None:
    """`Expect: 100-continue`, in any case of letters."""
    assert parse_head(head(b"Expect: 100-Continue", b"Content-Length: 1")).continues


def test_the_largest_that_is_taken() -> None:
    """All limits are reached without harm."""
    assert len(parse_head(head(*(b"X%d: y" % n for n in range(MOST_HEADERS - 1)))).headers) == MOST_HEADERS
    assert parse_head(head(b"X: " + b"y" * (LONGEST_LINE - 3))).headers["x"] == "y" * (LONGEST_LINE - 3)
    assert parse_head(head(b"Content-Length: %d" % LONGEST_BODY)).content_length == LONGEST_BODY


REFUSED = [
    (400, head(first=b"GET /")),
    (400, head(first=b"GET  / HTTP/1.1")),
    (400, head(first=b"GET / HTTP/1.1 ")),
    (400, head(first=b"GET x HTTP/1.1")),
    (400, head(first=b"GET http://camera/ HTTP/1.1")),
    (400, head(first=b"OPTIONS * HTTP/1.1")),
    (400, head(first=b"G(T / HTTP/1.1")),
    (400, head(first=b"GET /\xc3\xa4 HTTP/1.1")),
    (400, head(first=b"GET / FTP/1.1")),
    (400, head(first=b"")),
    (505, head(first=b"PRI * HTTP/2.0")),
    (505, head(first=b"GET / HTTP/3.0")),
    (414, head(first=b"GET /" + b"y" * LONGEST_LINE + b" HTTP/1.1")),
    (400, head(host=None)),
    (400, head(b"Host: other")),
    (400, head(b"X : y")),
    (400, head(b"X: a", b" b")),
    (400, head(b"no colon")),
    (400, head(b": empty")),
    (400, head(b"X: a\x01b")),
    (400, head(b"X: a\0b")),
    (400, head(b"X: a\nb")),
    (400, head(b"X: a\rb")),
    (431, head(*(b"X: y" for _ in range(MOST_HEADERS)))),
    (431, head(b"X: " + b"y" * LONGEST_LINE)),
    (400, head(b"Content-Length: 1", b"Content-Length: 1")),
    (400, head(b"Content-Length: -1")),
    (400, head(b"Content-Length: +1")),
    (400, head(b"Content-Length: 1_0")),
    (400, head(b"Content-Length: 0x1")),
    (400, head(b"Content-Length: 1, 1")),
    (400, head(b"Content-Length: ")),
    (400, head(b"Content-Length: \xb2")),
    (400, head(b"Content-Length: 99999999999")),
    (413, head(b"Content-Length: %d" % (LONGEST_BODY + 1))),
    (411, head(b"Transfer-Encoding: chunked")),
    (411, head(b"Transfer-Encoding: identity")),
    (400, head(b"Transfer-Encoding: chunked", b"Content-Length: 1")),
    (400, head(b"Authorization: Basic a", b"Authorization: Basic b")),
    (417, head(b"Expect: a miracle")),
]


@pytest.mark.parametrize(("status", "data"), REFUSED)
def test_what_is_refused(status: int, data: bytes) -> None:
    """By the status that says why."""
    with pytest.raises(BadRequest) as refused:
        parse_head(data)
    assert refused.value.status == status


@pytest.mark.parametrize("piece", [b"GET /\n", b"GET / HTTP/1.1\r\nX: \0", b"a\rb", b"y" * 16385])
def test_what_can_never_become_a_head_is_refused_early(piece: bytes) -> None:
    """Without waiting for its end."""
    with pytest.raises(BadRequest):
        check_piece(piece)


def test_half_a_line_end_may_still_become_a_whole_one() -> None:
    """A piece may end between the two."""
    check_piece(b"GET / HTTP/1.1\r")


@given(st.binary(max_size=400) | st.lists(st.binary(max_size=60), max_size=8).map(lambda lines: head(*lines)))
def test_whatever_comes_is_taken_or_refused(data: bytes) -> None:
    """It raises nothing else."""
    with contextlib.suppress(BadRequest):
        parse_head(data)
