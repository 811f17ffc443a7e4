"""Commands from MQTT and from the page: a closed set, and no refusal repeats what it refuses."""

import json
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yiagent.commands import (
    MAX_PAYLOAD_BYTES,
    MAX_TRANSACTION_LENGTH,
    Change,
    Command,
    RefusalCode,
    Refused,
    Request,
    Restart,
    TakeSnapshot,
    parse_command,
    parse_request,
)
from yiagent.model import Channel
from yiagent.redact import Secret

C = RefusalCode
SETS = ("stream/set", "url/set", "server/set", "key/set", "channel/set", "restart/set", "snapshot/set")
MARKER = "Zq7xK9wV3"


def _refused(parse: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as refused:
        parse()
    assert str(refused.value) == refused.value.message
    assert refused.value.__cause__ is None
    return refused.value


@pytest.mark.parametrize(
    ("name", "payload", "command"),
    [
        ("stream/set", "ON", Change(stream=True)),
        ("stream/set", "OFF", Change(stream=False)),
        ("url/set", "rtmp://h/app/key", Change(server="rtmp://h/app", key=Secret("key"))),
        ("url/set", "rtmps://[::1]:443/a/b/k?x=1&y", Change(server="rtmps://[::1]:443/a/b", key=Secret("k?x=1&y"))),
        ("server/set", "rtmp://h/app", Change(server="rtmp://h/app")),
        (
            "server/set",
            "rtmps://a.rtmps.youtube.com/live2?backup=1",
            Change(server="rtmps://a.rtmps.youtube.com/live2?backup=1"),
        ),
        ("key/set", "made-up-key", Change(key=Secret("made-up-key"))),
        ("key/set", "-f", Change(key=Secret("-f"))),
        ("key/set", "ключ/🔑?a=b", Change(key=Secret("ключ/🔑?a=b"))),
        ("channel/set", "sd", Change(channel=Channel.SD)),
        ("channel/set", "hd", Change(channel=Channel.HD)),
        ("channel/set", "auto", Change(channel=Channel.AUTO)),
        ("restart/set", "PRESS", Restart()),
        ("snapshot/set", "PRESS", TakeSnapshot()),
    ],
)
def test_the_table_of_the_contract(name: str, payload: str, command: Command) -> None:
    """Each topic with each payload of the table gives its command and nothing beside it."""
    assert parse_command(name, payload.encode()) == command


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", C.INVALID_VALUE),
        (b" ", C.INVALID_VALUE),
        (b"\xff\xfe", C.NOT_UTF8),
        (b"ON\xc3", C.NOT_UTF8),
        (b"\xed\xa0\x80", C.NOT_UTF8),
        (b"x" * (MAX_PAYLOAD_BYTES + 1), C.TOO_LARGE),
        (b"\xff" * 5_000_000, C.TOO_LARGE),
        (b"ON\n", C.INVALID_VALUE),
        (b"ON\0", C.INVALID_VALUE),
        (b"\xef\xbb\xbfON", C.INVALID_VALUE),
    ],
)
def test_payloads_that_no_command_takes(name: str, payload: bytes, code: RefusalCode) -> None:
    """Empty, not UTF-8, over 4 KiB or with a control character: refused on every topic, with the code that says why."""
    assert _refused(lambda: parse_command(name, payload)).code is code


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        *[
            ("stream/set", payload)
            for payload in ("on", "On", "TRUE", "1", '"ON"', '{"stream":"ON"}', "ON OFF", "PRESS")
        ],
        *[("channel/set", payload) for payload in ("SD", "720p", "sd,hd", "null", "")],
        *[("restart/set", payload) for payload in ("press", "ON", "1", "PRESS PRESS")],
        *[("snapshot/set", payload) for payload in ("press", "ON", "/etc/passwd")],
        *[
            (name, payload)
            for name in ("server/set", "url/set")
            for payload in (
                "http://h/app/key",
                "file:///etc/passwd",
                "-f",
                "-i",
                "***",
                "rtsp://h/app/key",
                "rtmp:///app/key",
                "rtmp://h:0/app/key",
                "rtmp://h/app/key\n",
                "rtmp://h/a b/key",
                "rtmp://" + "h" * 300 + "/app/key",
                "concat:rtmp://h/app/key",
                "h/app/key",
            )
        ],
        ("url/set", "rtmp://h/app/"),
        ("url/set", "rtmp://h"),
        ("url/set", "rtmp://h/app/" + "k" * 300),
        ("key/set", "k" * 300),
        ("key/set", "two\nlines"),
        ("key/set", "key\n"),
        ("key/set", " key"),
        ("key/set", "k\x1b[2J"),
    ],
)
def test_values_that_a_command_refuses(name: str, payload: str) -> None:
    """What is not in the table, no rtmp URL with a host, or no key of one line is refused as a value."""
    refused = _refused(lambda: parse_command(name, payload.encode()))
    assert refused.code is C.INVALID_VALUE
    assert refused.message
    assert refused.transaction is None


@pytest.mark.parametrize("length", [MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES + 1])
def test_the_limit_is_4_kib(length: int) -> None:
    """4096 bytes are looked at, one more is not; bytes are counted, not characters."""
    code = C.TOO_LARGE if length > 4096 else C.INVALID_VALUE
    assert _refused(lambda: parse_command("stream/set", b"x" * length)).code is code
    assert _refused(lambda: parse_request(b" " * length)).code is (C.TOO_LARGE if length > 4096 else C.NOT_JSON)
    assert _refused(lambda: parse_command("key/set", "é".encode() * 2049)).code is C.TOO_LARGE


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("stream/sett", "stream/set"),
        ("Stream/set", "stream/set"),
        ("steam/set", "stream/set"),
        ("sever/set", "server/set"),
        ("chanel/set", "channel/set"),
        ("reboot-the-camera-now/set", None),
        ("", None),
        ("/set", None),
        ("set", None),
        ("stream", None),
        ("x" * 5000 + "/set", None),
    ],
)
def test_a_command_that_does_not_exist(name: str, meant: str | None) -> None:
    """An unknown topic is answered, with the likely one where there is one, and never guessed at."""
    refused = _refused(lambda: parse_command(name, b"ON"))
    assert refused.code is C.UNKNOWN_COMMAND
    if meant is not None:
        assert f"did you mean {meant}?" in refused.message
    assert len(refused.message) < 100


def test_a_likely_word_is_named() -> None:
    """`on` is refused with what is allowed, and what may have been meant."""
    message = _refused(lambda: parse_command("stream/set", b"on")).message
    assert "must be ON or OFF" in message
    assert "did you mean ON?" in message
    message = _refused(lambda: parse_command("channel/set", b"HD")).message
    assert "must be sd or hd or auto" in message
    assert "did you mean hd?" in message


# --- request --------------------------------------------------------------------------------------------------------

FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "stream": ("ON", {"stream": True}),
    "server": ("rtmps://h:443/app", {"server": "rtmps://h:443/app"}),
    "key": ("made-up-key", {"key": Secret("made-up-key")}),
    "channel": ("hd", {"channel": Channel.HD}),
}


@given(
    st.lists(st.sampled_from(list(FIELDS)), unique=True),
    st.none() | st.text(string.ascii_letters + string.punctuation + " é€🔑", max_size=MAX_TRANSACTION_LENGTH),
)
def test_any_subset_is_one_change(fields: list[str], transaction: str | None) -> None:
    """Any of the fields in any order, applied together; what is not named stays as it is."""
    document: dict[str, Any] = {field: FIELDS[field][0] for field in fields}
    expected: dict[str, Any] = {}
    for field in fields:
        expected |= FIELDS[field][1]
    if transaction is not None:
        document["transaction"] = transaction
    assert parse_request(json.dumps(document).encode()) == Request(transaction, Change(**expected))


@pytest.mark.parametrize(
    "document", ["{}", '{"transaction":null}', ' \n{ "stream" : "ON" }\t', '{"stream":"\\u004fN"}']
)
def test_json_in_any_spelling(document: str) -> None:
    """Blanks and escapes are JSON's own business; no transaction and a null one are the same."""
    request = parse_request(document.encode())
    assert request.transaction is None
    assert request.command.stream in (None, True)


@pytest.mark.parametrize(
    ("document", "code", "transaction"),
    [
        ("", C.NOT_JSON, None),
        ("ON", C.NOT_JSON, None),
        ("{", C.NOT_JSON, None),
        ("{}{}", C.NOT_JSON, None),
        ("{'stream':'ON'}", C.NOT_JSON, None),
        ('{"stream":"ON",}', C.NOT_JSON, None),
        ('\ufeff{"stream":"ON"}', C.NOT_JSON, None),
        ("null", C.NOT_JSON, None),
        ("true", C.NOT_JSON, None),
        ('"ON"', C.NOT_JSON, None),
        ("5", C.NOT_JSON, None),
        ('[{"stream":"ON"}]', C.NOT_JSON, None),
        ('{"stream":"ON","stream":"OFF"}', C.NOT_JSON, None),
        ('{"stream":"ON","\\u0073tream":"OFF"}', C.NOT_JSON, None),
        ('{"transaction":"a","transaction":"b"}', C.NOT_JSON, None),
        ('{"x":{"a":1,"a":2}}', C.NOT_JSON, None),
        ("[" * 4096, C.NOT_JSON, None),
        ('{"a":' * 800, C.NOT_JSON, None),
        ('{"stream":' + "[" * 4000, C.NOT_JSON, None),
        ("9" * 4096, C.NOT_JSON, None),
        ('{"stream":' + "9" * 4000 + "}", C.INVALID_VALUE, None),
        ('{"transaction":"t","sream":"ON"}', C.UNKNOWN_FIELD, "t"),
        ('{"transaction":"t","stream":"ON","url":"rtmp://h/a/k"}', C.UNKNOWN_FIELD, "t"),
        ('{"transaction":"t","Stream":"ON"}', C.UNKNOWN_FIELD, "t"),
        ('{"transaction":"t","":"ON"}', C.UNKNOWN_FIELD, "t"),
        ('{"transaction":"t","restart":"PRESS"}', C.UNKNOWN_FIELD, "t"),
        ('{"transaction":"t","stream":true}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","stream":null}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","stream":"on"}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","stream":NaN}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","stream":["ON"]}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","server":5}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","server":""}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","server":"http://h/a"}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","server":"rtmp://h/a\\ud800"}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","key":{"a":"b"}}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","key":""}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","key":"a\\nb"}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","key":"a\\u0000b"}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","key":"\\ud800"}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","channel":"HD"}', C.INVALID_VALUE, "t"),
        ('{"transaction":"t","stream":"ON","channel":5}', C.INVALID_VALUE, "t"),
        ('{"transaction":5,"stream":"ON"}', C.INVALID_VALUE, None),
        ('{"transaction":["t"],"stream":"ON"}', C.INVALID_VALUE, None),
        ('{"transaction":"a\\nb","stream":"ON"}', C.INVALID_VALUE, None),
        ('{"transaction":"\\ud800","stream":"ON"}', C.INVALID_VALUE, None),
        ('{"transaction":"' + "t" * (MAX_TRANSACTION_LENGTH + 1) + '"}', C.INVALID_VALUE, None),
    ],
)
def test_requests_that_are_refused(document: str, code: RefusalCode, transaction: str | None) -> None:
    """One fault refuses the whole, and the answer carries the transaction wherever that could be read."""
    refused = _refused(lambda: parse_request(document.encode()))
    assert (refused.code, refused.transaction) == (code, transaction)


def test_a_request_that_is_no_utf_8() -> None:
    """JSON is UTF-8; another encoding is told as what it is."""
    assert _refused(lambda: parse_request('{"key":"é"}'.encode("latin-1"))).code is C.NOT_UTF8
    assert _refused(lambda: parse_request('{"stream":"ON"}'.encode("utf-16"))).code is C.NOT_UTF8


def test_a_refused_field_is_named() -> None:
    """With several fields at once, the answer says which of them it is about."""
    for document, field in (
        ('{"stream":"on","channel":"hd"}', "stream: must be ON or OFF"),
        ('{"stream":"ON","channel":"HD"}', "channel: must be"),
        ('{"stream":"ON","server":"h"}', "server: the server URL must begin with"),
        ('{"stream":"ON","key":""}', "key: the stream key is empty"),
        ('{"stream":1}', "stream must be text"),
        ('{"chanel":"hd"}', "did you mean channel?"),
    ):
        assert field in _refused(lambda document=document: parse_request(document.encode())).message  # type: ignore[misc]


def test_a_change_does_not_show_its_key() -> None:
    """A command may end up in a log line by accident."""
    for command in (parse_command("key/set", b"made-up"), parse_command("url/set", b"rtmp://h/a/made-up")):
        assert "made-up" not in repr(command)
    assert "made-up" not in repr(parse_request(b'{"key":"made-up"}'))


# --- whatever comes -------------------------------------------------------------------------------------------------


def _outcome(parse: Callable[[], object]) -> Refused | None:
    try:
        parse()
    except Refused as refused:
        return refused
    return None


@given(name=st.sampled_from(SETS) | st.text(max_size=70), payload=st.binary(max_size=300))
def test_any_bytes_are_a_command_or_a_refusal(name: str, payload: bytes) -> None:
    """Nothing but `Refused` ever comes out, on whatever topic with whatever payload."""
    for refused in (_outcome(lambda: parse_command(name, payload)), _outcome(lambda: parse_request(payload))):
        assert refused is None or refused.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*FIELDS, "transaction"]) | st.text(max_size=8), JSON, max_size=4) | JSON)
def test_any_json_is_a_request_or_a_refusal(document: Any) -> None:
    """Nothing but `Refused` ever comes out of any JSON, and only text is ever a value."""
    refused = _outcome(lambda: parse_request(json.dumps(document).encode()))
    assert refused is None or refused.message


PLACES: dict[str, Callable[[str], str]] = {
    "alone": lambda text: text,
    "as a URL": lambda text: f"rtmp://h/app/{text}",
    "as another URL": lambda text: f"https://h/{text}",
    "as a host": lambda text: f"rtmp://{text}/app",
    "in JSON": lambda text: json.dumps({"stream": text}),
    "as a field": lambda text: json.dumps({text: "ON"}),
    "as a transaction": lambda text: json.dumps({"transaction": [text]}),
    "in broken JSON": lambda text: f'{{"key":"{text}"',
    "twice": lambda text: json.dumps({"a": 1})[:-1] + f',"{text}":1,"{text}":2}}',
}


@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
@given(name=st.sampled_from(SETS) | st.text(max_size=20), before=st.text(max_size=8), after=st.text(max_size=8))
def test_refusals_never_repeat_a_payload(place: Callable[[str], str], name: str, before: str, after: str) -> None:
    """It may be a stream key that was sent to the wrong topic: no part of it is in the answer."""
    payload = place(f"{before}{MARKER}{after}").encode("utf-8", "replace")
    for refused in (_outcome(lambda: parse_command(name, payload)), _outcome(lambda: parse_request(payload))):
        if refused is not None:
            assert MARKER not in f"{refused} {refused!r} {refused.message}"
            assert refused.transaction is None
    topic = _outcome(lambda: parse_command(f"{before}{MARKER}{after}/set", b"ON"))
    assert topic is not None
    assert MARKER not in topic.message
