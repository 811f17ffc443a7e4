"""Samples of the machine and the stream, by psutil; what this machine cannot tell is None, never 0."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final, TypeVar

import psutil

from yiagent.interfaces import interface_of_default_route
from yiagent.memory import memory_available_kb
from yiagent.model import Flow, Telemetry

# ffmpeg reports twice a second; with none for this long, nothing has left since the last one.
REPORT_OVERDUE_S: Final = 2.0
_LOOPBACK: Final = "lo"

T = TypeVar("T")


class Vitals:
    """Measures between one sample and the next, by the monotonic clock.

    `interface`: the network interface to watch; None: the one that carries the stream, found by itself.
    """

    def __init__(self, interface: str | None) -> None:
        self._fixed_interface = interface
        self._agent = psutil.Process()
        self._flow: Flow | None = None
        self._stream_kbps = 0.0
        self._network: tuple[str, float, int, int] | None = None
        self._stream_interface: tuple[int, str | None] = (0, None)
        # The first call only sets the mark from which the next one measures.
        _try(lambda: psutil.cpu_percent(interval=None))

    def sample(self, *, flow: Flow | None, sent_bytes: int, streaming_s: int, child_pid: int | None) -> Telemetry:
        """One sample. `flow` is the last report of the running remux, `child_pid` its process; None where none runs."""
        now = time.monotonic()
        interface = self._interface(flow, child_pid)
        tx_kbps, rx_kbps = self._network_kbps(interface, now)
        progress = flow.progress if flow is not None else None
        return Telemetry(
            ts=time.time(),
            stream_kbps=self._measure_stream(flow, now),
            sent_bytes=sent_bytes,
            fps=progress.fps if progress is not None else None,
            speed=progress.speed if progress is not None else None,
            dropped_frames=progress.dropped_frames if progress is not None else None,
            streaming_s=streaming_s,
            tx_kbps=tx_kbps,
            rx_kbps=rx_kbps,
            interface=interface,
            cpu_percent=_try(lambda: psutil.cpu_percent(interval=None)),
            memory_available_kb=memory_available_kb(),
            agent_rss_kb=_try(lambda: self._agent.memory_info().rss // 1024),
            remux_rss_kb=_try(lambda: psutil.Process(child_pid).memory_info().rss // 1024) if child_pid else None,
            load_1m=_try(lambda: round(psutil.getloadavg()[0], 2)),
            temperature_c=_temperature(),
            # Counts through a jump of the clock, unlike the boot time that psutil gives.
            uptime_s=_try(lambda: int(time.clock_gettime(time.CLOCK_BOOTTIME))),
        )

    def _measure_stream(self, flow: Flow | None, now: float) -> float:
        """kbit/s handed to the server since the last sample, between reports rather than between samples."""
        last, self._flow = self._flow, flow
        if flow is None or last is None or last.launch != flow.launch:
            self._stream_kbps = 0.0
        elif flow.at > last.at:
            bits = (flow.progress.total_bytes - last.progress.total_bytes) * 8
            self._stream_kbps = round(max(0, bits) / 1000 / (flow.at - last.at), 1)
        elif now - flow.at > REPORT_OVERDUE_S:
            self._stream_kbps = 0.0
        return self._stream_kbps

    def _network_kbps(self, interface: str | None, now: float) -> tuple[float | None, float | None]:
        counters = _try(lambda: psutil.net_io_counters(pernic=True).get(interface)) if interface is not None else None
        if interface is None or counters is None:
            self._network = None
            return None, None
        last, self._network = self._network, (interface, now, counters.bytes_sent, counters.bytes_recv)
        if last is None or last[0] != interface or now <= last[1]:
            return None, None
        seconds = now - last[1]
        # 32-bit counters of old kernels wrap; one sample is then unknown rather than wrong.
        sent, received = counters.bytes_sent - last[2], counters.bytes_recv - last[3]
        return (
            round(sent * 8 / 1000 / seconds, 1) if sent >= 0 else None,
            round(received * 8 / 1000 / seconds, 1) if received >= 0 else None,
        )

    def _interface(self, flow: Flow | None, child_pid: int | None) -> str | None:
        if self._fixed_interface is not None:
            return self._fixed_interface
        if flow is not None and child_pid is not None:
            if self._stream_interface[0] != flow.launch:
                self._stream_interface = flow.launch, _try(lambda: _interface_of_stream(child_pid))
            if self._stream_interface[1] is not None:
                return self._stream_interface[1]
        return _try(interface_of_default_route)


def _interface_of_stream(pid: int) -> str | None:
    """The interface of the child's connection to its server.

    The child has two: the camera's carries data in, the server's carries it out. Where both use one interface, as on
    any machine with one network card, there is no question; else the one to the address that is not the camera's wins:
    ffmpeg opens the camera first, so the server's has the higher descriptor.
    """
    connections = [
        connection
        for connection in psutil.Process(pid).net_connections(kind="tcp")
        if connection.status == psutil.CONN_ESTABLISHED and connection.raddr
    ]
    if not connections:
        return None
    stream = max(connections, key=lambda connection: connection.fd)
    names = {
        address.address.partition("%")[0]: name
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    }
    remote = stream.raddr.ip.removeprefix("::ffff:")
    if remote in names:
        # A server on this very machine: the kernel sends it through the loopback, whatever address it has.
        return _LOOPBACK
    return names.get(stream.laddr.ip.removeprefix("::ffff:"))


def _temperature() -> float | None:
    def hottest() -> float | None:
        sensors = psutil.sensors_temperatures()
        return max((entry.current for entries in sensors.values() for entry in entries), default=None)

    value = _try(hottest)
    return round(value, 1) if value is not None else None


def _try(read: Callable[[], T]) -> T | None:
    """What `read` gives, or None: a camera's kernel lacks files that psutil takes for granted."""
    try:
        return read()
    except (OSError, psutil.Error, ValueError, KeyError, IndexError, AttributeError, NotImplementedError, RuntimeError):
        return None
