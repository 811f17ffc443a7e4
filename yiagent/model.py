"""The nouns everything else speaks of: frozen dataclasses and closed sets. Pure; imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """What is so, as opposed to what the owner wants (`Snapshot.stream`)."""

    IDLE = "idle"
    STARTING = "starting"
    STREAMING = "streaming"
    STALLED = "stalled"
    BACKING_OFF = "backing_off"
    STOPPING = "stopping"
    FAILED = "failed"


class ReasonCode(StrEnum):
    """Why media is not leaving; the README says for each what to do about it."""

    SOURCE_UNREACHABLE = "source_unreachable"
    SOURCE_UNAUTHORIZED = "source_unauthorized"
    SOURCE_NOT_FOUND = "source_not_found"
    SOURCE_NO_VIDEO = "source_no_video"
    SOURCE_CODEC = "source_codec"
    SINK_UNREACHABLE = "sink_unreachable"
    SINK_DNS = "sink_dns"
    SINK_TLS = "sink_tls"
    SINK_REJECTED = "sink_rejected"
    SINK_CLOSED = "sink_closed"
    UPLINK_SLOW = "uplink_slow"
    STALLED = "stalled"
    OUT_OF_MEMORY = "out_of_memory"
    FFMPEG_MISSING = "ffmpeg_missing"
    FFMPEG_CRASHED = "ffmpeg_crashed"
    NOT_CONFIGURED = "not_configured"


class Channel(StrEnum):
    """Which of the camera's streams the owner asks for."""

    SD = "sd"
    HD = "hd"
    AUTO = "auto"


class Audio(StrEnum):
    """What becomes of the camera's sound on its way to the server."""

    AUTO = "auto"
    COPY = "copy"
    AAC = "aac"
    SILENT = "silent"
    NONE = "none"


class Transport(StrEnum):
    """How RTP comes from the camera: inside the RTSP connection, or beside it."""

    TCP = "tcp"
    UDP = "udp"


class DiscoveryFormat(StrEnum):
    """How Home Assistant is told of the entities: all in one message, or (before its 2024.11) one message each."""

    DEVICE = "device"
    ENTITY = "entity"


class Level(StrEnum):
    """Severity of a log line, mildest first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for the mildest."""
        return _LEVELS.index(self)


_LEVELS = tuple(Level)


class Origin(StrEnum):
    """Who said a log line."""

    AGENT = "agent"
    FFMPEG = "ffmpeg"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why media is not leaving, in words a camera's owner understands."""

    code: ReasonCode
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one launch of the remux ended or could not begin.

    `needs_person`: waiting does not mend it (a refused key, a wrong password), so it is retried slowly. `passes`: it
    ends by itself, nobody knows when, so the waits do not grow beyond some seconds.
    """

    reason: Reason
    needs_person: bool = False
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All there is to know of the stream at one moment; what the topic `state` carries.

    `since` and `retry_at` are wall-clock seconds since the epoch: for people to read, never to compute durations with.
    `server` is already masked: it holds no credentials.
    """

    stream: bool
    phase: Phase
    since: float
    channel: Channel
    active_channel: Channel | None
    server: str | None
    key_set: bool
    attempt: int
    retry_at: float | None
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of a running remux: counters since its launch.

    `frames` video frames, `total_bytes` handed to the output, `speed` media seconds per second over the whole run,
    `media_s` how much media was written. None: not yet known.
    """

    frames: int
    total_bytes: int
    fps: float | None
    speed: float | None
    dropped_frames: int
    media_s: float | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """What has left so far. `at` is monotonic seconds, of the last report; `launch` tells one child from the next."""

    launch: int
    at: float
    progress: Progress


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One sample. kbps is 1000 bit/s; what this machine cannot tell is None, never 0.

    `sent_bytes` counts since the agent started, over all launches; `streaming_s` since media last began to flow.
    """

    ts: float
    stream_kbps: float | None
    sent_bytes: int
    fps: float | None
    speed: float | None
    dropped_frames: int | None
    streaming_s: int
    tx_kbps: float | None
    rx_kbps: float | None
    interface: str | None
    cpu_percent: float | None
    memory_available_kb: int | None
    agent_rss_kb: int | None
    remux_rss_kb: int | None
    load_1m: float | None
    temperature_c: float | None
    uptime_s: int | None


@dataclass(frozen=True, slots=True)
class Picture:
    """What the camera showed at `ts`, wall-clock seconds, as a whole JPEG file."""

    jpeg: bytes
    ts: float


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the journal, already redacted. `seq` grows by one a line; `ts` is wall-clock seconds."""

    seq: int
    ts: float
    level: Level
    source: Origin
    message: str


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """Whether the broker has this agent. `message`: why not, for a person; None while connected or never tried."""

    connected: bool
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Info:
    """What this agent is; what the topic `info` carries. `ffmpeg` is None where none could be run."""

    device: str
    name: str
    agent: str
    ffmpeg: str | None
    python: str
    machine: str
    web: str | None
