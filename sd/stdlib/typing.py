"""Stands in for `typing` on the card, where nobody asks for types. Saves 0.46 MB of memory.

Used by the agent and most packages, to write annotations, aliases and bases down. Left out: whatever looks at types
when the program runs. Every name is there, and may be subscribed to, called, or-ed and inherited from, to no effect.
"""

import collections

TYPE_CHECKING = False


class _Base:
    def __init_subclass__(cls, **_options):
        super().__init_subclass__()

    def __class_getitem__(cls, _parameters):
        return cls


class _Dict(dict):
    def __init_subclass__(cls, **_options):
        super().__init_subclass__()


class _Form:
    def __init__(self, name, base=_Base):
        self._name = name
        self._base = base

    def __repr__(self):
        return f"typing.{self._name}"

    def __getitem__(self, _parameters):
        return self

    def __call__(self, *_arguments, **_options):
        return self

    def __or__(self, _other):
        return self

    __ror__ = __or__

    def __mro_entries__(self, _bases):
        return (self._base,)


# dataclasses compares with these two.
ClassVar = _Form("ClassVar")


class _GenericAlias:
    pass


TypedDict = _Form("TypedDict", _Dict)


class _NamedTupleMeta(type):
    def __new__(cls, name, _bases, namespace):
        fields = list(namespace.get("__annotations__", ()))
        defaults = [namespace[field] for field in fields if field in namespace]
        made = collections.namedtuple(name, fields, defaults=defaults, module=namespace["__module__"])
        for key, value in namespace.items():
            if key not in fields and key not in ("__module__", "__dict__", "__weakref__", "__slots__", "__qualname__"):
                setattr(made, key, value)
        return made


_NamedTuple = type.__new__(_NamedTupleMeta, "NamedTuple", (), {})


class NamedTuple:
    def __mro_entries__(self, _bases):
        return (_NamedTuple,)


NamedTuple = NamedTuple()


def cast(_type, value):
    return value


def NewType(_name, base):
    return base


def overload(_function):
    return None


def _itself(thing):
    return thing


final = no_type_check = runtime_checkable = override = _itself


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return globals().setdefault(name, _Form(name))
