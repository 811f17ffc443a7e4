"""How much memory can be had: the kernel's own figure where it has one, and what its parts add up to where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from yiagent import memory
from yiagent.memory import memory_available_kb, was_killed_for_memory

# As the kernel of a camera tells it (3.0.8, fs/proc/meminfo.c): no MemAvailable, and 4 MB of the cache are in /tmp.
OLD_KERNEL = """\
MemTotal:          35976 kB
MemFree:            4820 kB
Buffers:             312 kB
Cached:            11904 kB
SwapCached:            0 kB
Active:            14200 kB
Inactive:           8060 kB
Active(anon):      10804 kB
Inactive(anon):     4076 kB
Active(file):       3396 kB
Inactive(file):     3984 kB
Unevictable:           0 kB
Mlocked:               0 kB
Dirty:                 0 kB
Writeback:             0 kB
AnonPages:         10020 kB
Mapped:             5432 kB
Shmem:              4100 kB
Slab:               4012 kB
SReclaimable:       1260 kB
SUnreclaim:         2752 kB
"""


@pytest.mark.parametrize(
    ("text", "available_kb"),
    [
        ("MemTotal: 35976 kB\nMemFree: 4820 kB\nMemAvailable:   9001 kB\nCached: 11904 kB\n", 9001),
        (OLD_KERNEL, 4820 + 312 + 11904 - 4100),
        (f"{OLD_KERNEL}MemAvailable: 0 kB\n", 4820 + 312 + 11904 - 4100),
        ("MemFree: 4820 kB\n", 4820),
        ("MemFree: 4820 kB\nCached: 100 kB\nShmem: 200 kB\n", 4820),
        ("MemFree: 0 kB\n", 0),
        ("", None),
        ("MemTotal: 35976 kB\n", None),
        ("MemFree: much\n", None),
        ("MemFree:\n", None),
    ],
)
def test_what_can_be_had(tmp_path: Path, text: str, available_kb: int | None) -> None:
    """Before Linux 3.14: free, cached and buffers, without what lies in a tmpfs; unknown is None, never 0."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(text)
    assert memory_available_kb(meminfo) == available_kb


def test_where_it_cannot_be_read(tmp_path: Path) -> None:
    """No such file, a folder: unknown, and no error. This machine's own can be read."""
    assert memory_available_kb(tmp_path / "none") is None
    assert memory_available_kb(tmp_path) is None
    assert (memory_available_kb() or 0) > 0


def test_a_kernel_that_counts_no_kills_gets_the_benefit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before 4.13 nothing tells why ffmpeg got SIGKILL; on a small machine there is hardly another cause."""
    vmstat = tmp_path / "vmstat"
    monkeypatch.setattr(memory, "_VMSTAT", vmstat)
    vmstat.write_text("nr_free_pages 1\noom_kill 2\n")
    assert (was_killed_for_memory(2), was_killed_for_memory(1)) == (False, True)
    vmstat.write_text("nr_free_pages 1\n")
    assert memory.oom_kills() is None
    assert was_killed_for_memory(None)
    vmstat.unlink()
    assert was_killed_for_memory(None)
