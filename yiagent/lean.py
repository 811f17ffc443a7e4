"""Memory that the running agent does without. Nothing here changes what it does.

Measured on x86-64 with CPython 3.11 (private dirty memory of the idle agent): the configuration read by a child, 0.9 MB
less; no `ssl` where nothing is encrypted, 1.2 MB, and 0.4 MB for its hashes; modules that are loaded when they are
needed, which they hardly ever are: `urllib.request` 1.5 MB, `inspect` 0.8 MB, the codec `idna` 0.4 MB.
"""

from __future__ import annotations

import codecs
import functools
import os
import sys
from collections.abc import Callable
from types import CoroutineType, FunctionType, MethodType, ModuleType
from typing import Any, Final

_COROUTINE_FLAG: Final = 0x80


def do_apart(work: Callable[[], bytes]) -> bytes:
    """What `work` returns, done by a child of this process: all that it imports and makes goes with it.

    Nothing if `work` failed, which Python has then told on standard error. Raises `OSError` where this machine has no
    room for another process, also where the kernel ended it for want of memory. Only while there are no threads.
    """
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if child == 0:
        os.close(reading)
        _answer(work, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123 - no path but a descriptor
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise ChildProcessError(f"ended by signal {os.WTERMSIG(status)}")
    return answer


def _answer(work: Callable[[], bytes], writing: int) -> None:
    """In the child: never returns, so that nothing of the parent's is done twice."""
    try:
        answer = work()
        with open(writing, "wb") as pipe:
            pipe.write(answer)
    except KeyboardInterrupt:
        # The terminal has told the parent too.
        pass
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        finally:
            # Also where nobody reads what it says any more.
            os._exit(0)


def drop_ssl() -> None:
    """Have `import ssl` fail from now on, as on a Python without it: asyncio and paho load it for nothing otherwise.

    So would `hashlib`, which paho loads, with all of OpenSSL behind it, where Python has hashes of its own.
    """
    modules: dict[str, Any] = sys.modules
    modules.setdefault("ssl", None)
    try:
        # All that hashlib asks for: it complains of each that is missing.
        import _blake2  # noqa: F401
        import _md5  # type: ignore[import-not-found]  # noqa: F401
        import _sha1  # type: ignore[import-not-found]  # noqa: F401
        import _sha3  # type: ignore[import-not-found]  # noqa: F401
        import _sha256  # type: ignore[import-not-found]  # noqa: F401
        import _sha512  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        return
    modules.setdefault("_hashlib", None)


def bring_ssl_back() -> None:
    """Undo `drop_ssl`, for a broker with TLS that was set while the agent ran."""
    for name in ("ssl", "_hashlib"):
        if sys.modules.get(name, True) is None:
            del sys.modules[name]


class Deferred(ModuleType):
    """Stands in for a module until something is asked of it that it does not have itself; then the module is loaded."""

    def __init__(self, name: str, load: Callable[[], ModuleType], own: dict[str, Any]) -> None:
        super().__init__(name)
        vars(self).update(own, _load=load)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # Python's own questions, asked at every import of it.
            raise AttributeError(name)
        return getattr(self.module(), name)

    def module(self) -> ModuleType:
        """The module itself, which everyone who imports it from now on gets."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module: ModuleType = self._load()
        return module


def defer_modules() -> None:
    """Have modules loaded only when they are used, which those that import them hardly ever do.

    paho asks `urllib.request` for a proxy, but only where there is PySocks. asyncio, dataclasses and microdot ask
    `inspect` for little more than what a coroutine is. `socket` has every host name encoded by `idna`, also an ASCII
    one.
    """
    import encodings
    import urllib

    def request() -> ModuleType:
        import urllib.request

        return urllib.request

    def inspect() -> ModuleType:
        import inspect

        return inspect

    modules: dict[str, ModuleType] = sys.modules
    if "urllib.request" not in modules:
        modules["urllib.request"] = vars(urllib)["request"] = Deferred("urllib.request", request, {})
    modules.setdefault("inspect", Deferred("inspect", inspect, _INSPECT))
    if "encodings.idna" not in modules:
        idna = Deferred("encodings.idna", _real_idna, {"getregentry": _idna, "getaliases": tuple})
        modules["encodings.idna"] = vars(encodings)["idna"] = idna


def _is_coroutine_function(thing: object) -> bool:
    while isinstance(thing, MethodType | functools.partial):
        thing = thing.__func__ if isinstance(thing, MethodType) else thing.func
    return isinstance(thing, FunctionType) and bool(thing.__code__.co_flags & _COROUTINE_FLAG)


def _unwrap(thing: Any) -> Any:
    while hasattr(thing, "__wrapped__"):
        thing = thing.__wrapped__
    return thing


_INSPECT: Final = {
    "iscoroutine": lambda thing: isinstance(thing, CoroutineType),
    "iscoroutinefunction": _is_coroutine_function,
    # For the text of every task, which `asyncio.run` has made (and thrown away) by the way it sets a signal's handler.
    "isfunction": lambda thing: isinstance(thing, FunctionType),
    "unwrap": _unwrap,
}


def _real_idna() -> ModuleType:
    import encodings.idna

    return encodings.idna


def _idna() -> codecs.CodecInfo:
    def real() -> codecs.CodecInfo:
        module = sys.modules["encodings.idna"]
        codec: codecs.CodecInfo = (module.module() if isinstance(module, Deferred) else module).getregentry()
        return codec

    def encode(name: str, errors: str = "strict") -> tuple[bytes, int]:
        # The real one knows every other letter, and what to say of a label that is none.
        if name.isascii() and all(0 < len(label) < 64 for label in name.removesuffix(".").split(".")):
            return name.encode("ascii"), len(name)
        return real().encode(name, errors)

    def decode(encoded: Any, errors: str = "strict") -> tuple[str, int]:
        return real().decode(encoded, errors)

    return codecs.CodecInfo(encode, decode, name="idna")
