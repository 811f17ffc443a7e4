"""As much MQTT as a simulated camera speaks: packets as bytes, byte for byte what paho makes of the agent's wishes.

By the standard (OASIS, MQTT Version 5.0, sections 2 and 3). Pure; tests/test_bench_fleet.py holds it against the agent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
SUBACK: Final = 9
PINGRESP: Final = 13
PINGREQ_PACKET: Final = b"\xc0\x00"
DISCONNECT_311_PACKET: Final = b"\xe0\x00"
_MAXIMUM_PACKET_SIZE: Final = b"\x27"
_NOTHING: Final = b"\x00"
# QoS 1, and with MQTT 5 without what is retained (retain handling 2).
_AT_LEAST_ONCE: Final = b"\x01"
_WITHOUT_RETAINED: Final = b"\x21"


def packet(first: int, body: bytes) -> bytes:
    """A whole packet: its type with flags, its length, the rest."""
    length = bytearray()
    left = len(body)
    while True:
        left, digit = divmod(left, 128)
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes([first]) + length + body


def text(value: str) -> bytes:
    """A string as the protocol writes it."""
    data = value.encode()
    return len(data).to_bytes(2) + data


def connect(
    client_id: str,
    *,
    mqtt5: bool,
    keepalive_s: int,
    longest_bytes: int,
    will: tuple[str, str],
    login: tuple[str, str] | None,
) -> bytes:
    """CONNECT with a clean start and a retained last will at QoS 1; `longest_bytes` is told in MQTT 5 alone."""
    # Clean start; will, at QoS 1, retained; user name and password.
    flags = 0x02 | 0x04 | 0x08 | 0x20 | (0xC0 if login is not None else 0)
    head = text("MQTT") + bytes([5 if mqtt5 else 4, flags]) + keepalive_s.to_bytes(2)
    properties = _MAXIMUM_PACKET_SIZE + longest_bytes.to_bytes(4)
    head += bytes([len(properties)]) + properties if mqtt5 else b""
    body = text(client_id) + (_NOTHING if mqtt5 else b"") + text(will[0]) + text(will[1])
    return packet(0x10, head + body + b"".join(map(text, login or ())))


def subscribe(mid: int, topic: str, *, replays: bool = False) -> bytes:
    """SUBSCRIBE by MQTT 5. `replays`: as a listener does, at QoS 0 and with what is retained; else as the agent."""
    return packet(0x82, mid.to_bytes(2) + _NOTHING + text(topic) + (_NOTHING if replays else _WITHOUT_RETAINED))


def publish(topic: str, payload: bytes, *, mid: int = 0, retain: bool = False) -> bytes:
    """PUBLISH by MQTT 5; at QoS 1 with a `mid`, else at QoS 0."""
    head = text(topic) + (mid.to_bytes(2) if mid else b"") + _NOTHING
    return packet(0x30 | (0x02 if mid else 0) | (0x01 if retain else 0), head + payload)


@dataclass(frozen=True, slots=True)
class Packet:
    """One that came. `first`: its type with flags."""

    first: int
    body: bytes

    @property
    def kind(self) -> int:
        """Its type."""
        return self.first >> 4

    @property
    def accepts(self) -> bool:
        """Of a CONNACK: whether the broker lets the client in."""
        return self.body[1] == 0

    @property
    def mid(self) -> int:
        """Of a PUBACK or SUBACK: what it acknowledges."""
        return int.from_bytes(self.body[:2])

    def published(self) -> tuple[str, bytes, bool]:
        """Of a PUBLISH by MQTT 5: topic, payload, and whether it was kept from before. Properties are skipped."""
        end = 2 + int.from_bytes(self.body[:2])
        topic = self.body[2:end].decode()
        if self.first & 0x06:
            end += 2
        length, end = _variable(self.body, end)
        return topic, self.body[end + length :], bool(self.first & 0x01)


class Reader:
    """Cuts what comes into packets."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """All packets that are whole by now."""
        self._data += data
        position = 0
        try:
            while True:
                length, begin = _variable(self._data, position + 1)
                if begin + length > len(self._data):
                    break
                yield Packet(self._data[position], bytes(self._data[begin : begin + length]))
                position = begin + length
        except IndexError:
            # The length itself is not whole yet.
            pass
        finally:
            del self._data[:position]


def _variable(data: bytes | bytearray, position: int) -> tuple[int, int]:
    """A number of variable length, and where it ends; IndexError where it is cut off."""
    value = shift = 0
    while True:
        digit = data[position]
        position += 1
        value |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return value, position
