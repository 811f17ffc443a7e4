"""A checked configuration as bytes, for one process of ours to hand it to another. Pure.

It holds the passwords: for a pipe, never for a file. Not by `pickle`, which the card's Python does without.
"""

from __future__ import annotations

import marshal
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from yiagent import settings
from yiagent.model import Audio, Channel, DiscoveryFormat, Level, Transport
from yiagent.redact import Secret
from yiagent.urls import Url

# All that a configuration is made of, beside text, numbers and None.
_KINDS: Final = (
    *(settings.Config, settings.DeviceConfig, settings.SourceConfig, settings.DestinationConfig, settings.StreamConfig),
    *(settings.MqttConfig, settings.DiscoveryConfig, settings.TlsConfig, settings.WebConfig, settings.TelemetryConfig),
    *(Audio, Channel, DiscoveryFormat, Level, Transport, Url, Secret),
)
_PATH: Final = len(_KINDS)


def pack(config: settings.Config) -> bytes:
    """The configuration as bytes."""
    return marshal.dumps(_plain(config))


def unpack(data: bytes) -> settings.Config:
    """The configuration that `pack` made bytes of."""
    config: settings.Config = _whole(marshal.loads(data))  # noqa: S302 - of this program's own pipe
    return config


def _plain(value: Any) -> Any:
    """A tuple is a kind's number and its parts; nothing else in a configuration is one."""
    if isinstance(value, Path):
        return (_PATH, f"{value}")
    if type(value) not in _KINDS:
        return value
    kind = _KINDS.index(type(value))
    if isinstance(value, Secret):
        return (kind, value.reveal())
    if isinstance(value, Enum):
        return (kind, value.value)
    assert is_dataclass(value)
    return (kind, *(_plain(getattr(value, field.name)) for field in fields(value)))


def _whole(plain: Any) -> Any:
    if not isinstance(plain, tuple):
        return plain
    kind, *parts = plain
    return (Path if kind == _PATH else _KINDS[kind])(*map(_whole, parts))
