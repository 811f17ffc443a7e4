"""One who hears all cameras of a broker, as Home Assistant does: the fleet's independent witness."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from tests.bench import mqtt_packets as wire
from tests.peers.process import PeerError
from yiagent.topics import OFFLINE, ONLINE

ALL: Final = ("yiagent/#", "homeassistant/#")
PATIENCE_S: Final = 30.0
_AGAIN_S: Final = 0.02
_READ_BYTES: Final = 1 << 18


class Watch:
    """Hears all and keeps what it needs; connects again within 20 ms of the broker's coming back. A context manager.

    `online`: when each camera first said so (monotonic seconds), of those that nobody said `offline` of since.
    `offline`, `answers`: when the last of these came. `told`: on which topics there was an info, a state or an
    announcement, and `told_at` when on a new one. `samples`: how many came. All since `forget`.
    """

    def __init__(self, port: int, login: tuple[str, str]) -> None:
        self._port = port
        self._login = login
        self._stopping = False
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._lock = threading.Lock()
        self.hears = threading.Event()
        self.online: dict[str, float] = {}
        self.offline: dict[str, float] = {}
        self.answers: dict[str, float] = {}
        self.told: set[str] = set()
        self.told_at = 0.0
        self.samples = 0

    def forget(self) -> None:
        """Begin anew."""
        self.online, self.offline, self.answers, self.told, self.samples = {}, {}, {}, set(), 0

    def publish(self, topic: str, payload: str) -> None:
        """As Home Assistant commands."""
        with self._lock:
            if self._socket is None:
                raise PeerError("the watch is not connected")
            self._socket.sendall(wire.publish(topic, payload.encode()))

    def __enter__(self) -> Self:
        self._thread.start()
        if not self.hears.wait(PATIENCE_S):
            raise PeerError("the broker does not let the watch in")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    # --- its thread ---

    def _run(self) -> None:
        while not self._stopping:
            with suppress(OSError), open_as(self._port, self._login, "watch") as connection:
                self._socket = connection
                self._listen(connection)
            self._socket = None
            self.hears.clear()
            time.sleep(_AGAIN_S)

    def _listen(self, connection: socket.socket) -> None:
        reader = wire.Reader()
        pinged_at = time.monotonic()
        # Telemetry comes all the time, so a read that waits for it is no obstacle to the ping.
        connection.settimeout(1.0)
        while not self._stopping:
            if time.monotonic() - pinged_at > PATIENCE_S:
                pinged_at = time.monotonic()
                with self._lock:
                    connection.sendall(wire.PINGREQ_PACKET)
            try:
                data = connection.recv(_READ_BYTES)
            except TimeoutError:
                continue
            if not data:
                return
            now = time.monotonic()
            for packet in reader.feed(data):
                if packet.kind == wire.PUBLISH:
                    self._heard(packet, now)
                elif packet.kind == wire.SUBACK:
                    self.hears.set()

    def _heard(self, packet: wire.Packet, now: float) -> None:
        topic, payload, _ = packet.published()
        _, device, name = (*topic.split("/", 2), "")[:3]
        if name == "telemetry":
            self.samples += 1
        elif name == "availability" and payload == ONLINE.encode():
            self.online.setdefault(device, now)
        elif name == "availability" and payload == OFFLINE.encode():
            self.online.pop(device, None)
            self.offline[device] = now
        elif name == "response":
            self.answers[device] = now
        elif payload and topic not in self.told and topic.endswith(("/info", "/state", "/config")):
            self.told.add(topic)
            self.told_at = now


def retained(port: int, login: tuple[str, str], filters: tuple[str, ...] = ALL) -> dict[str, bytes]:
    """All that a broker sends to one who comes now, as to Home Assistant: at QoS 0."""
    found: dict[str, bytes] = {}
    with open_as(port, login, "late", filters) as connection:
        connection.settimeout(PATIENCE_S)
        # Its answer stands behind all that was kept.
        connection.sendall(wire.PINGREQ_PACKET)
        reader = wire.Reader()
        while data := connection.recv(_READ_BYTES):
            for packet in reader.feed(data):
                if packet.kind == wire.PUBLISH:
                    topic, payload, kept = packet.published()
                    if kept:
                        found[topic] = payload
                elif packet.kind == wire.PINGRESP:
                    return found
    raise PeerError("the broker closed the connection")


def open_as(port: int, login: tuple[str, str], name: str, filters: tuple[str, ...] = ALL) -> socket.socket:
    """A connection that has introduced itself and subscribed; whatever the answers are."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(
        wire.connect(
            f"bench-{name}",
            mqtt5=True,
            keepalive_s=60,
            longest_bytes=1 << 24,
            will=("bench/gone", ""),
            login=login,
        )
        + b"".join(wire.subscribe(mid, one, replays=True) for mid, one in enumerate(filters, start=1))
    )
    return connection
