"""SD cards as files: partitioned, formatted, filled and read without mounting anything, so without root."""

import os
import struct
import subprocess
from pathlib import Path
from typing import Final

from tests.peers.process import PeerError, find_program

SECTOR: Final = 512
# Where every card's partition begins, and in front of it the table that says so.
FIRST_SECTOR: Final = 2048
FAT32_LBA: Final = 0x0C
CLUSTER_SECTORS: Final = 8
TOOL_TIMEOUT_S: Final = 60.0


class CardImage:
    """One card with one FAT32 partition, as shops sell them; sparse on disk. Not to be touched while a camera has it.

    `size_mb`: a power of two, for qemu takes no other card; below 512, clusters of 4 kB are too few for FAT32.
    """

    def __init__(self, file: Path, *, size_mb: int = 512) -> None:
        if size_mb < 512 or size_mb & (size_mb - 1):
            raise ValueError(f"a card of {size_mb} MB")
        self.file = file
        self._bytes = size_mb << 20

    def format(self) -> None:
        """Make it empty."""
        sectors = self._bytes // SECTOR - FIRST_SECTOR
        # Addresses by cylinder, head and sector, which nothing reads any more, are the highest there are.
        partition = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", FAT32_LBA, b"\xfe\xff\xff", FIRST_SECTOR, sectors)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("wb") as image:
            image.write(bytes(446) + partition + bytes(48) + b"\x55\xaa")
            image.truncate(self._bytes)
        _tool("mkfs.fat", "-F", "32", "-s", f"{CLUSTER_SECTORS}", "-n", "CARD", f"--offset={FIRST_SECTOR}", self.file)

    def copy_in(self, folder: Path) -> None:
        """Put what is in a folder onto the card, over what is there by the same names."""
        entries = sorted(folder.iterdir())
        if entries:
            self._mtool("mcopy", "-s", "-o", "-Q", *entries, "::/")

    def copy_out(self, folder: Path) -> None:
        """Put all of the card into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.names():
            self._mtool("mcopy", "-s", "-o", "-Q", "-m", "::/*", folder)

    def names(self) -> list[str]:
        """Give the names of all its files, with their folders, in order."""
        listed = self._mtool("mdir", "-b", "-a", "-/", "::/").decode()
        return sorted(line.removeprefix("::/") for line in listed.splitlines() if not line.endswith("/"))

    def read(self, name: str) -> bytes:
        """Give a file's content."""
        return self._mtool("mtype", f"::/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Put a file there; its folder has to be there."""
        self._mtool("mcopy", "-o", "-Q", "-", f"::/{name}", content=content)

    def remove(self, name: str) -> None:
        """Take a file away."""
        self._mtool("mdel", f"::/{name}")

    def _mtool(self, program: str, *arguments: str | Path, content: bytes = b"") -> bytes:
        return _tool(program, "-i", f"{self.file}@@{FIRST_SECTOR * SECTOR}", *arguments, content=content)


def _tool(program: str, *arguments: str | Path, content: bytes = b"") -> bytes:
    # mtools: no settings of the machine's or its user's, and no complaint about a card that lost its power.
    environment = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
    command = [find_program(program), *map(str, arguments)]
    done = subprocess.run(command, input=content, capture_output=True, env=environment, timeout=TOOL_TIMEOUT_S)
    if done.returncode != 0:
        raise PeerError(f"{program} {arguments[-1]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
