"""The cameras of the fleet: what each is configured as and what it has to say, real or simulated."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

from yiagent import __version__
from yiagent.config import parse_config
from yiagent.model import Channel, Info, Phase, Snapshot, Telemetry
from yiagent.settings import Config
from yiagent.vitals import Vitals

INTERVAL_S = 5.0
# A user of the broker each, as config/mosquitto.acl wants it; all with one password.
PASSWORD = "fleet-secret"
NO_DISCOVERY = "none"
SINCE = 1_790_000_000.0


@dataclass(frozen=True)
class Part:
    """A part of the fleet: cameras `first`, `first` + 1 … on the broker at `port`, `discovery` as its format or "none".

    `spread_s`: they start one after the other over so long.
    """

    port: int
    first: int
    count: int
    discovery: str = "device"
    spread_s: float = INTERVAL_S

    @classmethod
    def of_arguments(cls) -> Part:
        """As this process was started for."""
        port, first, count, discovery, spread_s = sys.argv[1:]
        return cls(int(port), int(first), int(count), discovery, float(spread_s))

    def arguments(self) -> list[str]:
        """To start a process for it."""
        return [str(value) for value in (self.port, self.first, self.count, self.discovery, self.spread_s)]

    def numbers(self) -> range:
        """Of all its cameras."""
        return range(self.first, self.first + self.count)


def device_of(number: int) -> str:
    """The camera's id, and its user at the broker."""
    return f"cam-{number:04}"


@cache
def _config(port: int, discovery: str) -> Config:
    tree = {
        "device": {"id": device_of(0), "name": "Camera 0000", "mac": "0c:8c:24:00:00:00"},
        "source": {"hd": "rtsp://127.0.0.1/ch0_0.h264", "sd": "rtsp://127.0.0.1/ch0_1.h264"},
        "mqtt": {
            "host": "127.0.0.1",
            "port": port,
            "username": device_of(0),
            "password": PASSWORD,
            "discovery": {"enabled": False} if discovery == NO_DISCOVERY else {"format": discovery},
        },
    }
    return parse_config(yaml.safe_dump(tree).encode(), hostname="camera", read_secret=Path.read_text)


def config_of(number: int, part: Part, folder: Path) -> Config:
    """As its owner would have written it; the camera is the machine itself."""
    config = _config(part.port, part.discovery)
    device = device_of(number)
    mac = f"0c:8c:24:00:{number >> 8:02x}:{number & 255:02x}"
    return replace(
        config,
        device=replace(config.device, id=device, name=f"Camera {number:04}", mac=mac),
        mqtt=replace(config.mqtt, username=device),
        state_dir=folder / device,
    )


def info_of(config: Config) -> Info:
    """What it is."""
    return Info(
        device=config.device.id,
        name=config.device.name,
        agent=__version__,
        ffmpeg="5.1.6",
        python=platform.python_version(),
        machine=platform.machine(),
        web="http://192.0.2.100:8080/",
    )


def snapshot_of(number: int) -> Snapshot:
    """It is on air."""
    return Snapshot(
        stream=True,
        phase=Phase.STREAMING,
        since=SINCE + number,
        channel=Channel.AUTO,
        active_channel=Channel.HD,
        server="rtmps://a.rtmps.youtube.com/live2",
        key_set=True,
        attempt=0,
        retry_at=None,
        reason=None,
    )


def sample() -> Telemetry:
    """This machine's own, with a stream's figures."""
    vitals = Vitals("lo")
    found = vitals.sample(flow=None, sent_bytes=48_211_034, streaming_s=631, child_pid=None)
    return replace(
        found,
        stream_kbps=612.4,
        fps=15.0,
        speed=1.0,
        dropped_frames=0,
        tx_kbps=655.1,
        rx_kbps=12.0,
        remux_rss_kb=7300,
        cpu_percent=31.0,
    )
