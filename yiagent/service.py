"""What the agent tells the service manager (systemd's notify protocol), so that a hung agent is restarted.

Source: sd_notify(3) and sd_watchdog_enabled(3): datagrams such as `READY=1` to the socket named in NOTIFY_SOCKET.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class ServiceManager:
    """The service manager that started this process, if one did and wants to know; else every call does nothing."""

    def __init__(self, environment: Mapping[str, str] | None = None, pid: int | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_period_s = _watchdog_period_s(environment, os.getpid() if pid is None else pid)
        """How often it wants a sign of life; None: not at all."""

    def ready(self) -> None:
        """Everything is up."""
        self._tell("READY=1")

    def alive(self) -> None:
        """The supervisor's loop turns."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """The end has begun, by wish."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if self._address is None:
            return
        # Whether it hears or not, the stream goes on.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.setblocking(False)
            to.sendto(message.encode(), self._address)


def _address(name: str) -> str | None:
    if name.startswith("/"):
        return name
    # A leading @ stands for the NUL of an abstract address.
    return f"\0{name[1:]}" if name.startswith("@") else None


def _watchdog_period_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Half of what it allows, as it recommends."""
    try:
        period_s = int(environment["WATCHDOG_USEC"]) / 1e6 / 2
        meant_for = int(environment.get("WATCHDOG_PID", pid))
    except (KeyError, ValueError):
        return None
    return period_s if period_s > 0 and meant_for == pid else None
