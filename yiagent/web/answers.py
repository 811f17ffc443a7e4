"""The answers of the page's API, as microdot sends them: each with the headers that keep a browser strict."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from microdot import Response

from yiagent.web.page import compress

JSON: Final = "application/json; charset=utf-8"
# Below this, compressing costs more than it saves: it is one packet anyway.
WORTH_COMPRESSING: Final = 1024
_REASONS: Final = {
    200: "OK",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
_STRICT: Final = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # For everything but the page itself, which brings its own: nothing else here is to be rendered.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def answer(
    body: bytes | str | AsyncIterator[bytes],
    *,
    status: int = 200,
    kind: str = JSON,
    accepts: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """One answer. `accepts`: the request's `Accept-Encoding`, where the body may be compressed."""
    data = body.encode() if isinstance(body, str) else body
    every = {**_STRICT, "Content-Type": kind, **(headers or {})}
    if isinstance(data, bytes) and len(data) >= WORTH_COMPRESSING and accepts is not None:
        every["Vary"] = "Accept-Encoding"
        if takes_gzip(accepts):
            data = compress(data)
            every["Content-Encoding"] = "gzip"
    # microdot also takes what yields pieces, which its annotation leaves out.
    return Response(data, status, every, reason=_REASONS[status])  # type: ignore[arg-type]


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal in the shape of the contract's `response`, without what only some may see."""
    document: dict[str, Any] = {"status": "error", "error": {"code": code, "message": message}}
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return answer(body, status=status, headers=headers)


def takes_gzip(accepts: str) -> bool:
    """Whether a browser takes gzip, by its `Accept-Encoding`."""
    for choice in accepts.lower().split(","):
        name, _, weight = choice.strip().partition(";")
        if name.strip() in ("gzip", "*") and weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            return True
    return False
