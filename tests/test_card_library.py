"""The stand-ins for Python's library on the camera's card answer as the modules that they stand in for."""

import encodings.idna
import functools
import importlib.util
import inspect
import locale
import logging
import os
import platform
import shutil
import sys
import types
import urllib.request
import uuid
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


@pytest.mark.parametrize("name", ["system", "node", "release", "machine", "python_version", "python_implementation"])
def test_platform_says_the_same(name: str) -> None:
    """Whoever asks what this machine and this Python are is told what the real module tells."""
    assert getattr(_stand_in("platform"), name)() == getattr(platform, name)()


def test_random_uuids_are_of_that_kind() -> None:
    """The real module takes them for random ones, all of them different."""
    slim = _stand_in("uuid")
    made = [slim.uuid4() for _ in range(100)]
    for one in made:
        real = uuid.UUID(str(one))
        assert (real.version, real.variant) == (4, uuid.RFC_4122)
        assert (real.int, real.bytes, real.hex) == (one.int, one.bytes, one.hex)
    assert len({one.int for one in made}) == 100


def test_programs_are_found_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`which` finds the first program of that name on the PATH, and nothing that is no program."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    for name, mode in (("first/plain", 0o644), ("second/plain", 0o755), ("first/both", 0o755), ("second/both", 0o755)):
        (tmp_path / name).touch(mode)
    (tmp_path / "first" / "folder").mkdir()
    slim = _stand_in("shutil")
    monkeypatch.setenv("PATH", f"{tmp_path}/missing:{tmp_path}/first:{tmp_path}/second/")
    for program in ("plain", "both", "folder", "none", f"{tmp_path}/second/plain", f"{tmp_path}/first/plain", ""):
        assert _same(slim.which(program)) == _same(shutil.which(program)), program
    monkeypatch.delenv("PATH")
    assert slim.which("ls") == shutil.which("ls")


def _same(path: str | None) -> str | None:
    return None if path is None else os.path.normpath(path)


def test_disks_and_terminals_are_as_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their sizes are those that the real module gives."""
    slim = _stand_in("shutil")
    assert slim.disk_usage(tmp_path).total == shutil.disk_usage(tmp_path).total
    for environment in ({}, {"COLUMNS": "132", "LINES": "50"}, {"COLUMNS": "wide"}):
        for name in ("COLUMNS", "LINES"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert slim.get_terminal_size() == shutil.get_terminal_size()


def test_there_is_one_locale() -> None:
    """Text is UTF-8, and another locale is refused as by a system that lacks it."""
    slim = _stand_in("locale")
    assert slim.getencoding() == slim.getpreferredencoding(False) == "utf-8"
    assert slim.setlocale(slim.LC_ALL, "C") == "C.UTF-8"
    with pytest.raises(slim.Error):
        slim.setlocale(slim.LC_ALL, "de_DE.UTF-8")
    for category in ("LC_CTYPE", "LC_TIME", "LC_MESSAGES", "LC_ALL"):
        assert getattr(slim, category) == getattr(locale, category)


@pytest.mark.parametrize("which", ["slim", "real"])
def test_messages_of_libraries_reach_the_handler(which: str) -> None:
    """What asyncio, concurrent.futures and paho log comes to the agent's handler, as from the real module."""
    module: Any = _stand_in("logging") if which == "slim" else logging
    before = list(logging.root.handlers), logging.root.level
    heard: list[tuple[Any, ...]] = []

    class Handler(module.Handler):  # type: ignore[misc]
        def emit(self, record: Any) -> None:
            error = record.exc_info[1] if record.exc_info else None
            heard.append((record.name, record.levelno, record.levelname, record.getMessage(), error))

    broken = ValueError("broken")
    try:
        module.basicConfig(level=module.WARNING, handlers=[Handler()], force=True)
        log = module.getLogger(f"library.{which}")
        assert log is module.getLogger(f"library.{which}")
        log.debug("not %s", "heard")
        log.info("not heard")
        log.warning("%d of %s", 3, "100 %")
        log.error("100 %", exc_info=broken)
        log.critical("%(what)s", {"what": "named"})
        log.log(module.ERROR, "at its level")
        try:
            raise broken
        except ValueError:
            log.exception("caught")
            log.error("caught too", exc_info=True)
        module.getLogger().warning("of the root")
        assert not log.isEnabledFor(module.INFO)
        log.setLevel(module.DEBUG)
        log.debug("heard now")
    finally:
        logging.root.handlers[:], logging.root.level = before
        logging.getLogger("library.real").setLevel(logging.NOTSET)
    assert heard == [
        (f"library.{which}", 30, "WARNING", "3 of 100 %", None),
        (f"library.{which}", 40, "ERROR", "100 %", broken),
        (f"library.{which}", 50, "CRITICAL", "named", None),
        (f"library.{which}", 40, "ERROR", "at its level", None),
        (f"library.{which}", 40, "ERROR", "caught", broken),
        (f"library.{which}", 40, "ERROR", "caught too", broken),
        ("root", 30, "WARNING", "of the root", None),
        (f"library.{which}", 10, "DEBUG", "heard now", None),
    ]


USES_OF_TYPING = """
from __future__ import annotations
from dataclasses import dataclass, fields
from typing import Any, Callable, ClassVar, Final, Generic, NamedTuple, NewType, Optional, Protocol, TypedDict, TypeVar
from typing import Union, cast, final, overload

T = TypeVar("T", bound=int)
Alias = Union[int, Callable[..., Optional[T]]]
Other = Any | None | int
Id = NewType("Id", int)

class Box(Generic[T]):
    content: T

class Speaks(Protocol):
    def say(self) -> str: ...

class Options(TypedDict, total=False):
    name: str

class Point(NamedTuple):
    "A point."
    x: int
    y: int = 2

    def sum(self):
        return self.x + self.y

@dataclass
class Data:
    kept: Final[int]
    shared: ClassVar[int] = 1

@final
class Last(Box[int]):
    pass

answers = [Point(1), Point(1).sum(), Point(y=3, x=1)._replace(x=7), Point.__name__, Point.__module__, Point.__doc__]
answers += [cast("str", 4), Id(5), [field.name for field in fields(Data)], Options(name="it"), Last.__name__]
"""


def _answers(name: str, typing: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    module = types.ModuleType(name)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "typing", typing)
        # dataclasses looks up there what an annotation names.
        patch.setitem(sys.modules, name, module)
        exec(USES_OF_TYPING, vars(module))
    found: list[Any] = module.answers
    return found


def test_types_can_be_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the agent and its packages write with typing runs, named tuples and dataclasses as with the real module."""
    real = sys.modules["typing"]
    assert _answers("uses_it", _stand_in("typing"), monkeypatch) == _answers("uses_it", real, monkeypatch)
