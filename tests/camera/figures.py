"""What a camera tells of itself, read from the text of its `/proc` and of its busybox. Pure."""

import re
from dataclasses import dataclass
from typing import Final, Self

CLOCK_TICKS_PER_S: Final = 100
OOM_KILL: Final = re.compile(r"Out of memory: Killed process (\d+) \(([^)]*)\)")


@dataclass(frozen=True)
class MachineMemory:
    """The machine's memory in kB; `available_kb` is what can be had without killing anything."""

    total_kb: int
    free_kb: int
    buffers_kb: int
    cached_kb: int
    anonymous_kb: int
    shmem_kb: int
    slab_kb: int
    swap_free_kb: int

    @property
    def available_kb(self) -> int:
        """Free, and buffers and file pages that could be dropped; what lies in /tmp could not. 3.0 tells no better."""
        return self.free_kb + self.buffers_kb + self.cached_kb - self.shmem_kb

    @classmethod
    def parse(cls, meminfo: str) -> Self:
        """Read `/proc/meminfo`."""
        found = {name: int(kb) for name, kb in re.findall(r"^(\w+):\s+(\d+) kB$", meminfo, re.MULTILINE)}
        return cls(
            total_kb=found["MemTotal"],
            free_kb=found["MemFree"],
            buffers_kb=found["Buffers"],
            cached_kb=found["Cached"],
            anonymous_kb=found["AnonPages"],
            shmem_kb=found["Shmem"],
            slab_kb=found["Slab"],
            swap_free_kb=found["SwapFree"],
        )


@dataclass(frozen=True)
class ProcessMemory:
    """A process's memory in kB: what is resident, what of it no file backs, what is swapped out, and the most ever."""

    rss_kb: int
    anonymous_kb: int
    swap_kb: int
    peak_rss_kb: int

    @classmethod
    def parse(cls, smaps: str, status: str) -> Self:
        """Read `/proc/PID/smaps` and `/proc/PID/status`."""

        def total(name: str) -> int:
            return sum(map(int, re.findall(rf"^{name}:\s+(\d+) kB$", smaps, re.MULTILINE)))

        peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return cls(total("Rss"), total("Anonymous"), total("Swap"), int(peak[1]) if peak else 0)


@dataclass(frozen=True)
class CpuTime:
    """The processor's time that a process has had since its start."""

    user_s: float
    system_s: float

    @property
    def total_s(self) -> float:
        """Both."""
        return self.user_s + self.system_s

    @classmethod
    def parse(cls, stat: str) -> Self:
        """Read `/proc/PID/stat`."""
        # The name, in parentheses, may hold anything.
        fields = stat.rpartition(")")[2].split()
        return cls(int(fields[11]) / CLOCK_TICKS_PER_S, int(fields[12]) / CLOCK_TICKS_PER_S)


@dataclass(frozen=True)
class MachineCpu:
    """What the processor has done since the machine started, the kernel's own work (the network's, say) included."""

    busy_s: float
    idle_s: float

    @classmethod
    def parse(cls, stat: str) -> Self:
        """Read `/proc/stat`."""
        user, nice, system, idle, waiting, *interrupts = map(int, stat.partition("\n")[0].split()[1:9])
        busy = user + nice + system + sum(interrupts)
        return cls(busy / CLOCK_TICKS_PER_S, (idle + waiting) / CLOCK_TICKS_PER_S)


@dataclass(frozen=True)
class FileEntry:
    """What is compared of a file, a folder or a link: its mode with its kind, its owner, and what is in it.

    `modified_s` is a regular file's alone: the stock start-up makes folders and links anew at each boot.
    """

    mode: int
    owner: str
    size: int | None = None
    modified_s: int | None = None
    checksum: str | None = None
    target: str | None = None


# Everything but what has another life than the camera's flash: /tmp and, mounted below it, the card; the kernel's own
# file systems; and device nodes, but not what somebody put between them.
LISTING: Final = r"""
awk '$3 !~ /^(proc|sysfs|devpts|mqueue|vfat)$/ && $2 != "/tmp" && $2 !~ "^/tmp/" { print $2 }' /proc/mounts |
while read -r mount; do
  busybox find "$mount" -xdev ! -type b ! -type c -exec busybox stat -c 'stat %f %u:%g %s %Y %N' {} +
  busybox find "$mount" -xdev -type f -exec busybox md5sum {} +
done
"""
_STAT: Final = re.compile(r"stat ([0-9a-f]+) (\d+:\d+) (\d+) (\d+) '?(.*?)'?(?: -> '(.*)')?")
_MD5: Final = re.compile(r"([0-9a-f]{32})  (.*)")
_KIND: Final = 0o170000
_REGULAR: Final = 0o100000


def parse_listing(text: str) -> dict[str, FileEntry]:
    """Read what `LISTING` prints, by path; ValueError for a line that is none of it."""
    checksums: dict[str, str] = {}
    stats: list[re.Match[str]] = []
    for line in text.splitlines():
        if stat := _STAT.fullmatch(line):
            stats.append(stat)
        elif md5 := _MD5.fullmatch(line):
            checksums[md5[2]] = md5[1]
        else:
            raise ValueError(f"no line of a listing: {line!r}")
    entries: dict[str, FileEntry] = {}
    for mode_text, owner, size, modified, path, target in (stat.groups() for stat in stats):
        mode = int(mode_text, 16)
        if mode & _KIND == _REGULAR:
            entries[path] = FileEntry(mode, owner, int(size), int(modified), checksums[path])
        else:
            entries[path] = FileEntry(mode, owner, target=target)
    return entries


def differences(before: dict[str, FileEntry], after: dict[str, FileEntry]) -> list[str]:
    """Say, a line each, what is new, gone or otherwise."""
    return [
        f"{path}: {before.get(path, 'was not there')} -> {after.get(path, 'is gone')}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]
