"""A visitor without a browser: plain HTTP to a real agent's page."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.harness import AgentProcess
from tests.web.browser import PASSWORD

PATIENCE_S = 20.0


def basic(word: str = PASSWORD, user: str = "yiagent") -> dict[str, str]:
    """The header that logs in."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()}


@dataclass(frozen=True)
class Answer:
    """One answer, whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        assert (self.headers["Content-Type"] or "").startswith("application/json")
        return json.loads(self.text)

    @property
    def text(self) -> str:
        """The body, unpacked."""
        packed = self.headers["Content-Encoding"] == "gzip"
        return (zlib.decompress(self.body, 31) if packed else self.body).decode()


def ask(
    agent: AgentProcess,
    path: str,
    body: bytes | None = None,
    *,
    method: str | None = None,
    login: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send one request, as the owner unless told otherwise; a `body` makes it a POST of JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", agent.config["web"]["port"], timeout=PATIENCE_S)
    every = {
        **(basic() if login is None else login),
        **({"Content-Type": "application/json"} if body is not None else {}),
    }
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, {**every, **(headers or {})})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def post(agent: AgentProcess, path: str, document: Any) -> Answer:
    """Send JSON."""
    return ask(agent, path, json.dumps(document).encode())


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    name: str
    id: str
    data: Any


class Listener:
    """An open stream of events."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""
        self.head = self._until(b"\r\n\r\n").decode()

    def next(self, name: str = "") -> Event:
        """The next event, or the next of one kind; others are passed over."""
        while True:
            fields = {}
            for line in self._until(b"\n\n").decode().splitlines():
                key, _, value = line.partition(": ")
                fields[key] = value
            if fields.get("event") and name in ("", fields["event"]):
                return Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            piece = self.sock.recv(65536)
            assert piece, "the stream has ended"
            self._rest += piece
        found, _, self._rest = self._rest.partition(mark)
        return found


@contextmanager
def listening(agent: AgentProcess, last_event_id: str | None = None) -> Iterator[Listener]:
    """Listen to the events; hangs up at the end."""
    lines = [f"{name}: {value}" for name, value in basic().items()]
    if last_event_id is not None:
        lines.append(f"Last-Event-ID: {last_event_id}")
    request = "\r\n".join(["GET /api/events HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""])
    with contextlib.closing(socket.create_connection(("127.0.0.1", agent.config["web"]["port"]))) as sock:
        sock.settimeout(PATIENCE_S)
        sock.sendall(request.encode())
        yield Listener(sock)
