"""A secret that the redactor was told of leaves no trace in a text, however the text gives it."""

import base64
import copy
import dataclasses
import json
import string
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from yiagent.redact import MASK, SHORT_SECRET, Redactor, Secret, mask_query

# Any character that text can hold; a mask in a secret would make "no trace" undecidable.
CHARACTERS = st.characters(codec="utf-8", exclude_characters="*")
ODD = st.sampled_from(list("'\"\\%?=&/:@+# ~<>{}[]|^`$!.é€😀\t"))
LONG = st.text(st.one_of(ODD, CHARACTERS), min_size=SHORT_SECRET, max_size=40)
AROUND = st.text(st.one_of(ODD, CHARACTERS), max_size=20)
NAMES = st.text(string.ascii_letters + string.digits, min_size=4, max_size=12)

FORMS: dict[str, Callable[[str], str]] = {
    "raw": lambda secret: secret,
    "percent-encoded": lambda secret: quote(secret, safe=""),
    "percent-encoded path": quote,
    "percent-encoded form field": quote_plus,
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON in UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "repr": lambda secret: repr(secret)[1:-1],
    "basic authentication": lambda secret: base64.b64encode(f"cam:{secret}".encode()).decode(),
}


def _told(*secrets: str) -> Redactor:
    redactor = Redactor()
    for secret in secrets:
        redactor.learn(Secret(secret), user="cam")
    return redactor


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
@given(secret=LONG, before=AROUND, after=AROUND)
def test_no_form_of_a_secret_is_left(form: Callable[[str], str], secret: str, before: str, after: str) -> None:
    """Whatever stands around it, neither the secret nor the form it was written in is to be found afterwards."""
    written = form(secret)
    assume(written not in before + MASK + after)
    redacted = _told(secret).redact(before + written + after)
    assert written not in redacted
    assert MASK in redacted


@example(secret="it's", before="", after="")
@given(secret=LONG, before=AROUND, after=AROUND)
def test_a_quoted_text_is_searched_too(secret: str, before: str, after: str) -> None:
    """A message that quotes another (the repr of an exception's argument) escapes for the whole of what it quotes."""
    both_marks = f"{before}\"{secret}'{after}"
    escaped = repr(f"\"{secret}'")[2:-3]
    assume(escaped not in repr(f"{before}\"{MASK}'{after}"))
    redacted = _told(secret).redact(repr(both_marks))
    assert escaped not in redacted
    assert MASK in redacted


@given(secret=st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=SHORT_SECRET - 1))
def test_a_short_secret_goes_as_a_whole_word(secret: str) -> None:
    """One to three characters are hidden where they stand alone; inside words they would garble every line."""
    redactor = _told(secret)
    assert redactor.redact(f"<{secret}>, {secret}") == f"<{MASK}>, {MASK}"
    assert redactor.redact(f"wwww{secret}wwww") == f"wwww{secret}wwww"


@given(inner=LONG, before=LONG, after=LONG, order=st.booleans())
def test_a_secret_in_a_secret_goes_whole(inner: str, before: str, after: str, order: bool) -> None:
    """Where one secret holds another, the longer is replaced whole: no remains show what stood beside the shorter."""
    outer = before + inner + after
    redactor = _told(*((inner, outer) if order else (outer, inner)))
    assert redactor.redact(outer) == MASK
    assert redactor.redact(inner) == MASK


@given(secret=LONG, text=AROUND)
def test_redacting_twice_changes_nothing(secret: str, text: str) -> None:
    """What is redacted on its way into the journal may be redacted again on its way out."""
    redactor = _told(secret)
    once = redactor.redact(text + secret)
    assume(secret not in once)
    assert redactor.redact(once) == once


@given(st.text(st.characters(codec="utf-8")))
def test_a_redactor_that_knows_nothing_touches_no_plain_text(text: str) -> None:
    """Only URLs are masked without being told of a secret."""
    assume("://" not in text)
    assert Redactor().redact(text) == text


@given(
    scheme=st.sampled_from(["rtsp", "rtmps", "https", "RTSP", "mqtt+tls"]), user=NAMES, password=NAMES, before=AROUND
)
def test_credentials_of_any_url_go(scheme: str, user: str, password: str, before: str) -> None:
    """User and password of a URL are hidden also where nobody told of them; host and path stay readable."""
    assume("/" not in before and not before[-1:].isalnum() and before[-1:] not in ("_", "+", "-", "."))
    for userinfo in (user, f"{user}:{password}", f"{user}:{password}@{password}", f":{password}"):
        redacted = Redactor().redact(f"{before}{scheme}://{userinfo}@camera.example:554/path")
        assert redacted == f"{before}{scheme}://{MASK}@camera.example:554/path"


@given(name=NAMES, value=st.text(string.ascii_letters + string.digits + "-_.~%:@/,", min_size=3, max_size=30))
def test_query_values_of_any_url_go(name: str, value: str) -> None:
    """A query's values are hidden, its names stay; a token without a name is hidden too."""
    assume(name.lower() not in ("backup", "vhost"))
    text = f"opening rtmp://a.example/live2/x?{name}={value}&backup=1 for writing"
    assert Redactor().redact(text) == f"opening rtmp://a.example/live2/x?{name}={MASK}&backup=1 for writing"
    assert Redactor().redact(f"rtmp://a.example/live2?{name}") == f"rtmp://a.example/live2?{MASK}"


@pytest.mark.parametrize(
    ("query", "masked"),
    [
        ("", ""),
        ("backup=1", "backup=1"),
        ("vhost=cameras.example", "vhost=cameras.example"),
        ("s_bl=1&s_ps=1&a=AbC-tokEn", "s_bl=1&s_ps=1&a=***"),
        ("psk=secret", "psk=***"),
        ("psk=", "psk="),
        ("a=b=c=d", "a=***"),
        ("token", "***"),
        ("on", "on"),
        ("backup=1/KEY-KEY", "backup=***"),
        ("x=a/", "x=***"),
    ],
)
def test_a_query_keeps_its_switches(query: str, masked: str) -> None:
    """`backup=1` opens nothing and stays readable; whatever could open something goes, a key typed into it included."""
    assert mask_query(query) == masked


def test_the_parts_of_a_key_with_a_query_are_secret() -> None:
    """Servers and ffmpeg take such a key apart: its name and its values are hidden on their own."""
    redactor = _told("FB-1234-0-Abcd?s_bl=1&a=AbCdEf&t")
    assert (
        redactor.redact("publishing FB-1234-0-Abcd with AbCdEf and s_bl") == f"publishing {MASK} with {MASK} and s_bl"
    )


@given(st.lists(LONG, max_size=5))
def test_the_longest_form_is_known(secrets: list[str]) -> None:
    """Whoever cuts a text asks how much the cut may have split: at least every form of every secret."""
    longest = _told(*secrets).longest
    assert all(longest >= len(form(secret)) for secret in secrets for form in FORMS.values())
    assert bool(longest) == bool(secrets)


def test_nothing_is_learnt_from_nothing() -> None:
    """An empty or missing secret hides nothing: it would be found everywhere."""
    redactor = Redactor()
    redactor.learn(None)
    redactor.learn("")
    redactor.learn(Secret(""), user="cam")
    assert redactor.redact("all of this stays") == "all of this stays"


def test_replaced_keys_stay_hidden() -> None:
    """A key that was replaced opens the channel until it is revoked: the last ones stay known."""
    keys = [f"made-up-key-{number}" for number in range(20)]
    redactor = _told(*keys)
    assert redactor.redact(" ".join(keys)) == " ".join([MASK] * len(keys))


def test_keys_do_not_push_out_passwords() -> None:
    """However often the stream key is changed, the passwords of the configuration stay hidden."""
    redactor = Redactor()
    redactor.learn("camera-password", keep=True)
    for number in range(300):
        redactor.learn(Secret(f"made-up-key-{number}"))
    assert redactor.redact("camera-password") == MASK


def test_memory_is_bounded() -> None:
    """A key set every minute for a year must not fill the memory, nor slow every line down."""
    redactor = Redactor()
    for number in range(300):
        redactor.learn(Secret(f"made-up-key-{number}"))
    assert redactor.redact("made-up-key-0 made-up-key-299") == f"made-up-key-0 {MASK}"


@dataclasses.dataclass
class Holder:
    """Something that has a secret, as settings have."""

    password: Secret


SHOWN: dict[str, Callable[[Secret], object]] = {
    "str": str,
    "repr": repr,
    "format": format,
    "f-string": lambda secret: f"{secret} {secret!s} {secret!r} {secret!a}",
    "%": lambda secret: "%s %r %a" % (secret, secret, secret),  # noqa: UP031 - logging formats like this
    "str.format": lambda secret: "{0} {0!r}".format(secret),  # noqa: UP032 - see above
    "dataclass": lambda secret: repr(Holder(secret)),
    "asdict": lambda secret: repr(dataclasses.asdict(Holder(secret))),
    "exception": lambda secret: f"{ValueError(secret)} {ValueError(secret)!r}",
    "KeyError": lambda secret: f"{KeyError(secret)}",
    "containers": lambda secret: f"{[secret]} {(secret,)} { ({1: secret}) } { ({secret}) }",
    "copy": lambda secret: repr(copy.deepcopy(secret)),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=list(SHOWN))
def test_a_secret_shows_itself_nowhere(show: Callable[[Secret], object]) -> None:
    """However a secret gets into a text, its value does not; only `reveal` gives it."""
    secret = Secret("made-up-value")
    assert MASK in str(show(secret))
    assert "made-up" not in str(show(secret))
    assert secret.reveal() == "made-up-value"


def test_what_cannot_show_a_secret_does_not_tell_it_in_its_error() -> None:
    """JSON and format widths are refused rather than answered with the value."""
    secret = Secret("made-up-value")
    with pytest.raises(TypeError) as no_json:
        json.dumps({"key": secret})
    with pytest.raises(TypeError) as no_width:
        format(secret, ">20")
    assert "made-up" not in f"{no_json.value!r} {no_width.value!r}"


@given(first=st.text(), second=st.text())
def test_secrets_compare_by_value(first: str, second: str) -> None:
    """Two secrets are equal where their values are, and differ from the value itself; an empty one is false."""
    assert (Secret(first) == Secret(second)) == (first == second)
    assert hash(Secret(first)) == hash(Secret(first))
    assert Secret(first) != first
    assert bool(Secret(first)) == bool(first)


@given(st.text(st.characters()), LONG)
def test_redacting_never_raises(text: str, secret: str) -> None:
    """Not even for a text that no encoding can write: it runs where an exception would hide the real message."""
    assert isinstance(_told(secret).redact(text), str)
