"""YAML to `Config`, or one `ConfigError` that lists every fault with its line, what is allowed and "did you mean".

No message repeats a value from the file: what stands in the wrong place may be a password.
"""

from __future__ import annotations

import re
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import voluptuous as vol

from yiagent.document import Document, Fault, shown_key
from yiagent.model import Audio, Channel, DiscoveryFormat, Level, Transport
from yiagent.redact import Secret
from yiagent.settings import (
    MANUFACTURER,
    MODEL,
    Config,
    DestinationConfig,
    DeviceConfig,
    DiscoveryConfig,
    MqttConfig,
    SourceConfig,
    StreamConfig,
    TelemetryConfig,
    TlsConfig,
    WebConfig,
)
from yiagent.topics import BIRTH
from yiagent.urls import BadUrl, Url, check_broker_host, check_key, parse_server, parse_source

MAX_FILE_BYTES: Final = 64 * 1024
MAX_SECRET_FILE_BYTES: Final = 4096
_DEVICE = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A topic level may hold anything but wildcards and controls; `$` at the start belongs to the broker.
_PREFIX = re.compile(r"[^+#$/\x00-\x1f\x7f][^+#\x00-\x1f\x7f]{0,127}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")


class ConfigError(Exception):
    """The configuration cannot be used; `faults` has every one of them, in the order of the file."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: (fault.line or 0, fault.path))
        super().__init__("\n".join(map(str, self.faults)))


def load_config(path: Path) -> Config:
    """The configuration in `path`. Raises `ConfigError` with every fault, also for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([Fault("", None, f"cannot be read: {error.strerror}")]) from None
    return parse_config(text, hostname=socket.gethostname(), read_secret=_read_secret)


def parse_config(text: bytes, *, hostname: str, read_secret: Callable[[Path], str]) -> Config:
    """The configuration in `text`. `read_secret` gives what stands in a `…_file`, or raises `OSError`.

    Raises `ConfigError`.
    """
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError([Fault("", None, f"is larger than {MAX_FILE_BYTES // 1024} KiB, so it is no configuration")])
    document = Document()
    tree = document.read(text)
    if tree is None:
        raise ConfigError(document.faults)
    faults = document.faults + _unknown_keys(tree, _SHAPE, document.lines)
    try:
        values = _SCHEMA(tree)
    except vol.MultipleInvalid as invalid:
        faults += [document.fault(error.path, error.error_message) for error in invalid.errors]
        for error in invalid.errors:
            _drop(tree, error.path)
        # What is left passes, so that faults between several keys are told in the same breath.
        values = _SCHEMA(tree)
    build = _Build(values, document, read_secret, broken={fault.path for fault in faults})
    config = build.config(hostname)
    if faults or build.faults:
        raise ConfigError(faults + build.faults)
    return config


def device_from_hostname(hostname: str) -> str:
    """The default device id: the host name mapped to the alphabet of topics."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", hostname)[:64] or "yiagent"


def _file_problem(path: Path) -> str | None:
    try:
        return None if stat.S_ISREG(path.stat().st_mode) else "does not name a file"
    except OSError as error:
        return f"names a file that cannot be read: {error.strerror}"


def _read_secret(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_SECRET_FILE_BYTES + 1)
    if len(data) > MAX_SECRET_FILE_BYTES:
        raise OSError(0, "is too large for a password")
    try:
        return data.decode("utf-8-sig").rstrip("\r\n\x1a")
    except UnicodeDecodeError:
        raise OSError(0, "is not UTF-8 text") from None


# --- the schema -----------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise vol.Invalid("must be text")
    if not value.isprintable():
        raise vol.Invalid("must be one line without control characters")
    return value


def _name(value: Any) -> str:
    text = _text(value)
    if text.isspace():
        raise vol.Invalid("must be a name: it is blank")
    return text


def _flag(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if not isinstance(value, str) or value.lower() not in words:
        raise vol.Invalid("must be true or false")
    return words[value.lower()]


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[Any], float]:
    kind = "a whole number" if whole else "a number"

    def check(value: Any) -> float:
        try:
            number = int(value) if whole else float(value)
        except (TypeError, ValueError):
            number = float("nan")
        # NaN compares false with everything, so it is refused here too.
        if not low <= number <= high:
            raise vol.Invalid(f"must be {kind} from {low:g} to {high:g}")
        return number

    return check


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value in allowed:
            return str(value)
        raise vol.Invalid(f"must be one of {', '.join(allowed)}{_did_you_mean(value, allowed)}")

    return check


def _matching(pattern: re.Pattern[str], allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise vol.Invalid(f"must be {allowed}")
        return value

    return check


def _url(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        try:
            return parse(_text(value))
        except BadUrl as error:
            raise vol.Invalid(str(error)) from None

    return check


def _server(value: str) -> str:
    parse_server(value)
    return value


def _mqtt_host(value: Any) -> str:
    try:
        return check_broker_host(value if isinstance(value, str) else "")
    except BadUrl as error:
        raise vol.Invalid(str(error)) from None


def _prefix(value: Any) -> str:
    # Brokers and Home Assistant take no control characters, and no non-characters either.
    text = _text(_matching(_PREFIX, "a topic without +, #, or a leading / or $")(value))
    if text.endswith("/"):
        raise vol.Invalid("must not end with /")
    return text


def _mac(value: Any) -> str:
    if value in ("auto", "none"):
        return str(value)
    allowed = "auto, none, or an address like 0c:8c:24:00:00:01"
    return _matching(_MAC, allowed)(value).replace("-", ":").lower()


_PORT = _number(1, 65535, whole=True)
_PASSWORD = {"password": _text, "password_file": _text}
_CERTIFICATE = {"cert_file": _text, "key_file": _text}
# Every key there is. A leaf is what checks it; a dict is a section.
_SHAPE: Final[Mapping[str, Any]] = {
    "device": {
        "id": _matching(_DEVICE, "1 to 64 of the characters A-Z a-z 0-9 _ -"),
        "name": _name,
        "manufacturer": _name,
        "model": _name,
        "mac": _mac,
    },
    "source": {
        "hd": _url(parse_source),
        "sd": _url(parse_source),
        "transport": _one_of(*Transport),
        "username": _text,
        **_PASSWORD,
    },
    "destination": {"server": _url(_server), "key": _url(check_key), "key_file": _text},
    "stream": {
        "autostart": _flag,
        "channel": _one_of(*Channel),
        "audio": _one_of(*Audio),
        "start_timeout_s": _number(1, 600),
        "stall_timeout_s": _number(1, 600),
    },
    "mqtt": {
        "host": _mqtt_host,
        "port": _PORT,
        "username": _text,
        **_PASSWORD,
        "tls": {"ca_file": _text, **_CERTIFICATE},
        "prefix": _prefix,
        "keepalive_s": _number(1, 65535, whole=True),
        "discovery": {
            "enabled": _flag,
            "prefix": _prefix,
            "format": _one_of(*DiscoveryFormat),
            "status_topic": _prefix,
            "latest": _text,
        },
    },
    "web": {"enabled": _flag, "host": _text, "port": _PORT, **_PASSWORD, "tls": _CERTIFICATE},
    "telemetry": {"interval_s": _number(0.2, 3600), "interface": _text},
    "snapshot": {"enabled": _flag},
    "log": {"level": _one_of(*Level)},
    "state_dir": _text,
    "ffmpeg": _text,
}


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A key that stands there without a value counts as left out."""
    return lambda value: None if value is None else check(value)


def _section(value: Any) -> Any:
    if not isinstance(value, dict):
        raise vol.Invalid("must be a section: indented `name: value` lines")
    return value


def _schema(shape: Mapping[str, Any]) -> Callable[[Any], Any]:
    checks = {name: _schema(leaf) if isinstance(leaf, Mapping) else leaf for name, leaf in shape.items()}
    keys = {vol.Optional(name): _optional(check) for name, check in checks.items()}
    # Unknown keys are told of by `_unknown_keys`, with "did you mean".
    schema: Callable[[Any], Any] = vol.Schema(vol.All(_section, vol.Schema(keys, extra=vol.REMOVE_EXTRA)))
    return schema


_SCHEMA: Final = _schema(_SHAPE)


def _drop(tree: dict[str, Any], path: list[Any]) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree.pop(path[-1], None)


def _unknown_keys(
    tree: Any, shape: Mapping[str, Any], lines: Mapping[tuple[str, ...], int], path: tuple[str, ...] = ()
) -> list[Fault]:
    faults: list[Fault] = []
    if not isinstance(tree, dict):
        return faults
    for key, value in tree.items():
        here = (*path, key)
        leaf = shape.get(key)
        if key not in shape:
            place = f"in {'.'.join(path)}" if path else "at the top"
            hint = _did_you_mean(key, tuple(shape)) or f"; allowed {place}: {', '.join(shape)}"
            faults.append(Fault(".".join((*path, shown_key(key))), lines.get(here), f"is no setting{hint}"))
        elif isinstance(leaf, Mapping):
            faults += _unknown_keys(value, leaf, lines, here)
    return faults


def _did_you_mean(value: Any, allowed: tuple[str, ...]) -> str:
    # Imported only for a file that has a fault: on a camera every import at start is paid for.
    from difflib import get_close_matches

    close = get_close_matches(value.lower(), allowed, n=1) if isinstance(value, str) else []
    return f"; did you mean {close[0]}?" if close else ""


# --- the checked tree to the dataclasses ----------------------------------------------------------------------------


class _Build:
    """Builds `Config` from the schema's result, applying defaults and the rules that concern several keys."""

    def __init__(
        self, values: dict[str, Any], document: Document, read_secret: Callable[[Path], str], broken: set[str]
    ) -> None:
        self._broken = broken
        self._values = values
        self._document = document
        self._read_secret = read_secret
        self.faults: list[Fault] = []

    def config(self, hostname: str) -> Config:
        get = self._get
        device = get("device.id") or device_from_hostname(hostname)
        mac: str = get("device.mac", "auto")
        return Config(
            device=DeviceConfig(
                device,
                get("device.name") or device,
                manufacturer=get("device.manufacturer", MANUFACTURER),
                model=get("device.model", MODEL),
                mac={"auto": None, "none": ""}.get(mac, mac),
            ),
            source=self._source(),
            destination=DestinationConfig(get("destination.server"), self._stream_key()),
            stream=StreamConfig(
                autostart=get("stream.autostart", False),
                channel=self._channel(),
                audio=Audio(get("stream.audio", Audio.AUTO)),
                start_timeout_s=get("stream.start_timeout_s", 30.0),
                stall_timeout_s=get("stream.stall_timeout_s", 10.0),
            ),
            mqtt=self._mqtt(),
            web=WebConfig(
                enabled=get("web.enabled", True),
                host=get("web.host", "0.0.0.0"),  # noqa: S104 - the page is for the owner's network, behind a password
                port=get("web.port", 8080),
                password=self._password("web"),
                tls=self._tls("web"),
            ),
            telemetry=TelemetryConfig(get("telemetry.interval_s", 5.0), self._interface()),
            snapshot_enabled=get("snapshot.enabled", False),
            log_level=Level(get("log.level", Level.INFO)),
            state_dir=Path(get("state_dir", "/var/lib/yiagent")),
            ffmpeg=get("ffmpeg", "ffmpeg"),
        )

    def _get(self, path: str, default: Any = None) -> Any:
        value: Any = self._values
        for key in path.split("."):
            value = value.get(key) if value is not None else None
        return default if value is None else value

    def _fail(self, path: str, message: str) -> None:
        if path not in self._broken:
            self.faults.append(self._document.fault(path.split("."), message))

    def _is_missing(self, path: str) -> bool:
        """Whether `path` is not given: neither rightly nor wrongly, for a fault of its own is told already."""
        near = {path, path.partition(".")[0]}
        return self._get(path) is None and not near & self._broken

    def _source(self) -> SourceConfig:
        get = self._get
        hd: Url | None = get("source.hd")
        sd: Url | None = get("source.sd")
        if self._is_missing("source.hd") and self._is_missing("source.sd"):
            self._fail("source", "needs hd, sd or both: the camera's rtsp:// URLs")
        username, password = get("source.username"), self._password("source")
        if password is not None and username is None:
            self._fail("source.username", "is missing: a password is given without a user name")
        if username is not None and any(url is not None and url.username is not None for url in (hd, sd)):
            self._fail("source.username", "is given twice: here and in the camera's URL; keep one")
        return SourceConfig(hd, sd, Transport(get("source.transport", Transport.TCP)), username, password)

    def _channel(self) -> Channel:
        channel = Channel(self._get("stream.channel", Channel.AUTO))
        other = "source.sd" if channel is Channel.HD else "source.hd"
        if channel is not Channel.AUTO and self._is_missing(f"source.{channel}") and self._get(other) is not None:
            self._fail("stream.channel", f"is {channel}, but source.{channel} is not given")
        return channel

    def _mqtt(self) -> MqttConfig:
        get = self._get
        username, password = get("mqtt.username"), self._password("mqtt")
        if password is not None and username is None:
            self._fail("mqtt.username", "is missing: a password is given without a user name")
        tls = self._tls("mqtt")
        port = get("mqtt.port", 1883)
        if tls is None and port == 8883:
            # The registered port of MQTT over TLS: a broker with a certificate every machine knows needs no file.
            tls = TlsConfig(None, None, None)
        return MqttConfig(
            host=get("mqtt.host"),
            port=port,
            username=username,
            password=password,
            tls=tls,
            prefix=get("mqtt.prefix", "yiagent"),
            keepalive_s=get("mqtt.keepalive_s", 30),
            discovery=DiscoveryConfig(
                get("mqtt.discovery.enabled", True),
                get("mqtt.discovery.prefix", "homeassistant"),
                DiscoveryFormat(get("mqtt.discovery.format", DiscoveryFormat.DEVICE)),
                get("mqtt.discovery.status_topic", BIRTH),
                get("mqtt.discovery.latest"),
            ),
        )

    def _tls(self, section: str) -> TlsConfig | None:
        names = ("ca_file", "cert_file", "key_file") if section == "mqtt" else ("cert_file", "key_file")
        files = {name: self._get(f"{section}.tls.{name}") for name in names}
        if not any(files.values()):
            return None
        if bool(files["cert_file"]) != bool(files["key_file"]):
            missing = "key_file" if files["cert_file"] else "cert_file"
            self._fail(f"{section}.tls.{missing}", "is missing: a certificate and its key go together")
        for name, file in files.items():
            problem = _file_problem(Path(file)) if file is not None else None
            if problem is not None:
                self._fail(f"{section}.tls.{name}", problem)
        paths = {name: Path(file) if file else None for name, file in files.items()}
        return TlsConfig(paths.get("ca_file"), paths["cert_file"], paths["key_file"])

    def _interface(self) -> str | None:
        interface: str = self._get("telemetry.interface", "auto")
        return None if interface == "auto" else interface

    def _password(self, section: str) -> Secret | None:
        return self._secret(f"{section}.password")

    def _stream_key(self) -> Secret | None:
        key = self._secret("destination.key")
        if key is not None and self._get("destination.key") is None:
            try:
                check_key(key.reveal())
            except BadUrl as error:
                self._fail("destination.key_file", str(error))
        return key

    def _secret(self, path: str) -> Secret | None:
        """The secret given at `path`, or in the file named at `path_file`; both at once is a fault."""
        value, file = self._get(path), self._get(f"{path}_file")
        if file is None:
            return Secret(value) if value is not None else None
        if value is not None:
            self._fail(f"{path}_file", f"is given beside {path.rpartition('.')[2]}: keep one")
            return None
        try:
            text = self._read_secret(Path(file))
        except OSError as error:
            self._fail(f"{path}_file", f"cannot be read: {error.strerror}")
            return None
        if not text or not text.isprintable():
            self._fail(f"{path}_file", "must hold one line of text")
            return None
        return Secret(text)
