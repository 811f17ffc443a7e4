"""Whose requests may change something."""

from __future__ import annotations

import pytest

from yiagent.web.origin import foreign, is_own_host, own_names, short_name

NAMES = own_names("Camera.lan", ("fritz.box", "Example.org."))


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.7",
        "192.0.2.7:8080",
        "127.0.0.1:8080",
        "[::1]:8080",
        "[fe80::1%25eth0]",
        "localhost",
        "LOCALHOST:1",
        "camera",
        "camera.lan:8080",
        "Camera.local",
        "camera.fritz.box",
        "camera.example.org.",
    ],
)
def test_this_machine(host: str) -> None:
    """By any address, which nobody can point elsewhere, and by its own names in the domains that it searches."""
    assert is_own_host(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "camera.evil.example",
        "192.0.2.7.evil.example",
        "localhost.evil.example",
        "evil.local",
        "other",
        "fritz.box",
        "camera:",
        "camera:x",
        "camera:80:80",
        "[::1",
        "[camera]",
        "[::1]x",
        "1.2.3",
        "0x7f000001",
        "camera@evil.example",
    ],
)
def test_another_name(host: str) -> None:
    """It may be one that was made to point here (DNS rebinding)."""
    assert not is_own_host(host, NAMES)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://camera:8080"},
        {"origin": "https://camera:8080"},
        {"sec-fetch-site": "same-origin", "origin": "http://CAMERA:8080"},
        {"sec-fetch-site": "none"},
    ],
)
def test_its_own_page_and_programs(headers: dict[str, str]) -> None:
    """A program sends no origin; a proxy in front may speak TLS."""
    assert foreign({"host": "camera:8080", **headers}, NAMES) is None


@pytest.mark.parametrize("host", ["camera", "camera:80"])
def test_the_port_that_is_not_written(host: str) -> None:
    """Browsers leave out the scheme's own."""
    assert foreign({"host": host, "origin": "http://camera"}, NAMES) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://evil.example"},
        {"origin": "http://camera:8081"},
        {"origin": "http://camera:8080.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://camera:8080"},
        {"host": "evil.example", "origin": "http://evil.example"},
        {"host": "evil.example", "sec-fetch-site": "same-origin"},
    ],
)
def test_another_site(headers: dict[str, str]) -> None:
    """Whatever else it says."""
    assert foreign({"host": "camera:8080", **headers}, NAMES) is not None


def test_a_machine_without_a_name() -> None:
    """Some cameras have none; then its addresses do."""
    assert "" not in own_names("", ())


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("camera", "camera"),
        ("CAMERA:8080", "camera"),
        ("camera.lan", None),
        ("evil.example:80", None),
        ("[::1]:80", None),
        ("127.0.0.1", None),
        ("", None),
        ("a:b", None),
    ],
)
def test_a_name_that_the_house_may_be_asked_for(host: str, name: str | None) -> None:
    """One without a dot; of any other an attacker may be the one who answers."""
    assert short_name(host) == name
