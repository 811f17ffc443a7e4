"""The closed set of commands, and how MQTT payloads and the page's JSON become one. Pure.

Every front end parses with this module, so that a refusal says the same thing wherever it was caused. No message
repeats a payload: it may be a stream key sent to the wrong topic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from yiagent import topics
from yiagent.model import Channel
from yiagent.redact import Secret
from yiagent.urls import BadUrl, check_key, parse_server, split_publish_url

MAX_PAYLOAD_BYTES: Final = 4096
MAX_TRANSACTION_LENGTH: Final = 128


class RefusalCode(StrEnum):
    """Why a command was refused; `error.code` of a response."""

    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    UNKNOWN_COMMAND = "unknown_command"
    UNKNOWN_FIELD = "unknown_field"
    INVALID_VALUE = "invalid_value"
    NOT_AVAILABLE = "not_available"


class Refused(Exception):
    """A command that was not carried out; nothing has changed. The message is for the one who sent it."""

    def __init__(self, code: RefusalCode, message: str, transaction: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.transaction = transaction


@dataclass(frozen=True, slots=True)
class Change:
    """What the owner wants from now on; None leaves a thing as it is."""

    stream: bool | None = None
    server: str | None = None
    key: Secret | None = None
    channel: Channel | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart the remux now; leaves `failed` and cuts a wait short."""


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Take a picture of what the camera shows."""


Command = Change | Restart | TakeSnapshot


@dataclass(frozen=True, slots=True)
class Request:
    """A command that wants an answer; `transaction` is the sender's own mark, given back with it."""

    transaction: str | None
    command: Change


def parse_command(name: str, payload: bytes) -> Command:
    """The command `name` (such as `stream/set`, without root) with its payload. Raises `Refused`."""
    text = _text(payload)
    parse = _COMMANDS.get(name)
    if parse is None:
        raise Refused(RefusalCode.UNKNOWN_COMMAND, f"there is no such command{_hint(name, _COMMANDS)}")
    try:
        return parse(text)
    except BadUrl as error:
        raise Refused(RefusalCode.INVALID_VALUE, str(error)) from None


def parse_request(payload: bytes) -> Request:
    """The JSON of a `request`. Raises `Refused`, with the transaction where it could be read."""
    document = parse_object(payload)
    transaction = document.pop("transaction", None)
    if transaction is not None and not _is_transaction(transaction):
        message = f"transaction must be one line of text of at most {MAX_TRANSACTION_LENGTH} characters"
        raise Refused(RefusalCode.INVALID_VALUE, message)
    return Request(transaction, _change(document, transaction))


def parse_object(payload: bytes) -> dict[str, Any]:
    """The JSON object that a payload is. Raises `Refused`."""
    text = _text(payload)
    try:
        document = json.loads(text, object_pairs_hook=_no_duplicates)
    except _Duplicate:
        raise Refused(RefusalCode.NOT_JSON, "the JSON object names a field twice") from None
    except (ValueError, RecursionError):
        raise Refused(RefusalCode.NOT_JSON, "the payload is not valid JSON") from None
    if not isinstance(document, dict):
        raise Refused(RefusalCode.NOT_JSON, 'the payload must be a JSON object such as {"stream":"ON"}')
    return document


def _is_transaction(value: object) -> bool:
    # isprintable() also refuses lone surrogates, which JSON can hold and UTF-8 cannot.
    return isinstance(value, str) and len(value) <= MAX_TRANSACTION_LENGTH and value.isprintable()


def _change(document: dict[str, Any], transaction: str | None) -> Change:
    values: dict[str, Any] = {}
    for field, value in document.items():
        check = _FIELDS.get(field)
        if check is None:
            message = f"the request holds an unknown field{_hint(field, _FIELDS)}"
            raise Refused(RefusalCode.UNKNOWN_FIELD, message, transaction)
        if not isinstance(value, str):
            raise Refused(RefusalCode.INVALID_VALUE, f"{field} must be text", transaction)
        try:
            values[field] = check(value)
        except BadUrl as error:
            raise Refused(RefusalCode.INVALID_VALUE, f"{field}: {error}", transaction) from None
        except Refused as error:
            raise Refused(error.code, f"{field}: {error.message}", transaction) from None
    return Change(**values)


def _text(payload: bytes) -> str:
    if len(payload) > MAX_PAYLOAD_BYTES:
        message = f"the payload is longer than {MAX_PAYLOAD_BYTES} bytes"
        raise Refused(RefusalCode.TOO_LARGE, message)
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(RefusalCode.NOT_UTF8, "the payload is not text in UTF-8") from None


class _Duplicate(ValueError):
    pass


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise _Duplicate
    return document


def _choice(text: str, allowed: tuple[str, ...]) -> str:
    if text in allowed:
        return text
    raise Refused(RefusalCode.INVALID_VALUE, f"must be {' or '.join(allowed)}{_hint(text, allowed)}")


def _hint(text: str, allowed: Mapping[str, Any] | tuple[str, ...]) -> str:
    """ "; did you mean …?" from the allowed words only, so that nothing typed is repeated."""
    if len(text) > 64:
        return ""
    # Imported only for a refusal: on a camera every import at start is paid for.
    from difflib import get_close_matches

    close = get_close_matches(text.lower(), {word.lower(): None for word in allowed}, n=1)
    return f"; did you mean {next(word for word in allowed if word.lower() == close[0])}?" if close else ""


def _stream(text: str) -> bool:
    return _choice(text, ("ON", "OFF")) == "ON"


def _channel(text: str) -> Channel:
    return Channel(_choice(text, tuple(Channel)))


def _server(text: str) -> str:
    parse_server(text)
    return text


def _key(text: str) -> Secret:
    return Secret(check_key(text))


def _url(text: str) -> Change:
    server, key = split_publish_url(text)
    return Change(server=server, key=Secret(key))


def _press(command: Command) -> Callable[[str], Command]:
    def parse(text: str) -> Command:
        _choice(text, ("PRESS",))
        return command

    return parse


_FIELDS: Final[Mapping[str, Callable[[str], Any]]] = {
    "stream": _stream,
    "server": _server,
    "key": _key,
    "channel": _channel,
}
_COMMANDS: Final[Mapping[str, Callable[[str], Command]]] = {
    topics.STREAM_SET: lambda text: Change(stream=_stream(text)),
    topics.URL_SET: _url,
    topics.SERVER_SET: lambda text: Change(server=_server(text)),
    topics.KEY_SET: lambda text: Change(key=_key(text)),
    topics.CHANNEL_SET: lambda text: Change(channel=_channel(text)),
    topics.RESTART_SET: _press(Restart()),
    topics.SNAPSHOT_SET: _press(TakeSnapshot()),
}
