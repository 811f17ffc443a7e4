"""What is read of an emulated camera's own words; nothing is emulated here."""

import pytest

from tests.camera.figures import (
    CpuTime,
    FileEntry,
    MachineCpu,
    MachineMemory,
    ProcessMemory,
    differences,
    parse_listing,
)

MEMINFO = """\
MemTotal:          31596 kB
MemFree:           13692 kB
Buffers:             204 kB
Cached:             2392 kB
SwapCached:            0 kB
AnonPages:         11680 kB
Shmem:                12 kB
Slab:               3164 kB
SwapTotal:             0 kB
SwapFree:              0 kB
"""
LISTING = """\
stat 81ed 0:0 3 1448993460 /home/version
stat 41ed 0:0 1024 1448993460 /home/a folder
stat a1ff 0:0 16 1448993460 '/etc/resolv.conf' -> '/tmp/resolv.conf'
764efa883dda1e11db47671c4a3bbd9e  /home/version
"""


def test_what_can_be_had_leaves_out_what_lies_in_tmp() -> None:
    """Cached counts tmpfs too, which nothing can drop."""
    memory = MachineMemory.parse(MEMINFO)
    assert memory.available_kb == 13692 + 204 + 2392 - 12
    assert (memory.total_kb, memory.anonymous_kb, memory.slab_kb, memory.swap_free_kb) == (31596, 11680, 3164, 0)


def test_memory_of_a_process_is_the_sum_of_its_mappings() -> None:
    """`AnonHugePages`, which begins alike, is none of it."""
    smaps = "Rss: 40 kB\nAnonymous: 8 kB\nAnonHugePages: 0 kB\nSwap: 4 kB\nRss: 2 kB\nAnonymous: 2 kB\nSwap: 0 kB\n"
    status = "Name:\tx\nVmHWM:\t      52 kB\nVmRSS:\t      42 kB\n"
    assert ProcessMemory.parse(smaps, status) == ProcessMemory(42, 10, 4, 52)


def test_a_process_may_be_called_anything() -> None:
    """Its name stands in parentheses, and may hold some."""
    assert CpuTime.parse("70 (a) b) S 1 70 70 0 -1 4194304 97 0 0 0 150 25 0 0 20 0 1 0 120") == CpuTime(1.5, 0.25)
    assert CpuTime(1.5, 0.25).total_s == 1.75


def test_the_processor_waits_for_disks_without_being_busy() -> None:
    """What interrupts take is work."""
    stat = "cpu  100 2 50 1000 30 5 13 0 0 0\ncpu0 100 2 50 1000 30 5 13 0 0 0\nintr 5\n"
    assert MachineCpu.parse(stat) == MachineCpu(1.7, 10.3)


def test_a_listing_is_read() -> None:
    """A file has size, time and checksum, a link its target, a folder neither."""
    assert parse_listing(LISTING) == {
        "/home/version": FileEntry(0o100755, "0:0", 3, 1448993460, "764efa883dda1e11db47671c4a3bbd9e"),
        "/home/a folder": FileEntry(0o040755, "0:0"),
        "/etc/resolv.conf": FileEntry(0o120777, "0:0", target="/tmp/resolv.conf"),
    }


def test_a_listing_with_an_error_in_it_is_none() -> None:
    """What could not be looked at must not pass for what has not changed."""
    with pytest.raises(ValueError, match="cannot open"):
        parse_listing(LISTING + "md5sum: cannot open /home/rmm: I/O error\n")


def test_what_is_new_gone_or_otherwise_is_told() -> None:
    """Each by its path, in order."""
    before = parse_listing(LISTING)
    after = {**before, "/new": FileEntry(0o040755, "0:0"), "/home/a folder": FileEntry(0o040777, "0:0")}
    del after["/etc/resolv.conf"]
    assert [line.partition(":")[0] for line in differences(before, after)] == [
        "/etc/resolv.conf",
        "/home/a folder",
        "/new",
    ]
    assert not differences(before, dict(before))
