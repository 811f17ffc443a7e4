"""Which machine this is: its addresses in an order that stays, an id that is no secret, and whether a host is it."""

import hashlib
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import psutil
import pytest

from tests.peers.camera import REPOSITORY
from yiagent import hardware
from yiagent.hardware import claim, is_this_machine, machine_id, machine_name, own_macs

WIFI, LAN, GIVEN, OTHER = "0c:8c:24:00:00:01", "b8:27:eb:00:00:02", "02:42:ac:00:00:03", "6e:ba:c8:00:00:04"


def _machine(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    macs: dict[str, str],
    *,
    real: tuple[str, ...] = (),
    out: str | None = None,
) -> None:
    """Interfaces by name with their addresses; those that are `real` have a device behind them."""
    for name in real:
        (folder / name / "device").mkdir(parents=True)
    entries = {
        name: [
            SimpleNamespace(family=socket.AF_INET, address="192.0.2.9"),
            SimpleNamespace(family=psutil.AF_LINK, address=mac),
        ]
        for name, mac in macs.items()
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: entries)
    monkeypatch.setattr(hardware, "_INTERFACES", folder)
    monkeypatch.setattr(hardware, "interface_of_default_route", lambda: out)


@pytest.mark.parametrize(
    ("macs", "real", "out", "found"),
    [
        # That of the way out first; the others by their interfaces' names.
        ({"eth0": LAN, "wlan0": WIFI}, ("eth0", "wlan0"), None, [LAN, WIFI]),
        ({"eth0": LAN, "wlan0": WIFI}, ("eth0", "wlan0"), "wlan0", [WIFI, LAN]),
        # Virtual ones are left out where there is a real one, also where the way out is virtual.
        ({"docker0": GIVEN, "eth0": LAN}, ("eth0",), None, [LAN]),
        ({"docker0": GIVEN, "eth0": LAN}, ("eth0",), "docker0", [LAN]),
        # A real one may have an address of the owner's own.
        ({"docker0": OTHER, "eth0": GIVEN}, ("eth0",), None, [GIVEN]),
        # Where the kernel does not tell which are real: those with a maker's address, else all.
        ({"docker0": GIVEN, "ra0": WIFI}, (), "ra0", [WIFI]),
        ({"docker0": GIVEN, "veth1": OTHER}, (), None, [GIVEN, OTHER]),
        ({"eth0": LAN.upper()}, ("eth0",), None, [LAN]),
        # One card under two names.
        ({"br0": LAN, "eth0": LAN}, ("eth0", "br0"), "br0", [LAN]),
        # The loopback's, and what is longer or shorter than one.
        ({"lo": "00:00:00:00:00:00"}, (), None, []),
        ({"ib0": f"{LAN}:{LAN}", "tun0": "", "gre0": "00:00:00:00"}, (), None, []),
        ({}, (), None, []),
    ],
)
def test_own_addresses(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    macs: dict[str, str],
    real: tuple[str, ...],
    out: str | None,
    found: list[str],
) -> None:
    """Those of real interfaces, that of the way out first."""
    _machine(monkeypatch, tmp_path, macs, real=real, out=out)
    assert own_macs() == found


@pytest.mark.parametrize("error", [OSError, RuntimeError, psutil.AccessDenied])
def test_a_machine_that_does_not_tell_has_no_addresses(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """A system that hides its interfaces keeps no agent from starting, and makes no host its own."""

    def refused() -> None:
        raise error

    monkeypatch.setattr(psutil, "net_if_addrs", refused)
    assert own_macs() == []
    assert not is_this_machine("192.0.2.9")
    assert is_this_machine("127.0.0.1")


def test_no_way_out_is_no_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the kernel's routes cannot be read, nothing is claimed."""

    def unreadable() -> None:
        raise PermissionError

    _machine(monkeypatch, tmp_path, {"eth0": LAN}, real=("eth0",))
    monkeypatch.setattr(hardware, "interface_of_default_route", unreadable)
    assert own_macs() == []


def test_this_machine_has_addresses_of_its_own() -> None:
    """As this machine tells them: each an address in lower case, none twice, and the same when asked again."""
    macs = own_macs()
    assert macs == own_macs()
    assert len(set(macs)) == len(macs)
    assert all(len(mac) == 17 and mac == mac.lower() and int(mac.replace(":", ""), 16) for mac in macs)


def test_the_machines_id_is_the_installations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is made of the system's own id, which stands nowhere in it, and another system has another."""
    first, second = tmp_path / "machine-id", tmp_path / "dbus"
    monkeypatch.setattr(hardware, "_MACHINE_IDS", (first, second))
    first.write_text("0123456789abcdef0123456789abcdef\n")
    second.write_text("another\n")
    found = machine_id()
    assert found == hashlib.sha256(b"yiagent 0123456789abcdef0123456789abcdef").hexdigest()[:12]
    assert found == machine_id()
    first.write_text("0123456789abcdef0123456789abcdee\n")
    assert machine_id() != found


@pytest.mark.parametrize("content", [None, b"", b"\n"], ids=["missing", "empty", "blank"])
def test_an_empty_machine_id_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None) -> None:
    """Images come with an empty one: then the next place counts, then the hardware address, then the name."""
    first, second = tmp_path / "machine-id", tmp_path / "dbus"
    monkeypatch.setattr(hardware, "_MACHINE_IDS", (first, second))
    if content is not None:
        first.write_bytes(content)
    second.write_text("from-dbus")
    by_file = machine_id()
    second.unlink()
    _machine(monkeypatch, tmp_path / "net", {"eth0": LAN}, real=("eth0",))
    by_mac = machine_id()
    monkeypatch.setattr(hardware, "own_macs", list)
    by_name = machine_id()
    expected = ["from-dbus", LAN, socket.gethostname()]
    assert [by_file, by_mac, by_name] == [
        hashlib.sha256(f"yiagent {text}".encode()).hexdigest()[:12] for text in expected
    ]


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("LocalHost.", True),
        ("::1", True),
        ("192.0.2.9", True),
        ("2001:db8::9", True),
        ("2001:DB8::9", True),
        ("fe80::9", True),
        ("192.0.2.90", False),
        ("192.0.2", False),
        ("128.0.0.1", False),
        ("camera", False),
        ("camera.example", False),
        ("", False),
        (LAN.replace(":", "-"), False),
    ],
)
def test_whether_a_host_is_this_machine(monkeypatch: pytest.MonkeyPatch, host: str, own: bool) -> None:
    """By its loopback and by its own addresses."""
    addresses = ["192.0.2.9", "2001:db8::9", "fe80::9%eth0"]
    entries = {"eth0": [SimpleNamespace(family=socket.AF_INET, address=address) for address in addresses]}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: entries)
    assert is_this_machine(host) is own


def test_the_machines_own_name_is_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever case; and no resolver is asked, which would take seconds where there is none."""

    def asked(*_: object) -> None:
        raise AssertionError("a resolver was asked")

    monkeypatch.setattr(socket, "gethostname", lambda: "Pi")
    monkeypatch.setattr(socket, "getaddrinfo", asked)
    monkeypatch.setattr(socket, "gethostbyname", asked)
    assert is_this_machine("PI")
    assert not is_this_machine("pi2")


def test_a_claim_is_one_processs() -> None:
    """One has it at a time, it is free as soon as that one has let go of it, and another name is another."""
    name = f"yiagent-test-{uuid4().hex}"
    first = claim(name)
    assert first is not None
    assert claim(name) is None
    other = claim(f"{name}-other")
    assert other is not None
    other.close()
    first.close()
    again = claim(name)
    assert again is not None
    again.close()


def test_a_claim_ends_with_its_process() -> None:
    """Also where that was killed: nothing is left that would have to be cleaned away."""
    name = f"yiagent-test-{uuid4().hex}"
    program = f"""
import sys
from yiagent.hardware import claim
mark = claim({name!r})
print(mark is not None, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert claim(name) is None
        process.kill()
        process.wait()
    mine = claim(name)
    assert mine is not None
    mine.close()


@pytest.mark.parametrize(
    ("told", "name"), [("pi", "pi"), ("(none)", "Machine beside a camera"), ("", "Machine beside a camera")]
)
def test_a_machine_without_a_name_is_called_something(monkeypatch: pytest.MonkeyPatch, told: str, name: str) -> None:
    """ "(none)" on a dashboard helps nobody."""
    monkeypatch.setattr("socket.gethostname", lambda: told)
    assert machine_name() == name
