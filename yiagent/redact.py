"""Secrets, and the redactor that knows the value of each. Pure; imports nothing of ours.

A secret is replaced by its value, wherever it turns up, before a text is cut, stored or sent: what leaks secrets in
programs like this one is never the message one thought of (a cut that splits the key, a `/` in a password).
"""

from __future__ import annotations

import base64
import json
import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
# A key that was replaced still opens the channel until its owner revokes it, so old values stay known, within bounds.
REMEMBERED_FORMS: Final = 256
# Replacing a secret of one to three characters inside words would garble every line, so those go only as whole words.
SHORT_SECRET: Final = 4
# A query value this short is a switch (`backup=1`), not a token.
HARMLESS_LENGTH: Final = 2

# Each looks for `://` and goes on from there, never over the same text twice: a line may be made to take its time.
_URL_USERINFO = re.compile(r"(?<=[A-Za-z0-9+.-]://)[^\s/?#'\"<>]*@")
_URL_QUERY = re.compile(r"(?<=[A-Za-z0-9+.-]://)([^\s?'\"<>]*)(?:\?([^\s'\"<>]*))?")
# Query parameters of RTMP servers that choose something and open nothing; anything else may be a token.
_HARMLESS_PARAMETERS = frozenset({"backup", "vhost"})


class Secret:
    """A value that no `repr`, `str`, format or exception shows; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself: for the wire and the command line, never for a text a person reads."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def mask_query(query: str) -> str:
    """A URL's query with each value masked that could open something; `backup=1` stays readable."""
    return "&".join(map(_mask_parameter, query.split("&")))


def hidden_value(parameter: str) -> str | None:
    """What of one query parameter could open something; None for a harmless one."""
    name, equals, value = parameter.partition("=")
    if not equals:
        return parameter if len(parameter) > HARMLESS_LENGTH else None
    harmless = "/" not in value and (len(value) <= HARMLESS_LENGTH or name.lower() in _HARMLESS_PARAMETERS)
    return None if harmless else value


def _mask_parameter(parameter: str) -> str:
    if hidden_value(parameter) is None:
        return parameter
    name, equals, _ = parameter.partition("=")
    return f"{name}={MASK}" if equals else MASK


class Redactor:
    """Replaces every secret it was told of, and the credentials of every URL, by `***`."""

    def __init__(self) -> None:
        self._kept: set[str] = set()
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._pattern: re.Pattern[str] | None = None
        self._longest = 0

    @property
    def longest(self) -> int:
        """Length in characters of the longest form of a known secret: what a cut could have split."""
        return self._longest

    def learn(self, secret: Secret | str | None, *, user: str | None = None, keep: bool = False) -> None:
        """From now on `secret` is replaced, in each form a URL, a header or a message gives it.

        `user`: the name that goes with it, for the base64 form of HTTP and RTSP basic authentication. `keep`: never
        forget it, whatever else is learned (the configuration's own).
        """
        value = secret.reveal() if isinstance(secret, Secret) else secret
        if not value:
            return
        forms = set(_forms(value, user))
        if forms <= self._kept or (not keep and forms <= self._recent.keys()):
            return
        if keep:
            self._kept |= forms
        for form in forms:
            self._recent.pop(form, None)
            self._recent[form] = None
        while len(self._recent) > REMEMBERED_FORMS:
            self._recent.popitem(last=False)
        known = self._kept.union(self._recent)
        self._longest = max(map(len, known))
        # Longest first: where one secret contains another, the whole of it goes.
        parts = [_alternative(form) for form in sorted(known, key=len, reverse=True)]
        self._pattern = re.compile("|".join(parts))

    def redact(self, text: str, *, cut: bool = False) -> str:
        """`text` with every known secret and every URL credential replaced. Never raises.

        `cut`: its end was cut off before it came here, perhaps through a secret; what may be left of one goes too.
        """
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        if "://" in text:
            text = _URL_USERINFO.sub(f"{MASK}@", text)
            text = _URL_QUERY.sub(_mask_url, text)
        return text[: max(0, len(text) - self._longest)] + "…" if cut else text


def _mask_url(match: re.Match[str]) -> str:
    address, query = match.groups()
    return address if query is None else f"{address}?{mask_query(query)}"


def _alternative(form: str) -> str:
    escaped = re.escape(form)
    return rf"(?<!\w){escaped}(?!\w)" if len(form) < SHORT_SECRET else escaped


def _forms(value: str, user: str | None) -> Iterable[str]:
    """The ways one secret is written: as it is, escaped, percent-encoded, and in its parts."""
    yield value
    # With both kinds of quotes around, Python's own repr escapes the single one.
    yield from {
        repr(value)[1:-1],
        repr('"' + value)[2:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
    }
    yield from {quote(value, safe=""), quote(value), quote_plus(value)}
    if user is not None:
        yield base64.b64encode(f"{user}:{value}".encode()).decode()
    # A stream key with a query is taken apart by servers and by ffmpeg: its name and each value are as secret as it is.
    name, mark, query = value.partition("?")
    if mark:
        if len(name) >= SHORT_SECRET:
            yield name
        for parameter in query.split("&"):
            text = parameter.partition("=")[2]
            if len(text) >= SHORT_SECRET:
                yield text
