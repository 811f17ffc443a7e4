"""The emulated camera as a program that a test starts, talks to and ends: qemu, with what `sd/emulator/build` makes."""

import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, Self

from tests.camera.card import CardImage
from tests.camera.figures import (
    LISTING,
    OOM_KILL,
    CpuTime,
    FileEntry,
    MachineCpu,
    MachineMemory,
    ProcessMemory,
    parse_listing,
)
from tests.camera.monitor import Monitor
from tests.camera.shell import COMMAND_TIMEOUT_S, Answer, Shell
from tests.peers.camera import REPOSITORY
from tests.peers.ports import free_port
from tests.peers.process import Peer, PeerError, find_program, wait_until

# Two seconds on an idle machine.
BOOT_TIMEOUT_S: Final = 120.0
STOCK_TIMEOUT_S: Final = 60.0
LISTING_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.2
# Where the camera finds this host's 127.0.0.1.
HOST: Final = "10.0.2.2"
GUEST: Final = "10.0.2.15"
CARD_DRIVE: Final = "card"
# The start-up script of the flash, for tests that give it another: `flash={"/home/init.sh": INIT.read_text() + "..."}`.
INIT: Final = REPOSITORY / "sd" / "emulator" / "root" / "home" / "init.sh"
# What init.sh starts and leaves running.
STOCK_PROCESSES: Final = ("log_server", "led_ctl", "peripheral", "dispatch", "exnet", "rmm", "watch_process", "udhcpc")


@cache
def built() -> Path:
    """The folder with the kernel and the flash; builds them if need be, which takes minutes and says so."""
    done = subprocess.run([REPOSITORY / "sd" / "emulator" / "build"], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise PeerError("sd/emulator/build failed; its reason is above")
    return Path(done.stdout.splitlines()[-1])


class EmulatedCamera(Peer):
    """A machine with 64 MB of which Linux has `linux_mb`, a flash of its own, a card and a network with the host alone.

    From inside, the host's 127.0.0.1 is `10.0.2.2`, any port of it; a router and a name server are entered that do not
    answer, so nothing leaves the host. The ports in `forward` can be reached from outside at those of `port_of()`. The
    network is up when the stock start-up has seen to it, `ra0` by name.

    `card`: a folder whose content is put onto a new card, a card, or None for an empty slot. `flash`: what is put onto
    the flash, by absolute path, with the mode 755: another `/home/init.sh`, say. `processes`: kB of memory that the
    stand-ins for the camera's own take (`sd/emulator/camera.c` has the defaults). `clock`: seconds since 1970; the
    camera has no battery. `watchdog_s`: it reboots after so long without `rmm`; 0: it does not. `wifi_s`: what joining
    the Wi-Fi takes. `icount`: one instruction takes 2**icount ns of the machine's time (2: a processor as slow as the
    camera's); None: as fast as it goes.

    Flash and card keep what was written to them from one start to the next; what was not synced goes, as with a camera.
    """

    def __init__(
        self,
        folder: Path,
        *,
        card: Path | CardImage | None = None,
        flash: Mapping[str, str] | None = None,
        processes: Mapping[str, int] | None = None,
        forward: Sequence[int] = (8080,),
        linux_mb: int = 36,
        clock: int | None = None,
        watchdog_s: int = 60,
        wifi_s: int = 2,
        icount: int | None = None,
        mac: str = "52:54:00:12:34:56",
    ) -> None:
        super().__init__("camera", folder)
        if isinstance(card, Path):
            content, card = card, CardImage(folder / "card.img")
            card.format()
            card.copy_in(content)
        self._card = card
        self._flash_file = folder / "flash.ext2"
        shutil.copyfile(built() / "root.ext2", self._flash_file)
        for path, text in (flash or {}).items():
            self._write_flash(path, text)
        self._ports = {port: free_port() for port in forward}
        self._linux_mb = linux_mb
        self._icount = icount
        self._mac = mac
        self._watchdog_s = watchdog_s
        self._knobs = {
            **(processes or {}),
            "wifi": wifi_s,
            "watchdog": watchdog_s,
            **({"card": 1} if card is not None else {}),
            **({"clock": clock} if clock is not None else {}),
        }
        self._monitor: Monitor | None = None
        self._shell: Shell | None = None
        self._power_on = 0.0

    # Life

    def command(self) -> list[str]:
        """The machine, stopped before its first instruction, so that nothing of what it says is lost."""
        for name in ("monitor.sock", "shell.sock"):
            (self.folder / name).unlink(missing_ok=True)
        words = [
            "console=ttyAMA0 root=/dev/vda rw init=/sbin/init panic=1",
            f"mem={self._linux_mb}M",
            # The machine begins it at the first word from user space, and nothing ends it again.
            f"softdog.soft_margin={max(self._watchdog_s, 1)} softdog.nowayout=1",
            *(f"yi.{name}={value}" for name, value in self._knobs.items()),
        ]
        forward = "".join(
            f",hostfwd=tcp:127.0.0.1:{outside}-{GUEST}:{inside}" for inside, outside in self._ports.items()
        )
        return [
            find_program("qemu-system-arm"),
            *("-machine", "versatilepb", "-cpu", "arm926", "-m", "64", "-S"),
            *("-no-user-config", "-display", "none", "-monitor", "none"),
            *("-kernel", f"{built() / 'zImage'}", "-dtb", f"{built() / 'camera.dtb'}", "-append", " ".join(words)),
            *("-serial", "stdio", "-serial", "unix:shell.sock,server=on,wait=off"),
            *("-qmp", "unix:monitor.sock,server=on,wait=off"),
            *("-drive", f"if=none,id=flash,format=raw,file={_escaped(self._flash_file)}"),
            *("-device", "virtio-blk-pci,drive=flash"),
            *("-netdev", f"user,id=net,ipv6=off{forward}"),
            *("-device", f"virtio-net-pci,netdev=net,romfile=,mac={self._mac}"),
            *([] if self._card is None else ["-drive", f"if=sd,id={CARD_DRIVE},{self._card_options()}"]),
            *([] if self._icount is None else ["-icount", f"shift={self._icount},sleep=on"]),
        ]

    def is_ready(self) -> bool:
        """It can be talked to; it does not run yet."""
        return all((self.folder / name).exists() for name in ("monitor.sock", "shell.sock"))

    def start(self) -> Self:
        """Give it power, and return when its shell answers, which is before the stock start-up is through."""
        super().start()
        try:
            self._monitor = Monitor(self.folder / "monitor.sock")
            self._shell = Shell(self.folder / "shell.sock")
            self._power_on = time.monotonic()
            self._monitor.execute("cont")
            self._wait_for_shell()
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        """Take its power away; `stop()` is no gentler to what runs inside."""
        for connection in (self._monitor, self._shell):
            if connection is not None:
                connection.close()
        self._monitor = self._shell = None
        super().kill()

    def power_cycle(self) -> None:
        """Take its power away and give it again."""
        self.restart()

    def wait_for_reboot(self, timeout_s: float) -> None:
        """Return when it has rebooted by itself and its shell answers again; a command before that would fail."""
        boots = self.boots
        self.wait_until(lambda: self.boots > boots, timeout_s, "a reboot")
        self._wait_for_shell()

    @property
    def boots(self) -> int:
        """How often its kernel has started since it was given power."""
        return self.log_text.count("] Linux version ")

    @property
    def since_power_on_s(self) -> float:
        """For how long it has had power."""
        return time.monotonic() - self._power_on

    # Commands

    def run(self, command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command in its shell and give what it printed; PeerError where its status is not 0."""
        answer = self.ask(command, timeout_s)
        if answer.status != 0:
            raise PeerError(f"in the camera: {command}: status {answer.status}\n{answer.output[-2000:]}")
        return answer.output

    def ask(self, command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Run a command in its shell and give what it printed and its status."""
        if self._shell is None:
            raise PeerError("the camera has no power")
        return self._shell.run(command, timeout_s)

    def read(self, path: str) -> str:
        """Give a file's text."""
        return self.run(f"cat {shlex.quote(path)}")

    def wait_for_output(self, command: str, text: str, timeout_s: float = 30.0) -> str:
        """Run a command again and again until its output has the text; give the output."""
        output = ""

        def has_it() -> bool:
            nonlocal output
            output = self.ask(command).output
            return text in output

        wait_until(has_it, timeout_s, f"{text!r} from: {command}", poll_s=POLL_S)
        return output

    # Processes

    def pids(self, name: str) -> list[int]:
        """The processes of this name, as the kernel has it: the program's, at most 15 characters."""
        answer = self.run("cat /proc/[0-9]*/stat 2>/dev/null; true")
        stats = (line.partition(")")[0].split(" (", 1) for line in answer.splitlines())
        return [int(pid) for pid, comm in stats if comm == name[:15]]

    def wait_for_process(self, name: str, timeout_s: float = STOCK_TIMEOUT_S) -> int:
        """Return the process of this name, the first where there are several, as soon as there is one."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = self.pids(name)
            return bool(found)

        wait_until(is_there, timeout_s, f"the process {name} in the camera", poll_s=POLL_S)
        return found[0]

    def wait_for_stock_start(self, timeout_s: float = STOCK_TIMEOUT_S) -> None:
        """Return when all that the stock start-up starts is there and the network is up."""
        deadline = time.monotonic() + timeout_s
        for name in STOCK_PROCESSES:
            self.wait_for_process(name, deadline - time.monotonic())
        self.wait_for_output("ifconfig ra0", f"inet addr:{GUEST} ", deadline - time.monotonic())

    def process_memory(self, pid: int) -> ProcessMemory:
        """What memory a process has."""
        return ProcessMemory.parse(self.read(f"/proc/{pid}/smaps"), self.read(f"/proc/{pid}/status"))

    def cpu_time(self, pid: int) -> CpuTime:
        """What time of the processor a process has had."""
        return CpuTime.parse(self.read(f"/proc/{pid}/stat"))

    def machine_cpu(self) -> MachineCpu:
        """What its processor has done since it started."""
        return MachineCpu.parse(self.read("/proc/stat"))

    # Memory and files

    def memory(self) -> MachineMemory:
        """What memory the machine has, and what for."""
        return MachineMemory.parse(self.read("/proc/meminfo"))

    def eat_memory(self, timeout_s: float = 120.0) -> Answer:
        """Ask for memory without end, by a process that is as likely to be killed for it as any; return when it is."""
        return self.ask("tail /dev/zero", timeout_s)

    def fill_tmp(self) -> None:
        """Leave no room in `/tmp` by making it as large as what is in it.

        Filling it is something else: it may take 32 MB, more than there are, and the kernel kills all that runs for it.
        """
        used = self.run("df -k /tmp").splitlines()[-1].split()[2]
        # A size of 0 is no limit at all.
        self.run(f"mount -o remount,size={max(int(used), 4)}k /tmp")

    def empty_tmp(self) -> None:
        """Let `/tmp` have its 32 MB again."""
        self.run("mount -o remount,size=32m /tmp")

    @property
    def oom_kills(self) -> list[tuple[int, str]]:
        """Pid and name of what its kernel has killed for want of memory, over all its boots since it has power."""
        return [(int(pid), name) for pid, name in OOM_KILL.findall(self.log_text)]

    def files(self) -> dict[str, FileEntry]:
        """Everything outside `/tmp` and the card, with checksums, by path."""
        return parse_listing(self.run(LISTING, LISTING_TIMEOUT_S))

    # Card and network

    @property
    def card(self) -> CardImage:
        """The card; to be read and changed only while the camera has no power, or not the card."""
        if self._card is None:
            raise PeerError("this camera has no card")
        return self._card

    def pull_card(self) -> None:
        """Take the card out, whatever is being done with it; within a second `/dev/mmcblk0` is gone.

        It stays mounted: what the kernel has of it can still be read, and what is written is taken without an error,
        and lost, unless it is synced.
        """
        self._execute("eject", device=CARD_DRIVE, force=True)

    def insert_card(self) -> None:
        """Put the card back."""
        self._execute("blockdev-change-medium", device=CARD_DRIVE, filename=f"{self.card.file.resolve()}", format="raw")

    def port_of(self, inside: int) -> int:
        """The port of 127.0.0.1 at which a port of the camera can be reached."""
        return self._ports[inside]

    # Inside

    def _wait_for_shell(self) -> None:
        if self._shell is None:
            raise PeerError("the camera has no power")
        try:
            self._shell.wait_until_ready(BOOT_TIMEOUT_S)
        except PeerError as error:
            raise PeerError(f"{error}\n{self._log_end()}") from None

    def _execute(self, command: str, **arguments: object) -> None:
        if self._monitor is None:
            raise PeerError("the camera has no power")
        self._monitor.execute(command, **arguments)

    def _card_options(self) -> str:
        return f"format=raw,file={_escaped(self.card.file.resolve())}"

    def _write_flash(self, path: str, text: str) -> None:
        source = self.folder / "to-the-flash"
        source.write_text(text)
        wishes = [f'rm "{path}"', f'write "{source}" "{path}"', f'sif "{path}" mode 0100755']
        wishes += [f'sif "{path}" {owner} 0' for owner in ("uid", "gid")]
        # debugfs has no exit status worth the name.
        debugfs = [find_program("debugfs"), "-w", "-f", "-", f"{self._flash_file}"]
        subprocess.run(debugfs, input="\n".join(wishes), capture_output=True, text=True, check=True)
        source.unlink()
        said = subprocess.run([*debugfs[:1], "-R", f'stat "{path}"', debugfs[-1]], capture_output=True, text=True)
        if f"Size: {len(text.encode())}" not in said.stdout:
            raise PeerError(f"{path} could not be put onto the flash: {said.stdout}{said.stderr}")


def _escaped(path: Path) -> str:
    # qemu's options end at a comma, and a doubled one stands for itself.
    return f"{path}".replace(",", ",,")
