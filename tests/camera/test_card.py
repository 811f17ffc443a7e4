"""SD cards as files."""

import shutil
from pathlib import Path

import pytest

from tests.camera.card import FIRST_SECTOR, SECTOR, CardImage
from tests.peers.process import SEARCH_PATH, PeerError

pytestmark = pytest.mark.skipif(
    not all(shutil.which(name, path=SEARCH_PATH) for name in ("mkfs.fat", "mcopy")),
    reason="dosfstools or mtools is not installed; scripts/test-camera installs them",
)


def test_what_is_put_onto_a_card_comes_off_it(tmp_path: Path) -> None:
    """Folders, long names and every byte."""
    content = tmp_path / "content"
    (content / "yiagent" / "lib").mkdir(parents=True)
    (content / "A long name with spaces.txt").write_bytes(b"\xef\xbb\xbfx: 1\r\n")
    (content / "yiagent" / "lib" / "python311.zip").write_bytes(bytes(range(256)) * 100)
    card = CardImage(tmp_path / "card.img")
    card.format()
    card.copy_in(content)
    card.write("yiagent/DISABLE", b"")
    assert card.names() == ["A long name with spaces.txt", "yiagent/DISABLE", "yiagent/lib/python311.zip"]
    assert card.read("A long name with spaces.txt") == b"\xef\xbb\xbfx: 1\r\n"
    card.remove("yiagent/DISABLE")
    card.copy_out(tmp_path / "out")
    found = {path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert found == {path.relative_to(content): path.read_bytes() for path in content.rglob("*.*")}
    with pytest.raises(PeerError, match="mtype"):
        card.read("yiagent/DISABLE")


def test_a_card_is_partitioned(tmp_path: Path) -> None:
    """One FAT32 partition that the camera's kernel finds by the table in the first sector, and sparse on disk."""
    card = CardImage(tmp_path / "card.img")
    card.format()
    with card.file.open("rb") as image:
        assert image.read(SECTOR).endswith(b"\x55\xaa")
        image.seek(FIRST_SECTOR * SECTOR)
        assert image.read(SECTOR)[82:90] == b"FAT32   "
    status = card.file.stat()
    assert status.st_size == 512 << 20
    assert status.st_blocks * 512 < 4 << 20
