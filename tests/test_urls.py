"""Addresses as owners type them: what is taken, what is refused, and that no refusal repeats what was typed."""

import string
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from yiagent.redact import MASK, Secret
from yiagent.urls import (
    MAX_KEY_LENGTH,
    MAX_SERVER_LENGTH,
    MAX_SOURCE_LENGTH,
    BadUrl,
    Url,
    check_key,
    parse_server,
    parse_source,
    source_address,
    split_publish_url,
)

KEY_CHARACTERS = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
CREDENTIALS = st.text(st.characters(codec="utf-8"), max_size=20)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("rtmp://a.rtmp.youtube.com/live2", Url("rtmp", "a.rtmp.youtube.com", None, "/live2")),
        ("rtmps://live-api-s.facebook.com:443/rtmp/", Url("rtmps", "live-api-s.facebook.com", 443, "/rtmp/")),
        ("rtmp://127.0.0.1/live", Url("rtmp", "127.0.0.1", None, "/live")),
        ("rtmp://camera_server/live", Url("rtmp", "camera_server", None, "/live")),
        ("rtmp://server.example./live", Url("rtmp", "server.example.", None, "/live")),
        ("rtmp://[2001:db8::1]/live", Url("rtmp", "2001:db8::1", None, "/live")),
        ("rtmp://[::1]:1935/live", Url("rtmp", "::1", 1935, "/live")),
        ("rtmp://[::ffff:192.0.2.1]:1/live", Url("rtmp", "::ffff:192.0.2.1", 1, "/live")),
        ("rtmp://b.example/live2?backup=1", Url("rtmp", "b.example", None, "/live2?backup=1")),
        ("rtmp://b.example?x=1", Url("rtmp", "b.example", None, "?x=1")),
        ("rtmp://b.example/live?to=/a/b:c@d", Url("rtmp", "b.example", None, "/live?to=/a/b:c@d")),
        ("rtmp://h/app/instance", Url("rtmp", "h", None, "/app/instance")),
        ("rtmp://h", Url("rtmp", "h", None, "")),
        ("RTMP://Host.Example/App", Url("rtmp", "Host.Example", None, "/App")),
        ("RtmpS://h:65535/a", Url("rtmps", "h", 65535, "/a")),
        ("rtmp://user@h/a", Url("rtmp", "h", None, "/a", "user")),
        ("rtmp://user:pw@h:1/a", Url("rtmp", "h", 1, "/a", "user", Secret("pw"))),
        ("rtmp://us@er:p:w@h/a", Url("rtmp", "h", None, "/a", "us@er", Secret("p:w"))),
        ("rtmp://:@h/a", Url("rtmp", "h", None, "/a", "", Secret(""))),
    ],
)
def test_servers_that_are_taken(text: str, url: Url) -> None:
    """A server URL in any spelling the standards allow is taken apart without loss."""
    assert parse_server(text) == url


REFUSED_ANYWHERE = [
    "",
    " ",
    "-f",
    "-i",
    "***",
    "host",
    "host/app",
    "://h/a",
    "http://h/a",
    "https://h/a",
    "file:///etc/passwd",
    "pipe:1",
    "/etc/passwd",
    "javascript:alert(1)",
    "rtmpe://h/a",
    "rtmpt://h/a",
    "srt://h:1/a",
    "concat:rtmp://h/a",
    "x rtmp://h/a",
    " rtmp://h/a",
]
REFUSED_REST = [
    "{}:",
    "{}:/",
    "{}:/h/a",
    "{}://",
    "{}:///app",
    "{}://:1935/app",
    "{}://@/app",
    "{}://user:pw@/app",
    "{}://?x",
    "{}://h:0/a",
    "{}://h:65536/a",
    "{}://h:99999/a",
    "{}://h:99999999999999999999/a",
    "{}://h:00000199999/a",
    "{}://h:abc/a",
    "{}://h:-1/a",
    "{}://h:+1/a",
    "{}://h: 1/a",
    "{}://h:1_0/a",
    "{}://h:1.0/a",
    "{}://h:/a",
    "{}://h:1:2/a",
    "{}://h:\u0661\u0669\u0663\u0665/a",
    "{}://::1/a",
    "{}://2001:db8::1:1935/a",
    "{}://[::1/a",
    "{}://::1]/a",
    "{}://[]/a",
    "{}://[h]/a",
    "{}://[127.0.0.1]/a",
    "{}://[::1]1935/a",
    "{}://[::1]:/a",
    "{}://[::1]:x/a",
    "{}://[fe80::1%25eth0]/a",
    "{}://-f/a",
    "{}://h-/a",
    "{}://.h/a",
    "{}://h\\x/a",
    "{}://h;reboot/a",
    "{}://$(reboot)/a",
    "{}://h'/a",
    "{}://hôst/a",
    "{}://" + "h" * 254 + "/a",
    "{}://h/a b",
    "{}://h/a ",
    "{}://h/a\n",
    "{}://h/a\nb",
    "{}://h\n/a",
    "{}://h/a\r\nX: y",
    "{}://h/a\tb",
    "{}://h/a\0b",
    "{}://h/a\u2028b",
    "{}://h/a\u00a0b",
    "{}://h/a\ud800",
    "{}://h/a#b",
    "{}://***@h/a",
    "{}://h/a?key=***",
    "{}://***/a",
]


@pytest.mark.parametrize("text", REFUSED_ANYWHERE + [text.format("rtmp") for text in REFUSED_REST])
def test_servers_that_are_refused(text: str) -> None:
    """Only rtmp and rtmps with a host, as one line: no file, no other protocol, no option, nothing masked."""
    with pytest.raises(BadUrl):
        parse_server(text)


@pytest.mark.parametrize(
    "text", [*REFUSED_ANYWHERE, "rtmp://h/a", "rtsps", *[text.format("rtsp") for text in REFUSED_REST]]
)
def test_sources_that_are_refused(text: str) -> None:
    """Only rtsp and rtsps in: whatever else ffmpeg could open (a file, a list, a device) stays shut."""
    with pytest.raises(BadUrl):
        parse_source(text)


@pytest.mark.parametrize(
    ("parse", "start", "longest"),
    [
        (parse_server, "rtmp://h/", MAX_SERVER_LENGTH),
        (parse_source, "rtsp://h/", MAX_SOURCE_LENGTH),
        (check_key, "k", MAX_KEY_LENGTH),
    ],
)
def test_lengths_have_an_end(parse: Callable[[str], object], start: str, longest: int) -> None:
    """The longest is taken; one character more, 300 or a megabyte are refused."""
    assert parse(start.ljust(longest, "x"))
    for length in (longest + 1, longest + 300, 1 << 20):
        with pytest.raises(BadUrl, match=str(longest)):
            parse(start.ljust(length, "x"))


def test_a_server_fits_home_assistant() -> None:
    """A text over 255 characters would be dropped there, so none is taken here; nor is a key of 300."""
    assert MAX_SERVER_LENGTH == MAX_KEY_LENGTH == 255


@pytest.mark.parametrize(
    ("text", "username", "password"),
    [
        ("rtsp://h/a", None, None),
        ("rtsp://cam@h/a", "cam", None),
        ("rtsp://cam:@h/a", "cam", ""),
        ("rtsp://cam:pw@h/a", "cam", "pw"),
        ("rtsp://cam:p%40s%2Fs%3a@h/a", "cam", "p@s/s:"),
        ("rtsp://c%61m:p%C3%A9@h/a", "cam", "pé"),
        ("rtsp://cam:100%@h/a", "cam", "100%"),
        ("rtsp://cam:p+w@h/a", "cam", "p+w"),
        ("rtsp://cam:a@b:c@h/a", "cam", "a@b:c"),
    ],
)
def test_camera_credentials_are_decoded(text: str, username: str | None, password: str | None) -> None:
    """User and password are what the camera knows them as, not as a URL spells them."""
    url = parse_source(text)
    assert (url.username, url.password.reveal() if url.password is not None else None) == (username, password)
    assert (url.host, url.path) == ("h", "/a")


@given(username=CREDENTIALS, password=st.none() | CREDENTIALS, path=st.sampled_from(["", "/ch0_0.h264", "/a?b=c/d"]))
def test_an_address_gives_its_credentials_back(username: str, password: str | None, path: str) -> None:
    """Any user and password survive the way into ffmpeg's address and out again; host and path stay as they are."""
    url = Url("rtsp", "2001:db8::1", 8554, path)
    secret = Secret(password) if password is not None else None
    address = source_address(url, username, secret)
    assert parse_source(address) == Url("rtsp", "2001:db8::1", 8554, path, username, secret)
    assert address.isascii()
    assert not any(character.isspace() for character in address)


@given(CREDENTIALS, st.none() | CREDENTIALS)
def test_credentials_of_the_url_are_used_without_others(username: str, password: str | None) -> None:
    """A camera's URL brings its own credentials; those given beside it take their place."""
    secret = Secret(password) if password is not None else None
    with_own = Url("rtsp", "h", None, "/a", username, secret)
    assert source_address(with_own, None, None) == source_address(Url("rtsp", "h", None, "/a"), username, secret)
    assert source_address(with_own, "other", Secret("word")) == "rtsp://other:word@h/a"
    assert source_address(Url("rtsps", "h", 1, "/a"), None, None) == "rtsps://h:1/a"


@pytest.mark.parametrize(
    ("text", "server", "key"),
    [
        ("rtmp://h/app/key", "rtmp://h/app", "key"),
        ("rtmps://h:443/rtmp/FB-1?s_bl=1&a=x", "rtmps://h:443/rtmp", "FB-1?s_bl=1&a=x"),
        ("rtmp://b.example/live2?backup=1/KEY", "rtmp://b.example/live2?backup=1", "KEY"),
        ("rtmp://h/app/instance/key", "rtmp://h/app/instance", "key"),
        ("rtmp://h/key", "rtmp://h", "key"),
        ("rtmp://[::1]:1935/app/-f", "rtmp://[::1]:1935/app", "-f"),
        ("rtmp://user:pw@h/app/key", "rtmp://user:pw@h/app", "key"),
        ("RTMP://h/app/k€y", "RTMP://h/app", "k€y"),
    ],
)
def test_a_publish_url_is_cut_at_its_last_slash(text: str, server: str, key: str) -> None:
    """What comes after the last slash is the key, with its query; what comes before stays as typed."""
    assert split_publish_url(text) == (server, key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "key",
        "rtmp:",
        "rtmp:/key",
        "rtmp://",
        "rtmp://h",
        "rtmp:///key",
        "rtmp://h/",
        "rtmp://h/app/",
        "http://h/app/key",
        "file:///etc/passwd",
        "rtmp://h/app/key\n",
        "rtmp://h/a b/key",
        "rtmp://h/app/ key",
        "rtmp://h/app/***/key",
        "rtmp://h/app/" + "k" * 300,
        "rtmp://h/" + "a" * 300 + "/key",
    ],
)
def test_publish_urls_that_are_refused(text: str) -> None:
    """Without a server, an application or a key of their own there is nothing to publish to."""
    with pytest.raises(BadUrl):
        split_publish_url(text)


@given(
    st.sampled_from(["rtmp://h/app", "rtmps://[::1]:1/a/b", "rtmp://b/live2?backup=1"]),
    st.text(KEY_CHARACTERS, min_size=1, max_size=60),
)
def test_server_and_key_come_apart_as_they_went_together(server: str, key: str) -> None:
    """Any key that one line can hold and that has no slash comes out as it went in."""
    assume("/" not in key)
    assert check_key(key) == key
    assert split_publish_url(f"{server}/{key}") == (server, key)


@pytest.mark.parametrize(
    "key", ["-f", "--help", "a/b", "a b", "a?b=c&d", "'\"\\%$(x)`", "ключ", "🔑", "k" * 255, "#", "0"]
)
def test_odd_keys_are_taken(key: str) -> None:
    """A server decides what its keys look like: whatever is one line without a space at its ends is a key."""
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        "key ",
        " key",
        "key\n",
        "ke\ny",
        "ke\r\ny",
        "k\0",
        "k\x1b[2J",
        "k\ud800",
        "k\u2028",
        "\ufeffk",
        "k" * 300,
    ],
)
def test_keys_that_are_refused(key: str) -> None:
    """A line break, a control character, a space at an end or 300 characters come from pasting, not from a server."""
    with pytest.raises(BadUrl):
        check_key(key)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("rtmp://h/app", "rtmp://h/app"),
        ("RTMPS://h:443/app", "rtmps://h:443/app"),
        ("rtmp://[::1]:1935/app", "rtmp://[::1]:1935/app"),
        ("rtmp://user:pw@h/app", f"rtmp://{MASK}@h/app"),
        ("rtmp://user@h/app", f"rtmp://{MASK}@h/app"),
        ("rtmp://h/live2?backup=1", "rtmp://h/live2?backup=1"),
        ("rtmp://h/live2?backup=1&token=abc", f"rtmp://h/live2?backup=1&token={MASK}"),
    ],
)
def test_what_is_shown_of_a_server(text: str, masked: str) -> None:
    """Credentials and query values are hidden; what chooses a server (`backup=1`) stays readable."""
    assert parse_server(text).masked == masked


def test_a_url_does_not_print_its_password() -> None:
    """The parsed URL may end up in a message by accident."""
    assert "made-up" not in f"{parse_source('rtsp://cam:made-up@h/a')!r} {parse_server('rtmp://u:made-up@h/a')}"


PARSERS: list[Callable[[str], object]] = [parse_server, parse_source, split_publish_url, check_key]
MARKER = "Zq7xK9wV3"


@pytest.mark.parametrize("parse", PARSERS)
@given(
    start=st.sampled_from(
        ["", "rtmp://", "rtsp://", "rtmp://h/", "rtsp://h:", "rtmp://[", "http://", "rtmp://a@", "x"]
    ),
    before=st.text(max_size=10),
    after=st.text(st.characters() | st.sampled_from(string.punctuation + " \n"), max_size=10),
)
def test_refusals_never_repeat_what_was_typed(
    parse: Callable[[str], object], start: str, before: str, after: str
) -> None:
    """A refused URL is as likely to hold a key as an accepted one; nothing but `BadUrl` is ever raised."""
    refusal = _refusal(parse, f"{start}{before}{MARKER}{after}")
    if refusal is not None:
        assert MARKER not in f"{refusal} {refusal!r}"
        assert refusal.__cause__ is None
        assert 10 < len(str(refusal)) < 200


def _refusal(parse: Callable[[str], object], text: str) -> BadUrl | None:
    try:
        parse(text)
    except BadUrl as refusal:
        return refusal
    return None
