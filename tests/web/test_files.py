"""Small files: the old content or the new one, whole, whatever happens between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from yiagent.files import MOST_KEPT_ASIDE, remove_file, replace_file, set_aside


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Its owner alone may read it, whatever the one before allowed, and nothing else is left in the folder."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o666)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("what", ["fsync", "fdopen"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A full or broken card: the error comes through, and the old content stays."""
    path = tmp_path / "file"
    path.write_text("old")
    real = os.fdopen

    def fail(descriptor: int, *_: object) -> None:
        if what == "fdopen":
            os.close(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, what, fail)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    monkeypatch.setattr(os, "fdopen", real)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_removed_already(tmp_path: Path) -> None:
    """Removing twice is no error."""
    path = tmp_path / "file"
    path.write_text("x")
    remove_file(path)
    remove_file(path)
    assert not path.exists()


def test_few_are_kept_aside(tmp_path: Path) -> None:
    """A file that is damaged at every start does not fill the card: the last one is written over."""
    path = tmp_path / "file"
    for number in range(MOST_KEPT_ASIDE + 3):
        path.write_text(f"{number}")
        assert set_aside(path) is not None
        assert not path.exists()
    assert len(list(tmp_path.iterdir())) == MOST_KEPT_ASIDE
    assert (tmp_path / "file.unreadable-1").read_text() == "0"
    assert (tmp_path / f"file.unreadable-{MOST_KEPT_ASIDE}").read_text() == f"{MOST_KEPT_ASIDE + 2}"


def test_what_is_not_there_cannot_be_set_aside(tmp_path: Path) -> None:
    """None says that nothing was renamed."""
    assert set_aside(tmp_path / "missing") is None
