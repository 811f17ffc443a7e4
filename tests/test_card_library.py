"""The stand-ins for Python's library on the camera's card answer as the modules that they stand in for."""

import datetime
import encodings.idna
import functools
import importlib.util
import inspect
import types
import urllib.request
from pathlib import Path
from typing import Any

import pytest

STAND_INS = Path(__file__).parents[1] / "sd" / "stdlib"


def _stand_in(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"stand_in_{name}", STAND_INS / f"{name.replace('.', '/')}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _function() -> None: ...


def _generator() -> Any:
    yield


@types.coroutine
def _old_coroutine() -> Any:
    yield


async def _coroutine() -> None: ...


class _Kind:
    def method(self) -> None: ...

    async def async_method(self) -> None: ...

    def __await__(self) -> Any:
        return iter(())


def test_inspect_tells_kinds_apart() -> None:
    """What asyncio, microdot and voluptuous ask of a thing is answered as by the real module."""
    running = _coroutine()
    things = [
        *(_function, _generator, _generator(), _old_coroutine, _old_coroutine(), _coroutine, running, _Kind, _Kind()),
        *(_Kind().method, _Kind().async_method, functools.partial(_coroutine), functools.partial(_function), len, 1),
        *(functools.partial(_Kind().async_method), functools.wraps(_function)(_coroutine), None),
    ]
    slim = _stand_in("inspect")
    questions = [name for name in vars(slim) if name.startswith("is")]
    assert len(questions) == 7
    for thing in things:
        for question in questions:
            assert getattr(slim, question)(thing) == getattr(inspect, question)(thing), f"{question}({thing})"
        assert slim.unwrap(thing) is (inspect.unwrap(thing) if callable(thing) else thing)
    running.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"mqtt_proxy": "http://proxy:3128", "MQTT_PROXY": "http://other:1"},
        {"HTTP_PROXY": "http://other:1", "https_proxy": ""},
        {"http_proxy": "http://proxy:3128", "no_proxy": "localhost, .house, 192.168.1.7,broker:1883"},
        {"no_proxy": "*"},
        {"NO_PROXY": "Example.COM"},
    ],
)
def test_proxies_are_those_of_the_environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """paho finds the proxy that it would find with the real module, and goes past it for the same hosts."""
    for name in ("http", "https", "no", "all", "ftp", "mqtt"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_PROXY".upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    slim = _stand_in("urllib.request")
    assert slim.getproxies() == urllib.request.getproxies()
    for host in ("localhost", "broker", "broker:1883", "tv.house", "house", "greenhouse", "192.168.1.7", "example.com"):
        assert slim.proxy_bypass(host) == bool(urllib.request.proxy_bypass(host)), host


@pytest.mark.parametrize(
    "name", ["", "camera", "Camera.House.", "a.b.c", "192.168.1.7", "::1", "a" * 63, "under_score"]
)
def test_host_names_in_ascii_are_taken(name: str) -> None:
    """The codec gives for a name in ASCII what the real one gives."""
    codec = _stand_in("encodings.idna").getregentry()
    assert codec.encode(name) == encodings.idna.Codec().encode(name)
    assert codec.decode(name.encode())[0] == name


@pytest.mark.parametrize("name", ["a..b", ".a", "a" * 64, "b." + "a" * 64])
def test_bad_host_names_are_refused(name: str) -> None:
    """What the real codec refuses is refused by the same exception, which callers know."""
    codec = _stand_in("encodings.idna").getregentry()
    for encode in (codec.encode, encodings.idna.Codec().encode):
        with pytest.raises(UnicodeError):
            encode(name)


def test_host_names_with_other_letters_are_refused() -> None:
    """The tables for them are not on the card."""
    with pytest.raises(UnicodeError, match="xn--"):
        _stand_in("encodings.idna").getregentry().encode("kamera.büro")


def test_datetime_has_all_its_names() -> None:
    """The C half alone has everything that the module gives."""
    slim = _stand_in("datetime")
    for name in datetime.__all__:
        assert getattr(slim, name) is getattr(datetime, name)
