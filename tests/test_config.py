"""A faulty configuration is refused with every fault at once, each told with its place and never with its value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from yiagent.config import (
    MAX_FILE_BYTES,
    MAX_SECRET_FILE_BYTES,
    ConfigError,
    device_from_hostname,
    load_config,
    parse_config,
)
from yiagent.model import Audio, Channel, DiscoveryFormat, Level, Transport
from yiagent.redact import Secret
from yiagent.settings import Config
from yiagent.urls import parse_source

CAMERA = 'source: {sd: "rtsp://camera.example/ch0_1.h264"}\n'
MARKER = "Zq7-xK9 wV3!"


def _no_file(path: Path) -> str:
    raise FileNotFoundError(2, "No such file or directory")


def _parse(text: str | bytes, read_secret: Callable[[Path], str] = _no_file) -> Config:
    data = text.encode() if isinstance(text, str) else text
    return parse_config(data, hostname="front.door", read_secret=read_secret)


def _refusal(text: str | bytes, read_secret: Callable[[Path], str] = _no_file) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        _parse(text, read_secret)
    assert refused.value.faults
    return refused.value


def _document(path: str, value: Any) -> str:
    """A usable file but for `value` at `path`."""
    tree: dict[str, Any] = {"source": {"sd": "rtsp://camera.example/ch0_1.h264"}}
    *sections, key = path.split(".")
    place = tree
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value
    return yaml.safe_dump(tree, sort_keys=False)


def _at(config: Config, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def test_the_least_there_must_be() -> None:
    """The camera's address is enough; everything else has the default that design.md gives."""
    config = _parse(CAMERA)
    assert config.device.id == config.device.name == "front-door"
    assert (config.device.manufacturer, config.device.model, config.device.mac) == ("yiagent", "RTSP camera", None)
    assert config.source.hd is None
    assert config.source.sd == parse_source("rtsp://camera.example/ch0_1.h264")
    assert (config.source.transport, config.source.username, config.source.password) == (Transport.TCP, None, None)
    assert (config.destination.server, config.destination.key) == (None, None)
    assert not config.stream.autostart
    assert (config.stream.channel, config.stream.audio) == (Channel.AUTO, Audio.AUTO)
    assert (config.stream.start_timeout_s, config.stream.stall_timeout_s) == (30, 10)
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.tls, config.mqtt.prefix) == (None, 1883, None, "yiagent")
    assert (config.mqtt.username, config.mqtt.password, config.mqtt.keepalive_s) == (None, None, 30)
    assert config.mqtt.discovery.enabled
    assert config.mqtt.discovery.prefix == "homeassistant"
    assert config.mqtt.discovery.format is DiscoveryFormat.DEVICE
    assert (config.mqtt.discovery.status_topic, config.mqtt.discovery.latest) == ("homeassistant/status", None)
    assert config.web.enabled
    assert (config.web.host, config.web.port, config.web.password, config.web.tls) == ("0.0.0.0", 8080, None, None)
    assert (config.telemetry.interval_s, config.telemetry.interface) == (5, None)
    assert (config.snapshot_enabled, config.log_level) == (False, Level.INFO)
    assert (config.state_dir, config.ffmpeg) == (Path("/var/lib/yiagent"), "ffmpeg")
    assert config.secrets == []


GOOD: list[tuple[str, Any, str, Any]] = [
    ("device.id", "Garage_2-x", "device.id", "Garage_2-x"),
    ("device.id", "d" * 64, "device.id", "d" * 64),
    ("device.name", "Vordertür 1", "device.name", "Vordertür 1"),
    ("device.manufacturer", "Kami & Söhne", "device.manufacturer", "Kami & Söhne"),
    ("device.model", "YI Home 47US", "device.model", "YI Home 47US"),
    ("device.mac", "auto", "device.mac", None),
    ("device.mac", "none", "device.mac", ""),
    ("device.mac", "0c:8c:24:00:00:01", "device.mac", "0c:8c:24:00:00:01"),
    ("device.mac", "0C-8C-24-AB-CD-EF", "device.mac", "0c:8c:24:ab:cd:ef"),
    ("source.hd", "rtsps://[::1]:322/a?b=c", "source.hd", parse_source("rtsps://[::1]:322/a?b=c")),
    ("source.transport", "udp", "source.transport", Transport.UDP),
    ("source.username", "cam", "source.username", "cam"),
    ("destination.server", "rtmps://h:443/app?backup=1", "destination.server", "rtmps://h:443/app?backup=1"),
    ("destination.key", "a?b=c&d", "destination.key", Secret("a?b=c&d")),
    *[("stream.autostart", word, "stream.autostart", True) for word in (True, "yes", "on", "True", "ON")],
    *[("stream.autostart", word, "stream.autostart", False) for word in (False, "no", "off", "FALSE")],
    *[("stream.channel", channel, "stream.channel", Channel(channel)) for channel in ("auto", "sd")],
    *[("stream.audio", str(audio), "stream.audio", audio) for audio in Audio],
    ("stream.start_timeout_s", 1, "stream.start_timeout_s", 1.0),
    ("stream.start_timeout_s", 600, "stream.start_timeout_s", 600.0),
    ("stream.stall_timeout_s", 2.5, "stream.stall_timeout_s", 2.5),
    ("mqtt.host", "broker.example", "mqtt.host", "broker.example"),
    ("mqtt.host", "192.0.2.1", "mqtt.host", "192.0.2.1"),
    ("mqtt.host", "2001:db8::1", "mqtt.host", "2001:db8::1"),
    ("mqtt.port", 1, "mqtt.port", 1),
    ("mqtt.port", 65535, "mqtt.port", 65535),
    ("mqtt.username", "front-door", "mqtt.username", "front-door"),
    ("mqtt.prefix", "home/cameras", "mqtt.prefix", "home/cameras"),
    ("mqtt.keepalive_s", 60, "mqtt.keepalive_s", 60),
    ("mqtt.discovery.enabled", False, "mqtt.discovery.enabled", False),
    ("mqtt.discovery.prefix", "ha", "mqtt.discovery.prefix", "ha"),
    *[("mqtt.discovery.format", str(form), "mqtt.discovery.format", form) for form in DiscoveryFormat],
    ("mqtt.discovery.status_topic", "ha/status", "mqtt.discovery.status_topic", "ha/status"),
    ("mqtt.discovery.latest", "0.2.0", "mqtt.discovery.latest", "0.2.0"),
    ("web.enabled", False, "web.enabled", False),
    ("web.host", "127.0.0.1", "web.host", "127.0.0.1"),
    ("web.port", 80, "web.port", 80),
    ("web.password", "p w", "web.password", Secret("p w")),
    ("telemetry.interval_s", 0.2, "telemetry.interval_s", 0.2),
    ("telemetry.interface", "ra0", "telemetry.interface", "ra0"),
    ("telemetry.interface", "auto", "telemetry.interface", None),
    ("snapshot.enabled", True, "snapshot_enabled", True),
    *[("log.level", str(level), "log_level", level) for level in Level],
    ("state_dir", "/tmp/x", "state_dir", Path("/tmp/x")),
    ("ffmpeg", "/opt/ffmpeg", "ffmpeg", "/opt/ffmpeg"),
]


@pytest.mark.parametrize(("path", "value", "attribute", "expected"), GOOD)
def test_values_that_are_taken(path: str, value: Any, attribute: str, expected: Any) -> None:
    """Every key takes what design.md says, and it arrives where the program looks for it."""
    assert _at(_parse(_document(path, value)), attribute) == expected


# Every key there is, with what it must refuse and a word of what the refusal must say.
BAD: dict[str, tuple[list[Any], str]] = {
    "device.id": (["", "a b", "a/b", "ä", "d" * 65, "a+b", "#"], "A-Z a-z 0-9"),
    "device.name": (["", "a\nb", "\0", " ", "   "], "text|line|blank"),
    "device.manufacturer": (["", "a\nb", "\0"], "text|line"),
    "device.model": (["", "a\nb", "\0"], "text|line"),
    "device.mac": (
        ["", "Auto", "1c:8c:24:00:00", "1c:8c:24:00:00:01:02", "0c8c24000001", "0g:8c:24:00:00:01", "0c:8c:24:00:00:1"],
        "auto, none",
    ),
    "source.hd": (
        ["", "camera", "http://h/a", "file:///etc/passwd", "rtmp://h/a", "-i", "rtsp://", "rtsp://h:0/a"],
        "",
    ),
    "source.sd": (["", "camera", "http://h/a", "file:///etc/passwd", "rtmp://h/a", "-i", "rtsp://h/a b"], ""),
    "source.transport": (["TCP", "http", ""], "tcp, udp"),
    "source.username": (["", "a\nb"], "text|line"),
    "source.password": (["", "a\nb"], "text|line"),
    "source.password_file": (["", "a\nb", "/nonexistent/file"], "text|line|read"),
    "destination.server": (["", "h/app", "http://h/a", "rtsp://h/a", "file:///etc/passwd", "rtmp:///app", "***"], ""),
    "destination.key": (["", "a\nb", " a", "a ", "k" * 256], ""),
    "destination.key_file": (["", "/nonexistent/file"], "text|read"),
    "stream.autostart": (["", "maybe", "1", 1, 0], "true or false"),
    "stream.channel": (["", "HD", "full"], "sd, hd, auto"),
    "stream.audio": (["", "mp3", "Copy"], "auto, copy, aac, silent, none"),
    "stream.start_timeout_s": (["", "soon", 0, 0.99, 601, -1, "nan", "inf", "10s"], "from 1 to 600"),
    "stream.stall_timeout_s": (["", "soon", 0, 601, -1, "nan", "-inf", "1e9"], "from 1 to 600"),
    "mqtt.host": (["", "mqtt://h", "h/x", "a b", "user@h", "h" * 254, "broker.example:1883"], "host name"),
    "mqtt.port": (["", 0, 65536, -1, "mqtt", 1883.5, "0x10", "9" * 5000], "whole number from 1 to 65535"),
    "mqtt.username": (["", "a\nb"], "text|line"),
    "mqtt.password": (["", "a\nb"], "text|line"),
    "mqtt.password_file": (["", "/nonexistent/file"], "text|read"),
    "mqtt.tls.ca_file": (["", "/nonexistent/ca.pem", "n" * 300], "text|not there|read"),
    "mqtt.tls.cert_file": (["", "/nonexistent/cert.pem"], "text|not there|read"),
    "mqtt.tls.key_file": (["", "/nonexistent/key.pem"], "text|not there|read"),
    "mqtt.prefix": (["", "a/#", "+", "/a", "a/", "$SYS", "a\0", "a\x80", "a\ufdd0", "a\U0001ffff", "p" * 129], ""),
    "mqtt.keepalive_s": (["", 0, 65536, 1.5, "often"], "whole number"),
    "mqtt.discovery.enabled": (["", "maybe"], "true or false"),
    "mqtt.discovery.prefix": (["", "a/#", "/a", "a/", "a\x9f", "a\ufdef"], ""),
    "mqtt.discovery.format": (["", "Device", "entities"], "device, entity"),
    "mqtt.discovery.status_topic": (["", "a/#", "+/status", "/a", "a/", "$SYS/x", "a\x85"], ""),
    "mqtt.discovery.latest": (["", "a\nb", "\0"], "text|line"),
    "web.enabled": (["", "maybe"], "true or false"),
    "web.host": ([""], "text"),
    "web.port": (["", 0, 65536, "http"], "whole number from 1 to 65535"),
    "web.password": (["", "a\nb"], "text|line"),
    "web.password_file": (["", "/nonexistent/file"], "text|read"),
    "web.tls.cert_file": (["", "/nonexistent/cert.pem"], "text|not there|read"),
    "web.tls.key_file": (["", "/nonexistent/key.pem"], "text|not there|read"),
    "telemetry.interval_s": (["", 0, 0.1, 3601, "often"], "from 0.2 to 3600"),
    "telemetry.interface": (["", "a\nb"], "text|line"),
    "snapshot.enabled": (["", "maybe"], "true or false"),
    "log.level": (["", "Info", "warn", "verbose"], "debug, info, warning, error"),
    "state_dir": (["", "a\nb"], "text|line"),
    "ffmpeg": (["", "a\0b"], "text|line"),
}
KEYS = sorted(BAD)
SECTIONS = sorted({path.rpartition(".")[0] for path in KEYS} - {""})


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, (values, _) in BAD.items() for value in values])
def test_values_that_are_refused(path: str, value: Any) -> None:
    """Each bad value is one fault, at its path, that says what is allowed and does not repeat it."""
    error = _refusal(_document(path, value))
    fault = next(fault for fault in error.faults if fault.path == path)
    assert fault.line is not None
    assert fault.message
    words = BAD[path][1].split("|")
    assert any(word in fault.message for word in words), fault.message
    if len(str(value)) > 8:
        assert str(value) not in str(error)


@pytest.mark.parametrize("path", KEYS)
@pytest.mark.parametrize("value", [[], ["a"], {"a": "b"}, [[["a"]]]])
def test_a_value_is_no_list_and_no_section(path: str, value: Any) -> None:
    """Structure where a value belongs is told of at its own path."""
    assert path in [fault.path for fault in _refusal(_document(path, value)).faults]


@pytest.mark.parametrize("path", SECTIONS)
@pytest.mark.parametrize("value", ["x", 5, True, ["x"]])
def test_a_section_is_no_value(path: str, value: Any) -> None:
    """A value where a section belongs is told of as such."""
    faults = {fault.path: fault.message for fault in _refusal(_document(path, value)).faults}
    assert "must be a section" in faults[path]


@pytest.mark.parametrize("path", [*KEYS, *SECTIONS])
def test_an_empty_key_counts_as_left_out(path: str) -> None:
    """`key:` without a value is how the example file shows what there is: it changes nothing."""
    text = _document(path, None)
    if path in ("source", "source.sd"):
        assert [fault.path for fault in _refusal(text).faults] == ["source"]
    else:
        assert _parse(text) == _parse(CAMERA)


@settings(max_examples=60)
@given(
    st.sets(st.sampled_from([*KEYS, *SECTIONS]), min_size=1),
    st.sampled_from(
        [MARKER, [MARKER], {MARKER: MARKER}, [{"password": MARKER}], f"rtsp://u:{MARKER}@h/a", f"!{MARKER}"]
    ),
)
def test_no_value_is_ever_repeated(paths: set[str], value: Any) -> None:
    """Whatever stands in the wrong place may be a password: no value of the file is in the refusal."""
    tree: dict[str, Any] = {}
    # Shorter paths last, so that a section may be overwritten as a whole.
    for path in sorted(paths, key=len, reverse=True):
        *sections, key = path.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    error = _refusal_or_none(yaml.safe_dump(tree, allow_unicode=True))
    assert error is None or not {part for part in MARKER.split() if part in f"{error} {error!r} {error.faults}"}


def _refusal_or_none(text: str | bytes) -> ConfigError | None:
    try:
        _parse(text)
    except ConfigError as error:
        return error
    return None


@pytest.mark.parametrize(
    "lines",
    [
        "web:\n  password: !Zq7xK9wV3!rest",
        "web:\n  password: !Zq7xK9wV3",
        "web:\n  password: !<Zq7xK9wV3>",
        "web:\n  password: *Zq7xK9wV3",
        "web:\n  password: &Zq7xK9wV3 &Zq7xK9wV3",
        "web:\n  password: @Zq7xK9wV3",
        "web:\n  password: `Zq7xK9wV3",
        "web:\n  password: %Zq7xK9wV3",
        "web:\n  password: |Zq7xK9wV3",
        "web:\n  password: >Zq7xK9wV3",
        "web:\n  password: Zq7xK9wV3: Zq7xK9wV3",
        "web:\n  password: {Zq7xK9wV3",
        "web:\n  password: [Zq7xK9wV3",
        "web:\n  password: 'Zq7xK9wV3",
        'web:\n  password: "Zq7xK9wV3',
        'web:\n  password: "\\qZq7xK9wV3"',
        "web:\n  password: Zq7xK9wV3\n\tport: 1",
        "web:\n  password\n  Zq7xK9wV3",
        "web:\n  password Zq7xK9wV3",
        "web:\n  Zq7xK9wV3 password",
        "web: Zq7xK9wV3",
        "Zq7xK9wV3",
        "- Zq7xK9wV3",
        "? [Zq7xK9wV3]\n: x",
        "? {Zq7xK9wV3: x}\n: x",
        "%Zq7xK9wV3 x\n---\nweb: {}",
        "%TAG !Zq7xK9wV3! x\n%TAG !Zq7xK9wV3! x\n---\nweb: {}",
        "web: {password: a, password: Zq7xK9wV3}",
        "web: {'Zq7xK9wV3 !': a, 'Zq7xK9wV3 !': b}",
        "web: {password: {'Zq7xK9wV3 !': a, 'Zq7xK9wV3 !': b}}",
        "web: {'Zq7xK9wV3 !': a}",
        "<<: Zq7xK9wV3",
        "<<: {Zq7xK9wV3: x}",
        "web: {password: !!python/name:Zq7xK9wV3 x}",
        "web: {password: !!python/object/apply:os.system [Zq7xK9wV3]}",
        "web: {password: Zq7xK9wV3}\n---\nweb: {}",
    ],
)
def test_what_yaml_complains_of_is_not_quoted(lines: str) -> None:
    """A password that is no YAML as it stands (it begins with `!`, say) is a likely mistake; it is not shown either."""
    error = _refusal(f"{lines}\n")
    assert "Zq7xK9wV3" not in f"{error} {error!r} {error.faults}"
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize("password", ["!Zq7", "&Zq7", "*Zq7", "&Zq7 x", "!Zq7 x", "!!str Zq7"])
def test_a_password_that_yaml_takes_for_something_else_is_refused(password: str) -> None:
    """What would be taken off the password in silence, or leave the page without one, is refused instead."""
    error = _refusal(f"{CAMERA}web:\n  password: {password}\n")
    assert [fault.line for fault in error.faults] == [3]


def test_all_faults_are_told_at_once() -> None:
    """Every fault of the file in one refusal, in the order of the file, each with line, path and what is allowed."""
    error = _refusal(
        "device: {id: a b}\n"
        "source:\n"
        "  hd: http://camera/\n"
        "  transprot: tcp\n"
        "  password: secret\n"
        "strem: {autostart: true}\n"
        "stream:\n"
        "  channel: hdd\n"
        "  audio: acc\n"
        "  stall_timeout_s: 0\n"
        "mqtt: {port: 70000, tls: {key_file: /nonexistent/key}}\n"
        "log: {level: warn}\n"
        "web: [1]\n"
        "log: {level: info}\n"
    )
    told = [(fault.line, fault.path) for fault in error.faults]
    assert told == [
        (1, "device.id"),
        # A key that is missing is told of at its section.
        (2, "source.username"),
        (3, "source.hd"),
        (4, "source.transprot"),
        (6, "strem"),
        (8, "stream.channel"),
        (9, "stream.audio"),
        (10, "stream.stall_timeout_s"),
        (11, "mqtt.port"),
        (11, "mqtt.tls.cert_file"),
        (11, "mqtt.tls.key_file"),
        (12, "log.level"),
        (13, "web"),
        (14, "log"),
    ]
    assert str(error).count("\n") == 13
    assert "line 4: source.transprot: is no setting; did you mean transport?" in str(error)
    assert "line 6: strem: is no setting; did you mean stream?" in str(error)
    assert "did you mean hd?" in str(error)
    assert "did you mean aac?" in str(error)
    assert "did you mean warning?" in str(error)
    assert "stands twice (first in line 12)" in str(error)


def test_an_unknown_key_without_a_likeness_is_told_what_there_is() -> None:
    """Where nothing is near enough to guess, the allowed names are listed."""
    error = _refusal(f"{CAMERA}web: {{xyzzy: 1}}\nxyzzy: 2\n")
    assert "web.xyzzy: is no setting; allowed in web: enabled, host, port, password, password_file, tls" in str(error)
    assert "xyzzy: is no setting; allowed at the top: device, source" in str(error)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("", ["source"]),
        ("# nothing\n", ["source"]),
        ("source: {}\n", ["source"]),
        ("source: {transport: tcp}\n", ["source"]),
        (f"{CAMERA}stream: {{channel: hd}}\n", ["stream.channel"]),
        ('source: {hd: "rtsp://h/a"}\nstream: {channel: sd}\n', ["stream.channel"]),
        ('source: {hd: "x"}\nstream: {channel: hd}\n', ["source.hd"]),
        ('source: {hd: "rtsp://h/a", password: x}\n', ["source.username"]),
        ('source: {hd: "rtsp://a:b@h/a", username: x}\n', ["source.username"]),
        ('source: {hd: "rtsp://a:b@h/a", username: x, password: y}\n', ["source.username"]),
        (f"{CAMERA}mqtt: {{password: x}}\n", ["mqtt.username"]),
        (f"{CAMERA}mqtt: {{password: x, username: [y]}}\n", ["mqtt.username"]),
        (f"{CAMERA}web: {{password: x, password_file: y}}\n", ["web.password_file"]),
        (f"{CAMERA}destination: {{key: x, key_file: y}}\n", ["destination.key_file"]),
    ],
)
def test_rules_between_keys(text: str, paths: list[str]) -> None:
    """What only several keys together make wrong is told once, and not where one of them is told of already."""
    assert [fault.path for fault in _refusal(text).faults] == paths


def test_a_certificate_and_its_key_go_together(tmp_path: Path) -> None:
    """One without the other is refused; an authority alone is enough for MQTT; none is plain TCP."""
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    ca, cert, key = (str(tmp_path / name) for name in ("ca", "cert", "key"))
    one = _refusal(f"{CAMERA}mqtt: {{tls: {{cert_file: {cert}}}}}\nweb: {{tls: {{key_file: {key}}}}}\n")
    assert [fault.path for fault in one.faults] == ["mqtt.tls.key_file", "web.tls.cert_file"]
    tls = _parse(f"{CAMERA}mqtt: {{tls: {{ca_file: {ca}}}}}\n").mqtt.tls
    assert tls is not None
    assert (tls.ca_file, tls.cert_file, tls.key_file) == (Path(ca), None, None)
    web = _parse(f"{CAMERA}web: {{tls: {{cert_file: {cert}, key_file: {key}}}}}\n").web.tls
    assert web is not None
    assert (web.ca_file, web.cert_file, web.key_file) == (None, Path(cert), Path(key))
    assert _parse(f"{CAMERA}mqtt: {{tls: {{}}}}\n").mqtt.tls is None


def test_the_port_of_mqtt_over_tls_means_tls() -> None:
    """Port 8883 is registered for TLS: a broker with a certificate every machine knows needs no file for it."""
    assert _parse(f"{CAMERA}mqtt: {{port: 8883}}\n").mqtt.tls is not None
    assert _parse(f"{CAMERA}mqtt: {{port: 1883}}\n").mqtt.tls is None


@pytest.mark.parametrize(
    "text", ["0123", "on", "1e3", "0x1F", "2026-11-22", "1_000", "12:30:45", ".inf", "'null'", '"~"']
)
def test_words_stay_text(text: str) -> None:
    """A password that YAML would make a number, a date or a truth value of stays what was typed."""
    config = _parse(f"{CAMERA}web:\n  password: {text}\nmqtt: {{username: {text}}}\ndevice: {{name: {text}}}\n")
    typed = text.strip("'\"")
    assert config.web.password == Secret(typed)
    assert config.mqtt.username == config.device.name == typed


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda text: text.encode(), 3),
        (lambda text: b"\xef\xbb\xbf" + text.encode(), 3),
        (lambda text: text.replace("\n", "\r\n").encode(), 3),
        (lambda text: text.replace("\n", "\r").encode(), 3),
        (lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(), 3),
        (lambda text: b"\n\n" + text.encode(), 5),
        (lambda text: f"# Vordertür\n---\n{text}...\n".encode(), 5),
        (lambda text: text.encode() + b"\x1a", 3),
        (lambda text: text.replace("\n", "\r\n").encode() + b"\r\n\x1a\x1a\r\n", 3),
        (lambda text: b"\xff\xfe" + text.encode("utf-16-le"), 3),
        (lambda text: b"\xfe\xff" + text.replace("\n", "\r\n").encode("utf-16-be"), 3),
    ],
)
def test_files_of_other_editors(change: Callable[[str], bytes], line: int) -> None:
    """Marks, other line ends, the end of a DOS file, what Notepad calls Unicode: all taken, lines counted as shown."""
    text = f"{CAMERA}web:\n  port: %s\n"
    assert _parse(change(text % 8081)).web.port == 8081
    (fault,) = _refusal(change(text % 0)).faults
    assert (fault.path, fault.line) == ("web.port", line)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("web:\n\tport: 1\n", 2, "replace it, and every other one, by spaces"),
        ("web:\n  port: 1\n  \thost: x\n", 3, "by spaces"),
        ("web:\n  port: 1\n\n\t\n  host: x\n", 4, "by spaces"),
        ("web:\n  port:\t1\n", 2, "by spaces"),
        ("web: \n  port: 1\t\n", 2, "by spaces"),
        ("web:\r\n\tport: 1\r\n".encode("utf-16"), 2, "by spaces"),
        ("web:\n  port: 1\n".encode("utf-16-le"), None, "save it again, as UTF-8"),
        ("web:\n  port: 1\n".encode("utf-16-be"), None, "save it again, as UTF-8"),
        ("web:\n  port: 1\n".encode("utf-32"), None, "save it again, as UTF-8"),
        ("web:\n  port: 1\n".encode("utf-16")[:-1], None, "save it again, as UTF-8"),
        (b"web:\r\n  port: 1\r\ndevice: {name: T\xfcr}\r\n", 3, "save the file again, as UTF-8"),
        (b"web:\r  port: 1\rdevice: {name: T\xfcr}\r", 3, "save the file again, as UTF-8"),
        (b"web:\n  port: 1\n  host: \x07\n", 3, "delete them"),
        (b"web:\n  port: 1\n\x1a  host: x\n", 3, "delete them"),
        (b"web:\n  port: 1\n" + bytes(512), 3, "delete them"),
    ],
)
def test_what_an_editor_did_is_told_with_what_to_do(text: str | bytes, line: int | None, says: str) -> None:
    """A beginner knows neither YAML nor encodings: the fault names the line, and what mends it."""
    (fault,) = _refusal(text).faults
    assert fault.line == line
    assert says in fault.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"\xff\xfe\xfd", "UTF-8"),
        (CAMERA.encode() + b"device: {name: \xe9}", "UTF-8"),
        (CAMERA.encode() + b"device: {name: a\0b}", "UTF-8"),
        (CAMERA.encode() + b"\x1b[2J", "UTF-8"),
        (b"\x7fELF" + bytes(range(256)), "UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "UTF-8"),
        (b"x: " + b"[" * 30000, "nested too deeply"),
        (b"x: " + b"{a: " * 15000, "nested too deeply"),
        (b"- " * 30000, "nested too deeply"),
        (b"a: &a [x]\nb: *a\n", "alias"),
        (b"a: &a [*a]\n", "alias"),
        (b"a: !x y\n" + CAMERA.encode(), "tag"),
        (b"a: b\n---\nc: d\n", "not valid YAML"),
        (b"a: b: c\n", "not valid YAML"),
        (b"[]", "name: value"),
        (b"- a\n- b\n", "name: value"),
        (b"just words\n", "name: value"),
        (b"~\n", "name: value"),
        (CAMERA.encode().ljust(MAX_FILE_BYTES + 1, b"#"), "64 KiB"),
        (b"a" * 5_000_000, "64 KiB"),
    ],
)
def test_what_is_no_configuration(text: bytes, says: str) -> None:
    """A picture, a program, a bomb: told in a word what it is, in little time and memory."""
    assert says in str(_refusal(text))


def test_the_largest_file_is_taken() -> None:
    """64 KiB to the byte; it is one byte more that is refused."""
    assert _parse(CAMERA.encode().ljust(MAX_FILE_BYTES, b"#")) == _parse(CAMERA)


def test_python_is_never_made_from_yaml(tmp_path: Path) -> None:
    """A tag that asks PyYAML to run something gives text or a refusal; nothing is run."""
    witness = tmp_path / "witness"
    _refusal(f"{CAMERA}ffmpeg: !!python/object/apply:os.system ['touch {witness}']\n")
    _refusal(f"{CAMERA}device: {{name: !!python/object/new:os.system ['touch {witness}']}}\n")
    assert not witness.exists()


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text(st.characters(codec="utf-8"), max_size=200).map(str.encode))
def test_any_bytes_are_a_configuration_or_a_refusal(data: bytes) -> None:
    """Nothing but `ConfigError` ever comes out of a file, whatever is in it."""
    _refusal_or_none(data)
    _refusal_or_none(CAMERA.encode() + data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
TREES = st.dictionaries(
    st.sampled_from([path.partition(".")[0] for path in KEYS]) | st.text(max_size=8),
    VALUES
    | st.dictionaries(
        st.sampled_from([path.rpartition(".")[2] for path in KEYS] + ["tls", "discovery"]) | st.text(max_size=8), VALUES
    ),
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_any_tree_is_a_configuration_or_a_refusal(tree: dict[str, Any]) -> None:
    """Nothing but `ConfigError` ever comes out of any arrangement of known and unknown keys with any values."""
    error = _refusal_or_none(yaml.safe_dump(tree, allow_unicode=True))
    assert error is None or all(fault.message for fault in error.faults)


# --- secrets from files ---------------------------------------------------------------------------------------------

SECRET_FILES = ["source.password", "mqtt.password", "web.password", "destination.key"]


def _with_secret_file(path: str, file: Path) -> str:
    user = {"source.password": "\n  username: cam", "mqtt.password": "\n  username: cam"}.get(path, "")
    section, _, key = path.partition(".")
    camera = '\n  sd: "rtsp://h/a"' if section == "source" else ""
    return f"{'' if camera else CAMERA}{section}:{camera}{user}\n  {key}_file: {file}\n"


@pytest.mark.parametrize("path", SECRET_FILES)
@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"made-up", "made-up"),
        (b"made-up\n", "made-up"),
        (b"made-up\r\n", "made-up"),
        (b"\xef\xbb\xbfmade-up\n", "made-up"),
        (b"made-up\r\n\x1a", "made-up"),
        ("ключ\n".encode(), "ключ"),
        (b"0123\n", "0123"),
        (b"'quoted'\n", "'quoted'"),
        (b"!a &b *c\n", "!a &b *c"),
    ],
)
def test_a_secret_may_stand_in_a_file(path: str, content: bytes, secret: str, tmp_path: Path) -> None:
    """One line of text, as it is, without its line end; it is known to the redactor like any other."""
    (tmp_path / "secret").write_bytes(content)
    (tmp_path / "yiagent.yaml").write_text(_with_secret_file(path, tmp_path / "secret"))
    config = load_config(tmp_path / "yiagent.yaml")
    assert _at(config, path) == Secret(secret)
    assert Secret(secret) in [known for known, _ in config.secrets]


@pytest.mark.parametrize("path", SECRET_FILES)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "one line"),
        (b"\n\n", "one line"),
        (b"made-up\nsecond", "one line"),
        (b"made-up\0", "one line"),
        (b"made-up\xff", "UTF-8"),
        (b"made-up".ljust(MAX_SECRET_FILE_BYTES + 1, b"x"), "too large"),
        (None, "cannot be read: No such file"),
        ("folder", "cannot be read: Is a directory"),
    ],
)
def test_a_secret_file_that_is_none(path: str, content: bytes | str | None, says: str, tmp_path: Path) -> None:
    """What is no one line of text is refused at its key, and what stands in it is not repeated."""
    secret = tmp_path / "secret"
    if isinstance(content, bytes):
        secret.write_bytes(content)
    elif content is not None:
        secret.mkdir()
    (tmp_path / "yiagent.yaml").write_text(_with_secret_file(path, secret))
    with pytest.raises(ConfigError) as refused:
        load_config(tmp_path / "yiagent.yaml")
    (fault,) = refused.value.faults
    assert fault.path == f"{path}_file"
    assert says in fault.message
    assert "made-up" not in f"{refused.value} {refused.value!r}"


def test_a_key_from_a_file_is_checked_like_any_key() -> None:
    """A key that begins with a space or has 300 characters is refused from a file too."""
    text = f"{CAMERA}destination: {{key_file: x}}\n"
    for key in (" key", "k" * 300):
        (fault,) = _refusal(text, lambda _, key=key: key).faults  # type: ignore[misc]
        assert fault.path == "destination.key_file"
    assert _parse(text, lambda _: "good").destination.key == Secret("good")


@pytest.mark.parametrize("kind", ["missing", "folder", "closed folder"])
def test_a_file_that_cannot_be_read(kind: str, tmp_path: Path) -> None:
    """A configuration that cannot be opened is a refusal like any other, with the reason."""
    path = tmp_path / "yiagent.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "closed folder":
        path = tmp_path / "file" / "yiagent.yaml"
        path.parent.touch()
    with pytest.raises(ConfigError, match=r"cannot be read: .+"):
        load_config(path)


def test_a_tls_file_in_a_folder_that_is_shut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that the agent's user may not look at is a fault with a path, not an exception."""

    def shut(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The tests may run as root, whom no folder is shut to.
    monkeypatch.setattr(Path, "stat", shut)
    error = _refusal(f"{CAMERA}mqtt: {{tls: {{ca_file: /shut/ca.pem}}}}\n")
    assert [fault.path for fault in error.faults] == ["mqtt.tls.ca_file"]


# --- what the program asks of it ------------------------------------------------------------------------------------


def test_every_secret_is_known() -> None:
    """Whoever sets up the redactor gets each password with its user name, those inside URLs included."""
    config = _parse(
        'source: {sd: "rtsp://h/a", username: cam, password: one}\n'
        'destination: {server: "rtmp://user:two@h/app", key: three}\n'
        "mqtt: {username: me, password: four}\n"
        "web: {password: five}\n"
    )
    known = {secret.reveal(): user for secret, user in config.secrets}
    assert known == {"one": "cam", "two": "user", "three": None, "four": "me", "five": "yiagent"}
    for word in ("one", "three", "four", "five"):
        assert f"'{word}'" not in repr(config)


def test_a_cameras_password_in_its_url_is_known() -> None:
    """Also one that only the URL of one channel has, decoded."""
    config = _parse('source: {sd: "rtsp://cam:p%40ss@h/a", hd: "rtsp://root:word@h/b"}\n')
    assert {secret.reveal() for secret, _ in config.secrets} >= {"p@ss", "word"}
    assert "p@ss" not in repr(config)


@pytest.mark.parametrize(
    ("hostname", "device"),
    [
        ("front-door", "front-door"),
        ("Front_Door2", "Front_Door2"),
        ("front.door.example", "front-door-example"),
        ("vordertür", "vordert-r"),
        ("", "yiagent"),
        ("h" * 100, "h" * 64),
        ("a/b+c#d e", "a-b-c-d-e"),
    ],
)
def test_the_host_name_becomes_a_device(hostname: str, device: str) -> None:
    """The default device id is the host name in the alphabet of topics, 1 to 64 characters."""
    assert device_from_hostname(hostname) == device


@given(st.text())
def test_any_host_name_becomes_a_device_that_is_taken(hostname: str) -> None:
    """What a machine calls itself never makes a topic that the configuration would refuse."""
    device = device_from_hostname(hostname)
    assert _parse(f"{CAMERA}device: {{id: '{device}'}}\n").device.id == device
