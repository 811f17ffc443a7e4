"""What a live camera sends: clips played against a clock, to sinks inside RTSP connections or beside them."""

import asyncio
import random
import struct
import time
from typing import Protocol

from tests.peers.media import Clip
from tests.peers.ports import free_port_pair

SENDER_REPORT_INTERVAL_S = 5.0
# A frozen and thawed process skips the media it slept through instead of sending it in a burst.
MAX_LAG_S = 0.5
# About two seconds of HD: a client that reads slower than that loses packets, as with a real camera.
MAX_UNSENT_BYTES = 256 * 1024
NTP_EPOCH_OFFSET_S = 2_208_988_800


class Sink(Protocol):
    """Where one client gets one track."""

    def send_rtp(self, packets: list[bytes]) -> None:
        """Send the packets of one access unit."""

    def send_rtcp(self, packet: bytes) -> None:
        """Send one compound RTCP packet."""


class Clock:
    """The camera's clock, common to all its tracks, so that picture and sound of any two of them agree.

    `ahead_s`: what it shows at first.
    """

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.began_s = time.monotonic() - ahead_s

    def now_s(self) -> float:
        """Seconds since the camera was switched on."""
        return time.monotonic() - self.began_s


class Track:
    """A clip that plays for ever against the clock, to whoever listens."""

    def __init__(self, clip: Clip, clock: Clock) -> None:
        self.clip = clip
        self.frozen = False
        self.flows = asyncio.Event()
        self.sinks: set[Sink] = set()
        self.sequence = random.randrange(1 << 16)
        self._clock = clock
        self._ssrc = random.randrange(1 << 32)
        self._first_timestamp = random.randrange(1 << 32)
        self._sent_packets = 0
        self._sent_bytes = 0

    async def play(self) -> None:
        """Send unit after unit, each at its time; runs until cancelled."""
        unit_s = self.clip.ticks_per_unit / self.clip.clock_hz
        number = int(self._clock.now_s() / unit_s)
        next_report_s = 0.0
        while True:
            lag_s = self._clock.now_s() - number * unit_s
            if lag_s < 0:
                await asyncio.sleep(-lag_s)
            elif lag_s > MAX_LAG_S:
                number = int(self._clock.now_s() / unit_s)
            if not self.frozen:
                self._send(number)
                self.flows.set()
                if self._clock.now_s() >= next_report_s:
                    next_report_s = self._clock.now_s() + SENDER_REPORT_INTERVAL_S
                    for sink in self.sinks:
                        sink.send_rtcp(self.sender_report())
            number += 1

    @property
    def timestamp(self) -> int:
        """The RTP timestamp of this moment."""
        return (self._first_timestamp + int(self._clock.now_s() * self.clip.clock_hz)) % (1 << 32)

    def sender_report(self) -> bytes:
        """Give the RTCP that ties RTP timestamps to the time of day, with the CNAME that must go along with it."""
        ntp = int((time.time() + NTP_EPOCH_OFFSET_S) * (1 << 32))
        report = struct.pack(
            ">BBHIQIII",
            *(0x80, 200, 6, self._ssrc, ntp, self.timestamp),
            *(self._sent_packets % (1 << 32), self._sent_bytes % (1 << 32)),
        )
        name = b"\x01\x06camera\x00\x00\x00\x00"
        return report + struct.pack(">BBHI", 0x81, 202, 1 + len(name) // 4, self._ssrc) + name

    def _send(self, number: int) -> None:
        if not self.sinks:
            return
        payloads = self.clip.units[number % len(self.clip.units)]
        timestamp = (self._first_timestamp + number * self.clip.ticks_per_unit) % (1 << 32)
        packets: list[bytes] = []
        for payload in payloads:
            is_last = len(packets) == len(payloads) - 1
            marker = 0x80 if is_last and self.clip.ends_units_with_marker else 0
            header = struct.pack(">BBHII", 0x80, marker | self.clip.payload_type, self.sequence, timestamp, self._ssrc)
            packets.append(header + payload)
            self.sequence = (self.sequence + 1) % (1 << 16)
            self._sent_packets += 1
            self._sent_bytes += len(payload)
        for sink in self.sinks:
            sink.send_rtp(packets)


class InterleavedSink:
    """A track inside a client's RTSP connection."""

    def __init__(self, transport: asyncio.WriteTransport, rtp_channel: int, rtcp_channel: int) -> None:
        self._transport = transport
        self._rtp_channel = rtp_channel
        self._rtcp_channel = rtcp_channel

    def send_rtp(self, packets: list[bytes]) -> None:
        """Send all packets, or none to a client that does not keep up."""
        self._send(self._rtp_channel, packets)

    def send_rtcp(self, packet: bytes) -> None:
        """Send a report."""
        self._send(self._rtcp_channel, [packet])

    def _send(self, channel: int, packets: list[bytes]) -> None:
        if self._transport.is_closing() or self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            return
        self._transport.write(b"".join(struct.pack(">cBH", b"$", channel, len(packet)) + packet for packet in packets))


class UdpSink:
    """A track in datagrams to a client's two ports."""

    def __init__(self, ports: "UdpPorts", host: str, rtp_port: int, rtcp_port: int) -> None:
        self._ports = ports
        self._rtp_address = (host, rtp_port)
        self._rtcp_address = (host, rtcp_port)

    def send_rtp(self, packets: list[bytes]) -> None:
        """Send all packets but those that are to be lost."""
        for packet in packets:
            if random.random() >= self._ports.lost_share:
                self._ports.rtp.sendto(packet, self._rtp_address)

    def send_rtcp(self, packet: bytes) -> None:
        """Send a report."""
        self._ports.rtcp.sendto(packet, self._rtcp_address)


class UdpPorts:
    """The pair of UDP ports that the camera sends from; what clients send to it is ignored."""

    rtp: asyncio.DatagramTransport
    rtcp: asyncio.DatagramTransport

    def __init__(self) -> None:
        self.numbers = free_port_pair()
        self.lost_share = 0.0

    async def open(self, host: str) -> None:
        """Bind both ports."""
        loop = asyncio.get_running_loop()
        self.rtp, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (host, self.numbers[0]))
        self.rtcp, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (host, self.numbers[1]))
