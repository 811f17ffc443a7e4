"""The page's password: the owner's, or one that is made once."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from yiagent.model import Level
from yiagent.redact import Redactor, Secret
from yiagent.store import Journal
from yiagent.web.password import ALPHABET, FILE_NAME, PagePassword


@pytest.fixture
def journal() -> Journal:
    return Journal(Redactor(), level=Level.DEBUG, clock=lambda: 0.0, monotonic=lambda: 0.0)


def test_the_configured_one_holds(tmp_path: Path, journal: Journal) -> None:
    """And nothing is written."""
    password = PagePassword.load(Secret("mine"), tmp_path, journal)
    assert (password.secret.reveal(), password.fresh, password.file) == ("mine", False, None)
    assert list(tmp_path.iterdir()) == []


def test_one_is_made_once_and_kept(tmp_path: Path, journal: Journal) -> None:
    """For its owner's eyes alone, easy to type, and the same after a restart."""
    made = PagePassword.load(None, tmp_path, journal)
    file = tmp_path / FILE_NAME
    assert made.fresh
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    groups = made.secret.reveal().split("-")
    assert [len(group) for group in groups] == [4, 4, 4]
    assert set("".join(groups)) <= set(ALPHABET)
    again = PagePassword.load(None, tmp_path, journal)
    assert (again.secret, again.fresh, again.file) == (made.secret, False, file)


def test_no_two_are_alike(tmp_path: Path, journal: Journal) -> None:
    """Each machine has its own."""
    made = set()
    for number in range(50):
        (tmp_path / f"{number}").mkdir()
        made.add(PagePassword.load(None, tmp_path / f"{number}", journal).secret.reveal())
    assert len(made) == 50


def test_an_owner_may_write_it_by_hand(tmp_path: Path, journal: Journal) -> None:
    """With an editor of any system."""
    (tmp_path / FILE_NAME).write_bytes("\ufeffmy own word\r\n".encode())
    assert PagePassword.load(None, tmp_path, journal).secret.reveal() == "my own word"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"two\nlines"])
def test_a_file_that_holds_none_is_replaced(tmp_path: Path, journal: Journal, content: bytes) -> None:
    """Rather than locking the owner out."""
    (tmp_path / FILE_NAME).write_bytes(content)
    made = PagePassword.load(None, tmp_path, journal)
    assert made.fresh
    assert (tmp_path / FILE_NAME).read_text().strip() == made.secret.reveal()


def test_a_folder_that_cannot_be_written(tmp_path: Path, journal: Journal) -> None:
    """There is one all the same, and it is told that it will not be kept; itself stands in no log."""
    made = PagePassword.load(None, tmp_path / "missing", journal)
    assert made.fresh
    assert made.file is None
    told = [line.message for line in journal.since(0)]
    assert any("could not be kept" in line for line in told)
    assert made.secret.reveal() not in "".join(told)
