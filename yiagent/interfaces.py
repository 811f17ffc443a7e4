"""This machine's network interfaces: which one leads out, and by which address a browser finds this machine."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

import psutil

_ROUTES: Final = Path("/proc/net/route")
_LOOPBACK: Final = "127.0.0.1"
# What stands in web.host for every address of the machine.
ANY_ADDRESS: Final = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound to


def interface_of_default_route() -> str | None:
    """The interface that leads out; None where none does. Raises `OSError` where the kernel does not tell."""
    for line in _ROUTES.read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) > 2 and fields[1] == "00000000":
            return fields[0]
    return None


def is_own_name(name: str) -> bool:
    """Whether the house's own resolver says that `name`, one without a dot, is this machine. Blocks for seconds."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
        own = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    except (OSError, UnicodeError, psutil.Error, RuntimeError):
        return False
    return bool(found & own)


def own_address() -> str:
    """The IPv4 address by which others reach this machine: the one on the way out, else any, else the loopback's."""
    try:
        addresses = {
            name: [entry.address for entry in entries if entry.family == socket.AF_INET]
            for name, entries in psutil.net_if_addrs().items()
        }
    except (OSError, psutil.Error, RuntimeError):
        return _LOOPBACK
    try:
        out = interface_of_default_route()
    except OSError:
        out = None
    every = [address for found in addresses.values() for address in found]
    # An interface that is still waiting for its address has 0.0.0.0.
    reachable = [address for address in every if not address.startswith(("127.", "0."))]
    on_the_way_out = [address for address in addresses.get(out or "", []) if address in reachable]
    return next(iter([*on_the_way_out, *reachable]), _LOOPBACK)
