"""What the emulated camera is good for: each claim is looked at in one that runs, and printed with figures."""

import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.camera.card import CardImage
from tests.camera.figures import differences
from tests.camera.machine import HOST, STOCK_PROCESSES, EmulatedCamera
from tests.peers.process import wait_until

PULL_TIMEOUT_S: Final = 20.0
REACH_TIMEOUT_S: Final = 20.0
WATCHDOG_S: Final = 10

# The least a card can do: go on the stock way, from /tmp because the card is mounted anew, and then do its own.
HOOK: Final = r"""#!/bin/sh
if [ "$1" != from-tmp ]; then
  cp /home/hd1/test/equip_test.sh /tmp/hook.sh
  exec sh /tmp/hook.sh from-tmp
fi
sed '\#^if \[ -f "/home/hd1/test/equip_test.sh" \]; then#,/^fi/d' /home/init.sh >/tmp/init.sh
sh /tmp/init.sh &
until [ -s /tmp/resolv.conf ]; do sleep 1; done
echo 'here since' $(cut -d ' ' -f 1 /proc/uptime) >/home/hd1/ours.txt
sync
exec sleep 1000000
"""


def trial() -> None:
    """Do all of it; PeerError or AssertionError where something is not as claimed."""
    with tempfile.TemporaryDirectory(prefix="yiagent-camera-") as folder:
        _stock(Path(folder) / "stock")
        _hook(Path(folder) / "hook")
        _watchdog(Path(folder) / "watchdog")


def _stock(folder: Path) -> None:
    with _says("a card without a hook: the stock start-up"):
        content = folder / "content"
        content.mkdir(parents=True)
        (content / "some file.txt").write_text("of the owner's\n")
        camera = EmulatedCamera(folder, card=content)
    with camera:
        _tell("power-on to shell", f"{camera.since_power_on_s:.1f} s")
        camera.wait_for_stock_start()
        _tell("power-on to Wi-Fi and all processes", f"{camera.since_power_on_s:.1f} s")
        camera.wait_until(lambda: "start ok!" in camera.log_text, 30.0, "the end of init.sh")
        _tell_machine(camera)
        lacks = camera.run("cat /proc/meminfo; cat /proc/net/if_inet6 2>&1; ifconfig; date")
        assert "MemAvailable" not in lacks
        assert "can't open '/proc/net/if_inet6'" in lacks
        assert "ra0 " in lacks
        assert "lo " not in lacks
        assert " 1970" in lacks
        assert camera.read("/home/hd1/some file.txt") == "of the owner's\n"
        _network(camera)
        camera.fill_tmp()
        assert "No space left on device" in camera.ask("dd if=/dev/zero of=/tmp/x bs=64k count=16").output
        camera.empty_tmp()
        camera.run("dd if=/dev/zero of=/tmp/x bs=64k count=16; rm /tmp/x")
        _tell("/tmp", "can be full")
        before = camera.files()
        camera.power_cycle()
        camera.wait_for_stock_start()
        after = camera.files()
        assert not differences(before, after), differences(before, after)
        _tell("outside /tmp and the card", f"{len(before)} files, folders and links, the same after a power cycle")
        camera.run("echo x >>/home/version; touch /dev/somewhere")
        found = differences(before, camera.files())
        assert [line.partition(":")[0] for line in found] == ["/dev/somewhere", "/home/version"], found
        _tell("a file that is written there", "is seen")


def _network(camera: EmulatedCamera) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        camera.run(f"echo hello | busybox nc {HOST} {server.getsockname()[1]} >/dev/null 2>&1 &")
        assert server.accept()[0].recv(5) == b"hello"
    # Without lo, the kernel cannot tell itself that a host is away: a connection would be tried for two minutes.
    camera.run("ifconfig lo up")
    assert "No route to host" in camera.ask("wget -O - http://192.0.2.1/").output
    camera.run("ifconfig lo down")
    camera.run("busybox nc -l -p 8080 -e echo hello >/dev/null 2>&1 &")
    reached = time.monotonic() + REACH_TIMEOUT_S
    while not (answer := _first_words(camera.port_of(8080))) and time.monotonic() < reached:
        time.sleep(0.1)
    assert answer == b"hello\n"
    _tell("the network", "reaches this host, is reached from it, and goes nowhere else")


def _first_words(port: int) -> bytes:
    # qemu accepts at once, and closes where nothing in the camera does.
    with socket.create_connection(("127.0.0.1", port), timeout=REACH_TIMEOUT_S) as client, suppress(ConnectionError):
        return client.recv(100)
    return b""


def _hook(folder: Path) -> None:
    with _says("a card with a hook: the stock start-up, and something of its own"):
        content = folder / "content"
        (content / "test").mkdir(parents=True)
        (content / "test" / "equip_test.sh").write_text(HOOK)
        camera = EmulatedCamera(folder, card=content)
        plain = EmulatedCamera(folder / "plain", card=CardImage(camera.card.file))
    with camera:
        _tell("power-on to shell", f"{camera.since_power_on_s:.1f} s")
        camera.wait_for_stock_start()
        camera.wait_for_output("cat /home/hd1/ours.txt", "here since")
        _tell("power-on to something of its own", f"{camera.since_power_on_s:.1f} s")
        camera.run(f"ping -c 1 {HOST}")
        camera.wait_until(lambda: "start ok!" in camera.log_text, 30.0, "the end of init.sh")
        after = camera.files()

        camera.pull_card()
        began = time.monotonic()
        wait_until(lambda: camera.ask("[ -e /dev/mmcblk0 ]").status != 0, PULL_TIMEOUT_S, "the card to be gone")
        assert camera.ask("cat /home/hd1/test/equip_test.sh").status != 0
        assert "mmc0: card 4567 removed" in camera.log_text
        _tell("a pulled card", f"is seen after {time.monotonic() - began:.1f} s")
        camera.insert_card()
        began = time.monotonic()
        wait_until(lambda: camera.ask("[ -e /dev/mmcblk0p1 ]").status == 0, PULL_TIMEOUT_S, "the card to be back")
        _tell("a card that is put back", f"is seen after {time.monotonic() - began:.1f} s")

        answer = camera.eat_memory()
        killed = camera.oom_kills
        assert answer.status != 0
        assert killed
        assert "Out of memory: Killed process" in camera.run("dmesg")
        assert all(camera.pids(name) for name in STOCK_PROCESSES if name not in {name for _, name in killed})
        _tell("memory that is asked for without end", f"the kernel killed {killed}")
    ours = camera.card.read("ours.txt").decode().strip()
    assert ours.startswith("here since ")
    _tell("the card, read after power-off", f"{', '.join(camera.card.names())}: {ours!r}")
    camera.card.remove("test/equip_test.sh")
    with plain:
        plain.wait_for_stock_start()
        before = plain.files()
    assert not differences(before, after), differences(before, after)
    _tell("outside /tmp and the card", f"{len(before)} files, folders and links, the same without the hook")


def _watchdog(folder: Path) -> None:
    with _says(f"no card, and rmm is gone: the watchdog, set to {WATCHDOG_S} s"):
        camera = EmulatedCamera(folder, watchdog_s=WATCHDOG_S, wifi_s=0)
    with camera:
        camera.wait_for_stock_start()
        camera.run("killall rmm")
        began = time.monotonic()
        camera.wait_for_reboot(WATCHDOG_S + 20.0)
        _tell("rebooted", f"after {time.monotonic() - began:.1f} s")
        camera.wait_for_stock_start()


def _tell_machine(camera: EmulatedCamera) -> None:
    print(camera.run("free"), end="")
    memory = camera.memory()
    _tell("at rest", f"{memory.available_kb} of {memory.total_kb} kB could be had, {memory.free_kb} kB are free")
    for name in STOCK_PROCESSES:
        pid = camera.pids(name)[0]
        figures = camera.process_memory(pid)
        cpu = camera.cpu_time(pid)
        _tell(name, f"Rss {figures.rss_kb}, anonymous {figures.anonymous_kb} kB, processor {cpu.total_s:.2f} s")


@contextmanager
def _says(what: str) -> Iterator[None]:
    print(f"\n{what}", flush=True)
    yield


def _tell(what: str, figure: str) -> None:
    print(f"    {what + ':':40} {figure}", flush=True)
