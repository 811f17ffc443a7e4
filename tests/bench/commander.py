"""Who sends a command, and the moment when any subscriber has it: the least MQTT client there can be."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.bench.mqtt_packets import packet, text
from tests.peers.process import PeerError

TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Sent:
    """When a command left, and when its sender had it back as one of its subscribers; `time.monotonic()`."""

    at_s: float
    heard_s: float


class Commander:
    """Publishes on one topic, to which it is subscribed itself; a context manager.

    Bare bytes of MQTT 3.1.1 at QoS 0, for a client library's own work would stand in the figures: 0.3 ms of paho's.
    """

    def __init__(self, port: int, topic: str) -> None:
        self._port = port
        self._topic = topic

    def send(self, payload: str) -> Sent:
        """Publish, and return when the broker has given it out."""
        publication = publish_packet(self._topic, payload)
        at_s = time.monotonic()
        self._socket.sendall(publication)
        # A publication at QoS 0 comes back byte for byte.
        self._expect(publication)
        return Sent(at_s, time.monotonic())

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(("127.0.0.1", self._port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Level 4, a clean session, no keepalive, and a client id that the broker makes up.
        self._socket.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text("")))
        self._expect(bytes.fromhex("20020000"))
        self._socket.sendall(packet(0x82, b"\x00\x01" + text(self._topic) + b"\x00"))
        self._expect(bytes.fromhex("9003000100"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _expect(self, expected: bytes) -> None:
        received = b""
        while len(received) < len(expected) and (more := self._socket.recv(len(expected) - len(received))):
            received += more
        if received != expected:
            raise PeerError(f"the broker sent {received.hex()} instead of {expected.hex()}")


def publish_packet(topic: str, payload: str) -> bytes:
    """A publication at QoS 0, not retained, by MQTT 3.1.1."""
    return packet(0x30, text(topic) + payload.encode())
