"""Somebody at the page: asks over HTTP as a browser or a script does, and listens to its events."""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.peers.ports import free_port
from tests.peers.process import wait_until
from tests.test_mqtt import Stand, standing

PASSWORD = "made-up-page-word"
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Reply:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """`error.code` of a refusal."""
        return str(self.json["error"]["code"])


def basic(password: str, user: str = "yiagent") -> str:
    """The header `Authorization` of a login."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


class Visitor:
    """Asks the page at a port of 127.0.0.1. `source`: the address that it comes from, any of 127.0.0.0/8."""

    def __init__(self, port: int, password: str | None = PASSWORD, *, source: str = "127.0.0.1") -> None:
        self.port = port
        self.password = password
        self.source = source

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str | None] | None = None
    ) -> Reply:
        """One request. A header of None is not sent."""
        every: dict[str, str | None] = {}
        if self.password is not None:
            every["Authorization"] = basic(self.password)
        if body is not None:
            every["Content-Type"] = "application/json"
        every.update(headers or {})
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S, source_address=(self.source, 0))
        try:
            connection.request(method, path, body, {name: value for name, value in every.items() if value is not None})
            return _reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        """A GET; `If_None_Match` stands for the header `If-None-Match`."""
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, document: Any = None, **headers: str) -> Reply:
        """A POST of bytes as they are, or of a document as JSON."""
        body = document if isinstance(document, bytes) else json.dumps({} if document is None else document).encode()
        return self.ask("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def request(self, **fields: str) -> Reply:
        """The contract's `request`."""
        return self.post("/api/request", fields)

    def wait_until_served(self) -> None:
        """Return when the page is there."""
        wait_until(self.is_served, TIMEOUT_S, "the page")

    def is_served(self) -> bool:
        """Whether anything answers at its port."""
        try:
            return Visitor(self.port, None).get("/healthz").status in (200, 503)
        except OSError:
            return False

    def listen(self, last_event_id: str | None = None) -> Events:
        """Its events, from now on or from after one that was heard."""
        assert self.password is not None
        return Events(self.port, self.password, last_event_id)


def send_raw(port: int, data: bytes, *, method: str = "GET") -> Reply:
    """Exactly these bytes, and what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(data)
        response = HTTPResponse(connection, method=method)
        response.begin()
        return _reply(response)


def _reply(response: HTTPResponse) -> Reply:
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        assert name.lower() not in headers, f"{name} stands twice"
        headers[name.lower()] = value
    return Reply(response.status, headers, response.read())


class Event(NamedTuple):
    """One server-sent event; a comment has the name `:`."""

    name: str
    id: str
    data: str

    @property
    def json(self) -> Any:
        """Its data."""
        return json.loads(self.data)


class Events:
    """A reader of the page's events, by the letter of the HTML standard; it reads only when asked."""

    def __init__(
        self, port: int, password: str = PASSWORD, last_event_id: str | None = None, *, receive_bytes: int = 0
    ) -> None:
        self._socket = socket.socket()
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(("127.0.0.1", port))
        mark = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id is not None else ""
        head = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {basic(password)}\r\n{mark}\r\n"
        self._socket.sendall(head.encode())
        self._response = HTTPResponse(self._socket)
        self.retry_ms: int | None = None
        self.heard: list[Event] = []

    def begin(self) -> Reply:
        """The head of the answer, and its body where it is no stream."""
        self._response.begin()
        headers = {name.lower(): value for name, value in self._response.getheaders()}
        body = b"" if self._response.status == 200 else self._response.read()
        return Reply(self._response.status, headers, body)

    def next(self) -> Event:
        """The next event or comment. Raises `EOFError` at the end."""
        name = id = ""
        data: list[str] = []
        while True:
            raw = self._response.readline()
            if not raw:
                raise EOFError
            line = raw.decode().removesuffix("\n")
            assert "\r" not in line
            if not line:
                if data:
                    event = Event(name, id, "\n".join(data))
                    self.heard.append(event)
                    return event
                if name == ":":
                    return Event(name, "", "")
                continue
            field, _, value = line.partition(": ")
            if not field or line.startswith(":"):
                name = ":"
            elif field == "retry":
                self.retry_ms = int(value)
            elif field == "event":
                name = value
            elif field == "id":
                id = value
            else:
                assert field == "data", line
                data.append(value)

    def until(self, condition: Callable[[Event], bool]) -> Event:
        """The next event that meets the condition."""
        while True:
            event = self.next()
            if condition(event):
                return event

    def log_until(self, text: str) -> list[Event]:
        """The events `log` up to the first whose message holds the text."""
        found: list[Event] = []
        while not found or text not in found[-1].json["message"]:
            found.append(self.until(lambda event: event.name == "log"))
        return found

    def close(self) -> None:
        """Go away."""
        self._response.close()
        self._socket.close()

    def __enter__(self) -> Self:
        reply = self.begin()
        assert reply.status == 200, reply
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class PageStand:
    """An agent with a page, its listener on the broker, and a visitor."""

    stand: Stand
    visitor: Visitor


@contextmanager
def served(folder: Path, broker_port: int, **config: Any) -> Iterator[PageStand]:
    """An agent of its own that serves a page, which is there."""
    port = free_port()
    web = {"enabled": True, "host": "127.0.0.1", "port": port, "password": PASSWORD, **config.pop("web", {})}
    with standing(folder, broker_port, web=web, **config) as stand:
        visitor = Visitor(port)
        visitor.wait_until_served()
        yield PageStand(stand, visitor)
