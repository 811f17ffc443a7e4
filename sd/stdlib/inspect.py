"""Stands in for `inspect` on the card: what asks of which kind something is. Saves 0.4 MB of memory.

Used by asyncio, dataclasses, microdot and voluptuous. Left out: signatures, sources, frames, members, and everything
else that reads code rather than runs it.
"""

import functools
import types

_COROUTINE = 0x80
_ITERABLE_COROUTINE = 0x100


def isclass(thing):
    return isinstance(thing, type)


def isfunction(thing):
    return isinstance(thing, types.FunctionType)


def ismethod(thing):
    return isinstance(thing, types.MethodType)


def isgenerator(thing):
    return isinstance(thing, types.GeneratorType)


def iscoroutine(thing):
    return isinstance(thing, types.CoroutineType)


def iscoroutinefunction(thing):
    while isinstance(thing, (types.MethodType, functools.partial)):
        thing = thing.__func__ if isinstance(thing, types.MethodType) else thing.func
    return isinstance(thing, types.FunctionType) and bool(thing.__code__.co_flags & _COROUTINE)


def isawaitable(thing):
    return (
        isinstance(thing, types.CoroutineType)
        or (isinstance(thing, types.GeneratorType) and bool(thing.gi_code.co_flags & _ITERABLE_COROUTINE))
        or hasattr(type(thing), "__await__")
    )


def unwrap(thing):
    while hasattr(thing, "__wrapped__"):
        thing = thing.__wrapped__
    return thing


def signature(_thing):
    """Only what a dataclass without a docstring writes into its own, and under -OO none has one."""
    return "(...)"
