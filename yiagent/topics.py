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
# Where Home Assistant says that it is there; its own default, whatever its discovery prefix.
BIRTH: Final = "homeassistant/status"


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
    def latest(self) -> str:
        """Where the owner keeps the newest version of yiagent, for all devices below the prefix."""
        return f"{self.root.rpartition('/')[0]}/latest"

    @property
    def retained(self) -> tuple[str, ...]:
        """All that a broker keeps of this device."""
        return self.availability, self.info, self.state, self.snapshot

    @property
    def any_command(self) -> str:
        """Every `…/set`, also those that do not exist: a mistyped command is answered, not swallowed."""
        return f"{self.root}/+{_SET}"

    def command_topic(self, command: str) -> str:
        """The whole topic of a command such as `stream/set`."""
        return f"{self.root}/{command}"

    def command(self, topic: str) -> str | None:
        """`stream/set` for this device's topic of that command; None for any other topic."""
        name = topic.removeprefix(f"{self.root}/")
        return name if name != topic and name.endswith(_SET) else None

    def is_ours(self, topic: str) -> bool:
        """Whether `topic` lies below this device's root."""
        return topic == self.root or topic.startswith(f"{self.root}/")


@dataclass(frozen=True, slots=True)
class DiscoveryTopics:
    """Where one device is announced to Home Assistant; `prefix` is its discovery prefix."""

    prefix: str
    device: str

    @property
    def camera(self) -> str:
        """The camera with all its entities, in one message."""
        return f"{self.prefix}/device/{self.device}/config"

    @property
    def machine(self) -> str:
        """The machine beside the camera that the agent runs on."""
        return f"{self.prefix}/device/{self.device}/machine/config"

    def entity(self, platform: str, component: str) -> str:
        """One entity alone, for a Home Assistant before 2024.11."""
        return f"{self.prefix}/{platform}/{self.device}/{component}/config"

    def is_ours(self, topic: str) -> bool:
        """Whether this device is announced at `topic`, in whichever form."""
        place = topic.removeprefix(f"{self.prefix}/")
        return place != topic and place.split("/")[1:2] == [self.device]
