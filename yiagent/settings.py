"""The configuration as the program uses it: checked, immutable, without a trace of YAML. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yiagent.model import Audio, Channel, DiscoveryFormat, Level, Transport
from yiagent.redact import Secret
from yiagent.topics import BIRTH
from yiagent.urls import Url, parse_server

# The page's user name; there is one user.
PAGE_USER: Final = "yiagent"
# What Home Assistant shows as maker and model of a camera whose owner has not said.
MANUFACTURER: Final = "yiagent"
MODEL: Final = "RTSP camera"


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """`mac`: as `aa:bb:cc:dd:ee:ff`; "" for none at all, None to find it."""

    id: str
    name: str
    manufacturer: str = MANUFACTURER
    model: str = MODEL
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """The camera. At least one of `hd` and `sd` is set; credentials stand here or in the URLs, not in both."""

    hd: Url | None
    sd: Url | None
    transport: Transport
    username: str | None
    password: Secret | None

    def url(self, channel: Channel) -> Url | None:
        """The camera's URL for `hd` or `sd`; None where it has none."""
        return self.hd if channel is Channel.HD else self.sd


@dataclass(frozen=True, slots=True)
class DestinationConfig:
    """Where the stream goes until a command says otherwise."""

    server: str | None
    key: Secret | None


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """What is streamed, and after how many seconds without media it is begun anew."""

    autostart: bool
    channel: Channel
    audio: Audio
    start_timeout_s: float
    stall_timeout_s: float


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Files for TLS. For MQTT: `ca_file` None means the machine's own authorities."""

    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """How Home Assistant is told of the camera. `latest`: the newest version of yiagent, as far as its owner says."""

    enabled: bool
    prefix: str
    format: DiscoveryFormat = DiscoveryFormat.DEVICE
    status_topic: str = BIRTH
    latest: str | None = None


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """The broker. `host` None: no broker at all. `tls` None: plain TCP."""

    host: str | None
    port: int
    username: str | None
    password: Secret | None
    tls: TlsConfig | None
    prefix: str
    keepalive_s: int
    discovery: DiscoveryConfig


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The page. `password` None: one is made. `tls` None: plain HTTP."""

    enabled: bool
    host: str
    port: int
    password: Secret | None
    tls: TlsConfig | None


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    """`interface` None: the one that carries the stream is found by itself."""

    interval_s: float
    interface: str | None


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, checked; immutable for the life of the agent."""

    device: DeviceConfig
    source: SourceConfig
    destination: DestinationConfig
    stream: StreamConfig
    mqtt: MqttConfig
    web: WebConfig
    telemetry: TelemetryConfig
    snapshot_enabled: bool
    log_level: Level
    state_dir: Path
    ffmpeg: str

    @property
    def secrets(self) -> list[tuple[Secret, str | None]]:
        """Every secret the file holds, each with the user name it goes with."""
        pairs: list[tuple[Secret | None, str | None]] = [
            (self.source.password, self.source.username),
            (self.destination.key, None),
            (self.mqtt.password, self.mqtt.username),
            (self.web.password, PAGE_USER),
        ]
        server = parse_server(self.destination.server) if self.destination.server is not None else None
        for url in (self.source.hd, self.source.sd, server):
            if url is not None:
                pairs += [(secret, url.username) for secret in url.secrets]
        return [(secret, user) for secret, user in pairs if secret]
