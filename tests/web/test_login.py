"""Who may come in, and how often one may try."""

from __future__ import annotations

from base64 import b64encode

import pytest

from yiagent.redact import Secret
from yiagent.web.login import MOST_ADDRESSES, MOST_TRIES, WINDOW_S, Login, Verdict

WORD = "made:up pässword"
HOME = "192.0.2.7"


def basic(user: str = "yiagent", word: str = WORD) -> str:
    return "Basic " + b64encode(f"{user}:{word}".encode()).decode()


@pytest.fixture
def login() -> Login:
    return Login(Secret(WORD))


def spoil(login: Login, address: str = HOME, now: float = 0.0, times: int = MOST_TRIES) -> None:
    for _ in range(times):
        assert login.judge(address, basic(word="wrong"), now) is Verdict.WRONG


def test_the_right_password(login: Login) -> None:
    """With a colon, a blank and an umlaut in it; the scheme in any case of letters."""
    assert login.judge(HOME, basic(), 0) is Verdict.IN
    assert login.judge(HOME, basic().replace("Basic", "bASIC"), 0) is Verdict.IN


@pytest.mark.parametrize(
    "header",
    [
        basic(word=""),
        basic(word=WORD + "x"),
        basic(user=""),
        basic(user="admin"),
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic ä",
        "Bearer abc",
        "",
        WORD,
    ],
)
def test_whatever_else_is_wrong(login: Login, header: str) -> None:
    """And counts as a try."""
    assert login.judge(HOME, header, 0) is Verdict.WRONG


def test_without_a_password_one_is_asked_and_no_try_is_counted(login: Login) -> None:
    """Browsers come without at first."""
    for _ in range(50):
        assert login.judge(HOME, None, 0) is Verdict.ASKED
    assert login.judge(HOME, basic(), 0) is Verdict.IN


def test_ten_wrong_ones_a_minute(login: Login) -> None:
    """Then nothing is answered, not even to the right one, until the oldest is a minute old; others are let in."""
    spoil(login)
    assert login.judge(HOME, basic(), 1) is Verdict.LOCKED
    assert login.judge(HOME, None, 1) is Verdict.LOCKED
    assert login.locked_s(HOME, 20) == WINDOW_S - 20
    assert login.judge("192.0.2.8", basic(), 1) is Verdict.IN
    assert login.judge(HOME, basic(), WINDOW_S) is Verdict.IN


def test_the_minute_slides(login: Login) -> None:
    """Ten over more than a minute lock nobody out; a right one between them does not buy more tries."""
    spoil(login, now=0, times=5)
    assert login.judge(HOME, basic(), 30) is Verdict.IN
    spoil(login, now=59, times=4)
    spoil(login, now=60, times=5)
    assert login.judge(HOME, basic(), 60) is Verdict.IN
    spoil(login, now=61, times=1)
    assert login.judge(HOME, basic(), 61) is Verdict.LOCKED


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"), ("fe80::1%eth0", "fe80::2"), ("::ffff:192.0.2.7", "192.0.2.7")],
)
def test_addresses_of_one_household(login: Login, one: str, other: str) -> None:
    """Of IPv6 a whole /64 is one address; an IPv4 address in IPv6 clothes is itself."""
    spoil(login, one)
    assert login.judge(other, basic(), 0) is Verdict.LOCKED
    assert login.judge("2001:db8:1:3::1", basic(), 0) is Verdict.IN


def test_a_network_of_attackers_fills_no_memory(login: Login) -> None:
    """As many addresses as are remembered, the longest quiet ones forgotten first."""
    spoil(login)
    for number in range(MOST_ADDRESSES * 3):
        login.judge(f"10.0.{number // 256}.{number % 256}", "Basic x", 1)
    assert len(login._wrong) == MOST_ADDRESSES
