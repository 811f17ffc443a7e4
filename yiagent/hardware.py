"""Which machine this is: its network addresses, an id that stays, and whether the camera is this very machine."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Final

import psutil

from yiagent.interfaces import interface_of_default_route

_INTERFACES: Final = Path("/sys/class/net")
_MACHINE_IDS: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_NO_MAC: Final = "00:00:00:00:00:00"
_LOCAL_BIT: Final = 0x02


def own_macs() -> list[str]:
    """The hardware addresses of this machine, `aa:bb:cc:dd:ee:ff`, that of the way out first.

    Those of real interfaces, where the kernel tells which are real: virtual ones come and go with new addresses.
    """
    try:
        found = {
            name: entry.address.lower()
            for name, entries in psutil.net_if_addrs().items()
            for entry in entries
            if entry.family == psutil.AF_LINK and entry.address != _NO_MAC and len(entry.address) == len(_NO_MAC)
        }
        out = interface_of_default_route()
    except (OSError, psutil.Error, RuntimeError):
        return []
    names = sorted(found, key=lambda name: (name != out, name))
    real = [name for name in names if (_INTERFACES / name / "device").exists()]
    given = [name for name in names if not int(found[name][:2], 16) & _LOCAL_BIT]
    return list(dict.fromkeys(found[name] for name in real or given or names))


def machine_id() -> str:
    """A short id that stays for the life of an installation and is no secret: of the system's own, else of its name."""
    for path in _MACHINE_IDS:
        try:
            text = path.read_text(errors="replace").strip()
        except OSError:
            continue
        if text:
            break
    else:
        text = next(iter(own_macs()), socket.gethostname())
    # systemd asks that its id be shown to nobody as it is.
    return hashlib.sha256(f"yiagent {text}".encode()).hexdigest()[:12]


def machine_name() -> str:
    """What people call this machine, as far as it has been given a name."""
    name = socket.gethostname()
    # What Linux says of one that has none.
    return name if name not in ("", "(none)", "localhost") else "Machine beside a camera"


def is_this_machine(host: str) -> bool:
    """Whether a URL's host is this machine by what is written there; asks no resolver."""
    name = host.lower().rstrip(".")
    if name in ("localhost", "::1", socket.gethostname().lower()) or name.startswith("127."):
        return True
    try:
        entries = [entry for entries in psutil.net_if_addrs().values() for entry in entries]
    except (OSError, psutil.Error, RuntimeError):
        return False
    return name in {entry.address.partition("%")[0].lower() for entry in entries}


def claim(name: str) -> socket.socket | None:
    """Be the only process of this machine that has `name`, for as long as what is returned lives; None: taken."""
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        # A name that begins so is no file: it goes with the process, and is one for each network namespace.
        mark.bind(f"\0{name}")
    except OSError:
        mark.close()
        return None
    return mark
