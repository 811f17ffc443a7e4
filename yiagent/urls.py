"""RTMP and RTSP addresses as owners type them: taken apart, checked, masked. Pure.

No message here repeats what was typed: a refused URL is as likely to hold a key as an accepted one.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

from yiagent.redact import MASK, Secret, hidden_value, mask_query

# Home Assistant drops a text over 255 characters; no server in use comes near it.
MAX_SERVER_LENGTH: Final = 255
MAX_KEY_LENGTH: Final = 255
MAX_SOURCE_LENGTH: Final = 1024

_BROKER_HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,253}")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
# Many cheap cameras take the login in the path: /user=admin_password=…_channel=1_stream=0.sdp
_PATH_PASSWORD = re.compile(r"(?i)\b((?:password|passwd|pass|pwd)=)([^&?/_]*)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class BadUrl(ValueError):
    """The owner's URL or key cannot be used; the message says what is allowed and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Url:
    """One URL in its parts. `path` still holds the query and may be empty; `port` None is the scheme's own."""

    scheme: str
    host: str
    port: int | None
    path: str
    username: str | None = None
    password: Secret | None = field(default=None)

    @property
    def authority(self) -> str:
        """`host[:port]`, an IPv6 address in its brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def masked(self) -> str:
        """The URL as it may be shown: no credentials, no query value that could open something."""
        path, mark, query = self.path.partition("?")
        path = _PATH_PASSWORD.sub(rf"\1{MASK}", path)
        userinfo = f"{MASK}@" if self.username is not None else ""
        return f"{self.scheme}://{userinfo}{self.authority}{path}{mark}{mask_query(query)}"

    @property
    def secrets(self) -> list[Secret]:
        """What in this URL opens something: its password, passwords in its path, and tokens in its query."""
        path, _, query = self.path.partition("?")
        values = [match.group(2) for match in _PATH_PASSWORD.finditer(path)]
        values += [value for value in map(hidden_value, query.split("&")) if value is not None]
        return [*([self.password] if self.password else []), *(Secret(value) for value in values if value)]


def parse_server(text: str) -> Url:
    """An `rtmp://` or `rtmps://` server URL without the stream key. Raises `BadUrl`."""
    return _parse(text, ("rtmp", "rtmps"), "server URL", MAX_SERVER_LENGTH)


def parse_source(text: str) -> Url:
    """A camera's `rtsp://` or `rtsps://` URL; user and password in it are percent-decoded. Raises `BadUrl`."""
    url = _parse(text, ("rtsp", "rtsps"), "camera URL", MAX_SOURCE_LENGTH)
    password = Secret(unquote(url.password.reveal())) if url.password is not None else None
    username = unquote(url.username) if url.username is not None else None
    return Url(url.scheme, url.host, url.port, url.path, username, password)


def split_publish_url(text: str) -> tuple[str, str]:
    """`rtmp://host/app/key` cut at its last `/` into server and stream key. Raises `BadUrl`."""
    server, slash, key = text.rpartition("/")
    if not slash or server.endswith((":/", ":")):
        raise BadUrl("the URL must be rtmp://host/app/key or rtmps://host/app/key")
    if not key:
        raise BadUrl("the URL ends with “/”, so it holds no stream key: add the key after the last “/”")
    parse_server(server)
    check_key(key)
    return server, key


def check_key(text: str) -> str:
    """The stream key itself, checked. Raises `BadUrl`."""
    if not text:
        raise BadUrl("the stream key is empty")
    if len(text) > MAX_KEY_LENGTH:
        raise BadUrl(f"the stream key is longer than {MAX_KEY_LENGTH} characters")
    if not text.isprintable():
        raise BadUrl("the stream key holds a line break or another control character: paste it as one line")
    if text != text.strip():
        raise BadUrl("the stream key begins or ends with a space: paste it without")
    return text


def check_broker_host(text: str) -> str:
    """An MQTT broker's host name or address, checked. Raises `BadUrl`."""
    # An IPv6 address has two colons or more; one alone is a port's.
    if not _BROKER_HOST.fullmatch(text) or text.count(":") == 1:
        raise BadUrl("must be a host name or an address alone, without mqtt:// and port")
    return text


def source_address(url: Url, username: str | None, password: Secret | None) -> str:
    """The camera's URL as ffmpeg takes it, with percent-encoded credentials. Secret: never shown, never logged."""
    if username is None:
        username, password = url.username, url.password
    userinfo = ""
    if username is not None:
        userinfo = quote(username, safe="")
        if password is not None:
            userinfo += ":" + quote(password.reveal(), safe="")
        userinfo += "@"
    return f"{url.scheme}://{userinfo}{url.authority}{url.path}"


def _parse(text: str, schemes: tuple[str, ...], what: str, longest: int) -> Url:
    allowed = " or ".join(f"{scheme}://" for scheme in schemes)
    if not text:
        raise BadUrl(f"the {what} is empty: it must begin with {allowed}")
    if len(text) > longest:
        raise BadUrl(f"the {what} is longer than {longest} characters")
    match = _SCHEME.match(text)
    if match is None or match.group(1).lower() not in schemes:
        raise BadUrl(f"the {what} must begin with {allowed}")
    if not text.isprintable() or any(character.isspace() for character in text):
        raise BadUrl(f"the {what} holds a space, a line break or a control character")
    if MASK in text:
        raise BadUrl(f"the {what} holds “{MASK}”, which stands for something hidden: type it whole")
    if "#" in text:
        raise BadUrl(f"the {what} holds “#”, which no server is sent: write it as %23")
    rest = text[match.end() :]
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    userinfo, at, hostport = authority.rpartition("@")
    host, port = _host_and_port(hostport, what)
    username: str | None = None
    password: Secret | None = None
    if at:
        username, colon, word = userinfo.partition(":")
        password = Secret(word) if colon else None
    return Url(match.group(1).lower(), host, port, path, username, password)


def _host_and_port(text: str, what: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_ipv6(host):
            raise BadUrl(f"the {what} has no valid IPv6 address between its brackets")
        if rest and not rest.startswith(":"):
            raise BadUrl(f"the {what} has something between the “]” of its address and the port")
        port = rest[1:] if rest else None
    else:
        host, colon, rest = text.partition(":")
        if ":" in rest:
            raise BadUrl(f"the {what} has an IPv6 address without brackets: write it as [address]")
        if not host:
            raise BadUrl(f"the {what} names no host")
        if not _HOST.fullmatch(host):
            raise BadUrl(f"the {what} has a host name with characters that no host name has")
        port = rest if colon else None
    if port is None:
        return host, None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise BadUrl(f"the {what} has a port that is not a number from 1 to 65535")
    return host, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return False
    return True
