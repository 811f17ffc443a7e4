"""A network and disks of a test's own, where the machine allows it: there a server can vanish, and a disk be full.

def _body(folder: Path) -> None:  # a function of a module; it runs in a process of its own, in the namespace
    with RtmpServer(folder / "server") as server:
        vanish(server.port)

def test_it(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    run_in_namespace(_body, tmp_path)

Everything a body starts is in the namespace too, on loopback addresses as ever; when its last process ends, the kernel
takes the network, its rules and the mounts away. Needs nftables and util-linux, and no rights that a plain user lacks
on a kernel with user namespaces.
"""

import fcntl
import importlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.peers.process import PeerError, dying_with_parent, find_program

BODY_TIMEOUT_S = 120.0
TRIAL_TIMEOUT_S = 20.0
TOOL_TIMEOUT_S = 10.0

NAMESPACES = ["--net", "--mount"]
# Root needs no user namespace, and a machine may forbid them even to root. Nobody becomes root in one: servers do other
# things when they are root. The capabilities are kept for nft and mount.
USER_NAMESPACE = ["--map-current-user", "--keep-caps"]
OUTER_NETWORK = "YIAGENT_TEST_OUTER_NETWORK"
OWN_NETWORK = Path("/proc/self/ns/net")

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
IFREQ = "16sh14x"

# At the input, where it is silent: what is dropped at the output, the sender is told of. Adding what is there is no
# error to nft, and a file is one transaction, so this serves the first port and all later ones.
VANISH_RULES = """
add table inet vanished
add set inet vanished ports {{ type inet_service; }}
add chain inet vanished input {{ type filter hook input priority 0; }}
flush chain inet vanished input
add rule inet vanished input tcp sport @ports drop
add rule inet vanished input tcp dport @ports drop
add element inet vanished ports {{ {port} }}
"""
REAPPEAR_RULES = "delete element inet vanished ports {{ {port} }}"

Body = Callable[[Path], None]


# Outside


def why_not() -> str | None:
    """Give the reason why this machine allows no such namespace, or None if it does; decided by a trial, once."""
    return _trial()[1]


def namespace_prefix() -> list[str] | None:
    """Give what to put before a command that is to run in a new namespace, or None: `why_not()` tells why."""
    return _trial()[0]


def run_in_namespace(body: Body, folder: Path, *, timeout_s: float = BODY_TIMEOUT_S) -> None:
    """Call `body(folder)` in a new process and namespace, loopback up; PeerError with its output when it fails.

    The body is a function of a module that can be imported, not one within a function. What it prints is printed.
    """
    prefix, reason = _trial()
    if prefix is None:
        raise PeerError(f"no namespace on this machine: {reason}")
    failure, output = _run(prefix, body, folder, timeout_s)
    print(output, end="")
    if failure:
        raise PeerError(f"{body.__qualname__} {failure}\n{output}")


@cache
def _trial() -> tuple[list[str] | None, str | None]:
    reason = "it was not tried"
    try:
        find_program("mount")
        find_program("nft")
        unshare = find_program("unshare")
        marked = ["env", f"{OUTER_NETWORK}={OWN_NETWORK.readlink()}", unshare, *NAMESPACES]
    except (PeerError, OSError) as error:
        return None, f"{error}"
    for prefix in (marked, [*marked, *USER_NAMESPACE]):
        with TemporaryDirectory() as folder:
            failure, output = _run(prefix, _try_everything, Path(folder), TRIAL_TIMEOUT_S)
        if not failure:
            return prefix, None
        reason = (output.strip() or failure).splitlines()[-1]
    return None, reason


def _run(prefix: list[str], body: Body, folder: Path, timeout_s: float) -> tuple[str, str]:
    """How it failed, empty if it did not, and what it wrote."""
    inner = [sys.executable, "-m", __name__, body.__module__, body.__qualname__, f"{folder}"]
    log_file = folder / "namespace.log"
    failure = ""
    # A file, not a pipe: what a killed body leaves behind for a moment would hold the pipe open.
    with log_file.open("wb") as log:
        try:
            status = subprocess.run(
                # Unshare becomes the command without a fork, so the body is a child of this very thread.
                [*prefix, *dying_with_parent(inner)],
                cwd=Path(__file__).resolve().parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            ).returncode
            failure = f"ended with {status}" if status else ""
        except subprocess.TimeoutExpired:
            failure = f"did not end within {timeout_s:g} s"
    return failure, log_file.read_text(errors="replace")


# Inside


def bring_up_loopback() -> None:
    """Bring up the new network's only interface, with 127.0.0.0/8 and ::1; `run_in_namespace` has done it."""
    _require_inside()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        _, flags = struct.unpack(IFREQ, fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack(IFREQ, b"lo", 0)))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack(IFREQ, b"lo", flags | IFF_UP))


def vanish(port: int) -> None:
    """Drop every TCP packet from and to a port: no RST, no FIN, no answer, as if its machine had lost its power.

    Connections stay and what is sent on them is never acknowledged; new ones run into their time-out.
    """
    _tool("nft", "-f", "-", text=VANISH_RULES.format(port=port))


def reappear(port: int) -> None:
    """Let the packets of a vanished port pass again; connections that are still there go on when TCP sends again."""
    _tool("nft", "-f", "-", text=REAPPEAR_RULES.format(port=port))


def small_disk(folder: Path, kilobytes: int) -> None:
    """Mount an empty disk of that size (in whole pages, of 4 kB mostly) on an existing folder."""
    _tool("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0700", "small_disk", f"{folder}")


def make_read_only(folder: Path) -> None:
    """Let all under a mounted folder be refused with EROFS that opens a file to write, makes, renames or removes one.

    Files that are open already can still be written.
    """
    # A mount over it: to remount the disk itself is refused as long as anybody has a file open there to write.
    _tool("mount", "--bind", "-o", "ro", f"{folder}", f"{folder}")


def make_writable(folder: Path) -> None:
    """Undo `make_read_only`."""
    # Lazy: who has a file open for reading, opened meanwhile, keeps that.
    _tool("umount", "--lazy", f"{folder}")


def _tool(name: str, *arguments: str, text: str = "") -> None:
    _require_inside()
    command = [find_program(name), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)
    if done.returncode:
        raise PeerError(f"{name} {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")


def _require_inside() -> None:
    """Root's mistake outside would close ports of the machine, and hide its files."""
    here = f"{OWN_NETWORK.readlink()}"
    if os.environ.get(OUTER_NETWORK, here) == here:
        raise PeerError("this is for a namespace of the test's own, and here is none")


def _try_everything(folder: Path) -> None:
    vanish(9)
    reappear(9)
    small_disk(folder, 16)
    make_read_only(folder)
    make_writable(folder)


def main() -> None:
    """`python -m tests.peers.namespace MODULE FUNCTION FOLDER`, behind the prefix: run a body."""
    module, name, folder = sys.argv[1:]
    bring_up_loopback()
    body: Body = getattr(importlib.import_module(module), name)
    body(Path(folder))


if __name__ == "__main__":
    main()
