"""The server's half of RTSP as text: requests, replies, and logins."""

import asyncio
import base64
import hashlib
import re
import secrets
from dataclasses import dataclass

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Stream Not Found",
    405: "Method Not Allowed",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    461: "Unsupported Transport",
}
REALM = "camera"
MAX_HEADERS = 64


@dataclass(frozen=True)
class Request:
    """One RTSP request; header names are in lower case."""

    method: str
    url: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """The path of the URL, with neither host nor query."""
        return re.sub(r"^rtsp://[^/]*", "", self.url).partition("?")[0]


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read the next request, past any interleaved RTCP of the client; None at the end; ValueError for what is none."""
    try:
        while (first := await reader.readexactly(1)) == b"$":
            _, *length = await reader.readexactly(3)
            await reader.readexactly(int.from_bytes(bytes(length)))
        lines = [(first + await reader.readline()).decode().strip()]
        while line := (await reader.readline()).decode().strip():
            lines.append(line)
            if len(lines) > MAX_HEADERS:
                raise ValueError("too many headers")
        method, url, _ = lines[0].split(" ")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Request(method, url, headers)


def reply(request: Request, status: int, headers: dict[str, str], body: str = "") -> bytes:
    """Give the bytes of a reply."""
    lines = [f"RTSP/1.0 {status} {REASONS[status]}", f"CSeq: {request.headers.get('cseq', '0')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


class Login:
    """One name and password, asked for in one way only: `digest` (RFC 2069, as cameras do it) or `basic`."""

    def __init__(self, user: str, password: str, scheme: str) -> None:
        self._user = user
        self._password = password
        self._scheme = scheme
        self._nonce = secrets.token_hex(16)

    @property
    def challenge(self) -> str:
        """The value of WWW-Authenticate."""
        if self._scheme == "basic":
            return f'Basic realm="{REALM}"'
        return f'Digest realm="{REALM}", nonce="{self._nonce}"'

    def accepts(self, request: Request) -> bool:
        """Tell whether the request proves that it knows the password."""
        scheme, _, proof = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != self._scheme:
            return False
        if self._scheme == "basic":
            return proof == base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        fields = dict(re.findall(r'(\w+)="([^"]*)"', proof))
        secret = _md5(f"{self._user}:{REALM}:{self._password}")
        action = _md5(f"{request.method}:{fields.get('uri', '')}")
        wanted = _md5(f"{secret}:{self._nonce}:{action}")
        return (fields.get("username"), fields.get("nonce")) == (self._user, self._nonce) and secrets.compare_digest(
            fields.get("response", ""), wanted
        )


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
