"""The broker as it is set on the page: what is taken, and where a password may go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from yiagent.brokerchoice import BrokerChoice, ChoiceUnreadable, parse_choice, read_choice, render_choice
from yiagent.brokerfile import BrokerFile, chosen_broker
from yiagent.commands import Refused
from yiagent.redact import Secret
from yiagent.settings import DiscoveryConfig, MqttConfig, TlsConfig

WORD = "made-up-broker-word"
NONE = MqttConfig(None, 1883, None, None, None, "yiagent", 30, DiscoveryConfig(enabled=True, prefix="homeassistant"))
OWN = replace(NONE, host="broker", username="cam", password=Secret(WORD))
TLS = TlsConfig(Path("/ca"), None, None)
CHOICE = BrokerChoice("192.0.2.1", 8883, "cam", Secret(WORD), tls=True)


def parse(current: MqttConfig = OWN, **fields: Any) -> BrokerChoice:
    return parse_choice(json.dumps(fields).encode(), current)


def test_what_is_left_out_stays() -> None:
    """Only what was changed is sent."""
    assert parse() == BrokerChoice("broker", 1883, "cam", Secret(WORD), tls=False)
    assert parse(username="other") == BrokerChoice("broker", 1883, "other", Secret(WORD), tls=False)


def test_all_of_it() -> None:
    """Set at once."""
    fields: dict[str, Any] = {"host": "192.0.2.1", "port": 8883, "username": "a", "password": "b", "tls": True}
    assert parse(**fields) == BrokerChoice("192.0.2.1", 8883, "a", Secret("b"), tls=True)


@pytest.mark.parametrize("nothing", ["", None])
def test_nothing_is_nothing(nothing: str | None) -> None:
    """An empty user and password are none."""
    assert parse(username=nothing, password=nothing) == BrokerChoice("broker", 1883, None, None, tls=False)


@pytest.mark.parametrize(
    ("current", "fields"),
    [
        (OWN, {"host": "elsewhere"}),
        (OWN, {"port": 1884}),
        (replace(OWN, tls=TLS), {"tls": False}),
    ],
)
def test_a_password_is_not_sent_elsewhere(current: MqttConfig, fields: dict[str, Any]) -> None:
    """Nor without the encryption it was given for: who can open the page could otherwise have it sent to himself."""
    with pytest.raises(Refused, match="password: type it again"):
        parse(current, **fields)
    assert parse(current, **fields, password="typed").password == Secret("typed")
    assert parse(current, **fields, password="").password is None


def test_more_encryption_is_no_elsewhere() -> None:
    """The password goes where it went, better guarded."""
    assert parse(tls=True).password == Secret(WORD)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"host": ""}, "host: is empty"),
        ({"host": None}, "host: is empty"),
        ({"host": 5}, "host: must be text"),
        ({"host": "mqtt://broker"}, "host: must be a host name"),
        ({"host": "broker:1883"}, "host: must be a host name"),
        ({"host": "a b"}, "host: must be a host name"),
        ({"host": "x" * 300}, "host: must be a host name"),
        ({"port": 0}, "port: must be a whole number"),
        ({"port": 65536}, "port: must be a whole number"),
        ({"port": "1883"}, "port: must be a whole number"),
        ({"port": 1.5}, "port: must be a whole number"),
        ({"port": True}, "port: must be a whole number"),
        ({"port": None}, "port: must be a whole number"),
        ({"username": "a\nb"}, "username: must be one line"),
        ({"username": 5}, "username: must be one line"),
        ({"username": "", "password": "x"}, "username: is missing"),
        ({"password": "x" * 256}, "password: must be one line"),
        ({"password": ["x"]}, "password: must be one line"),
        ({"tls": "yes"}, "tls: must be true or false"),
        ({"tls": None}, "tls: must be true or false"),
        ({"ca_file": "/etc/passwd"}, "there is no such field"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    """By field, in words; nothing that was typed is repeated."""
    with pytest.raises(Refused) as refused:
        parse(**fields)
    assert message in refused.value.message
    assert "/etc/passwd" not in refused.value.message


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{", b'{"host":"a","host":"b"}', b"\xff", b'{"host":"' + b"x" * 5000 + b'"}']
)
def test_what_is_no_object(payload: bytes) -> None:
    """As for every command."""
    with pytest.raises(Refused):
        parse_choice(payload, OWN)


def test_over_the_configuration() -> None:
    """Its certificates are used where the choice is encrypted, its prefix and the rest always."""
    configured = replace(OWN, tls=TLS, prefix="house")
    assert CHOICE.over(configured) == replace(configured, host="192.0.2.1", port=8883)
    assert replace(CHOICE, tls=False).over(configured).tls is None
    assert CHOICE.over(OWN).tls == TlsConfig(None, None, None)


def test_a_choice_is_kept(tmp_path: Path) -> None:
    """As it was, for its owner's eyes alone, until it is taken back."""
    file = BrokerFile(tmp_path)
    assert file.load() is None
    file.save(CHOICE)
    assert file.load() == CHOICE
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert chosen_broker(OWN, tmp_path).host == "192.0.2.1"
    file.save(None)
    file.save(None)
    assert file.load() is None
    assert chosen_broker(OWN, tmp_path) == OWN


def test_a_choice_without_a_login() -> None:
    """None stays none."""
    choice = BrokerChoice("h", 1, None, None, tls=False)
    assert read_choice(render_choice(choice)) == choice


GOOD = json.loads(render_choice(CHOICE))


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {**GOOD, "version": 2},
        {**GOOD, "version": "1"},
        {**GOOD, "host": None},
        {**GOOD, "port": "8883"},
        {**GOOD, "username": 5},
        {**GOOD, "tls": None},
    ],
)
def test_a_file_that_holds_no_choice(document: Any, tmp_path: Path) -> None:
    """It is told apart, without its content, and the configuration's broker holds."""
    with pytest.raises(ChoiceUnreadable) as unreadable:
        read_choice(json.dumps(document).encode())
    assert WORD not in str(unreadable.value)
    (tmp_path / "broker.json").write_text(json.dumps(document))
    assert chosen_broker(OWN, tmp_path) == OWN


def test_a_choice_shows_no_password() -> None:
    """In no `repr`."""
    assert WORD not in repr(CHOICE)
