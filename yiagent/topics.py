"""The wire names of the MQTT contract, schema 1. Pure; no topic string lives anywhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ONLINE: Final = "online"
OFFLINE: Final = "offline"
_SET: Final = "/set"
# The commands, without root.
STREAM_SET: Final = "stream/set"
URL_SET: Final = "url/set"
SERVER_SET: Final = "server/set"
KEY_SET: Final = "key/set"
CHANNEL_SET: Final = "channel/set"
RESTART_SET: Final = "restart/set"
SNAPSHOT_SET: Final = "snapshot/set"
_REQUEST: Final = "request"


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic of one device; `root` is `<prefix>/<device>`."""

    root: str

    @classmethod
    def of(cls, prefix: str, device: str) -> Topics:
        """The topics below `prefix` for `device`."""
        return cls(f"{prefix}/{device}")

    @property
    def availability(self) -> str:
        return f"{self.root}/availability"

    @property
    def info(self) -> str:
        return f"{self.root}/info"

    @property
    def state(self) -> str:
        return f"{self.root}/state"

    @property
    def telemetry(self) -> str:
        return f"{self.root}/telemetry"

    @property
    def log(self) -> str:
        return f"{self.root}/log"

    @property
    def snapshot(self) -> str:
        return f"{self.root}/snapshot"

    @property
    def response(self) -> str:
        return f"{self.root}/response"

    @property
    def request(self) -> str:
        return f"{self.root}/{_REQUEST}"

    @property
    def any_command(self) -> str:
        """Every `…/set`, also those that do not exist: a mistyped command is answered, not swallowed."""
        return f"{self.root}/+{_SET}"

    def command(self, topic: str) -> str | None:
        """`stream/set` for this device's topic of that command; None for any other topic."""
        name = topic.removeprefix(f"{self.root}/")
        return name if name != topic and name.endswith(_SET) else None

    def is_ours(self, topic: str) -> bool:
        """Whether `topic` lies below this device's root."""
        return topic == self.root or topic.startswith(f"{self.root}/")
