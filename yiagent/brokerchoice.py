"""The broker as the owner set it on the page, which wins over the configuration's until it is taken back. Pure.

The page can name no file: encryption uses those of the configuration, where it names some.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from yiagent.commands import RefusalCode, Refused, parse_object
from yiagent.redact import Secret
from yiagent.settings import MqttConfig, TlsConfig
from yiagent.urls import BadUrl, check_broker_host

VERSION: Final = 1
LONGEST_TEXT: Final = 255
_FIELDS: Final = ("host", "port", "username", "password", "tls")


class ChoiceUnreadable(Exception):
    """What was saved does not hold a choice that this version understands; the message repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class BrokerChoice:
    """One broker: where it is, and who the agent is there. `password` None: none is sent."""

    host: str
    port: int
    username: str | None
    password: Secret | None
    tls: bool

    def over(self, configured: MqttConfig) -> MqttConfig:
        """The configuration's settings with these instead of its own."""
        tls = (configured.tls or TlsConfig(None, None, None)) if self.tls else None
        return replace(
            configured, host=self.host, port=self.port, username=self.username, password=self.password, tls=tls
        )


def parse_choice(payload: bytes, current: MqttConfig) -> BrokerChoice:
    """The choice in the page's JSON. A field that is left out stays as it is. Raises `Refused`, by field.

    The password that is kept here goes on only to the machine that it was given for, and no less guarded.
    """
    document = parse_object(payload)
    for field in document:
        if field not in _FIELDS:
            raise Refused(RefusalCode.UNKNOWN_FIELD, f"there is no such field; there are {', '.join(_FIELDS)}")
    host = _host(document.get("host", current.host))
    port = _port(document.get("port", current.port))
    tls = document.get("tls", current.tls is not None)
    if not isinstance(tls, bool):
        raise _refused("tls", "must be true or false")
    username = _text("username", document.get("username", current.username))
    if "password" in document:
        password = _text("password", document["password"])
        secret = Secret(password) if password is not None else None
    else:
        secret = current.password
        elsewhere = (host, port) != (current.host, current.port) or (current.tls is not None and not tls)
        if secret is not None and elsewhere:
            message = "type it again: it was given for another address, or for an encrypted connection"
            raise _refused("password", message)
    if secret is not None and username is None:
        raise _refused("username", "is missing: a password is given without a user name")
    return BrokerChoice(host, port, username, secret, tls)


def render_choice(choice: BrokerChoice) -> bytes:
    """A file's content. It holds the password: the file's mode is 0600 where the file system has modes."""
    document = {
        "version": VERSION,
        "host": choice.host,
        "port": choice.port,
        "username": choice.username,
        "password": choice.password.reveal() if choice.password is not None else None,
        "tls": choice.tls,
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def read_choice(data: bytes) -> BrokerChoice:
    """The choice in a file's content. Raises `ChoiceUnreadable`."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ChoiceUnreadable("it is damaged") from None
    if not isinstance(document, dict) or not isinstance(document.get("version"), int):
        raise ChoiceUnreadable("it is damaged")
    if document["version"] > VERSION:
        raise ChoiceUnreadable("it was written by a newer version of yiagent")
    try:
        password = _text("password", document.get("password"))
        tls = document.get("tls")
        if not isinstance(tls, bool):
            raise _refused("tls", "must be true or false")
        return BrokerChoice(
            host=_host(document.get("host")),
            port=_port(document.get("port")),
            username=_text("username", document.get("username")),
            password=Secret(password) if password is not None else None,
            tls=tls,
        )
    except Refused:
        raise ChoiceUnreadable("it holds a value that this version does not know") from None


def _refused(field: str, message: str) -> Refused:
    return Refused(RefusalCode.INVALID_VALUE, f"{field}: {message}")


def _host(value: Any) -> str:
    if value is None or value == "":
        raise _refused("host", "is empty: name the machine on which the broker runs")
    if not isinstance(value, str):
        raise _refused("host", "must be text")
    try:
        return check_broker_host(value)
    except BadUrl as error:
        raise _refused("host", str(error)) from None


def _port(value: Any) -> int:
    # bool is an int to Python.
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise _refused("port", "must be a whole number from 1 to 65535")
    return value


def _text(field: str, value: Any) -> str | None:
    """Text, or None for none at all."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise _refused(field, f"must be one line of text of at most {LONGEST_TEXT} characters")
    return value
