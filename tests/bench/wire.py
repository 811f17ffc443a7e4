"""What the kernel holds of connections: written by one end and not yet read by the other."""

from __future__ import annotations

from pathlib import Path

import psutil


def ports_of(processes: list[psutil.Process]) -> set[int]:
    """The processes' own ends of their connections; whoever has ended has none."""
    ports: set[int] = set()
    for process in processes:
        try:
            ports |= {connection.laddr.port for connection in process.net_connections("tcp4") if connection.raddr}
        except psutil.NoSuchProcess:
            continue
    return ports


def on_the_way(ports: set[int]) -> int:
    """Bytes held in connections of these ports, either way and at either end; both ends are on this machine.

    A connection keeps its bytes when the process that wrote them is gone.
    """
    held = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if ports & {int(address.partition(":")[2], 16) for address in (local, remote)}:
            held += sum(int(number, 16) for number in queues.split(":"))
    return held
