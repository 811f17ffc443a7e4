"""The document: one request, small, and nothing in it that the browser is not told to trust."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
import zlib
from base64 import b64encode
from pathlib import Path

import pytest

from tests.peers.camera import REPOSITORY
from yiagent.web.page import Page, load_page

MOST_BYTES = 40_000


@pytest.fixture(scope="module")
def page() -> Page:
    return load_page(takes_pictures=True)


def inner(page: Page, tag: str) -> str:
    found = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page.plain.decode(), re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def test_it_is_small(page: Page) -> None:
    """As sent."""
    assert len(page.compressed) < MOST_BYTES
    assert zlib.decompress(page.compressed, 31) == page.plain


@pytest.mark.parametrize(("tag", "directive"), [("script", "script-src"), ("style", "style-src")])
def test_the_policy_names_what_stands_in_it(page: Page, tag: str, directive: str) -> None:
    """By the hash that the browser computes over the same bytes; and nothing else is trusted."""
    digest = b64encode(hashlib.sha256(inner(page, tag).encode()).digest()).decode()
    assert f"{directive} 'sha256-{digest}'" in page.policy.split("; ")
    assert "unsafe" not in page.policy
    assert "default-src 'none'" in page.policy
    assert "frame-ancestors 'none'" in page.policy


def test_it_is_one_document(page: Page) -> None:
    """Nothing is fetched besides, neither from here nor from another host; no handler or style stands in a tag."""
    markup = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page.plain.decode(), flags=re.DOTALL)
    assert re.findall(r'\s(?:src|href|action|srcset)="(?!#|data:)[^"]*"', markup) == []
    assert re.findall(r"\s(?:on\w+|style)=", markup) == []
    assert "@import" not in inner(page, "style")
    assert "url(" not in inner(page, "style")
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", inner(page, "script")) == []


def test_there_is_room_for_a_picture_only_where_there_will_be_one() -> None:
    """It is known before the first paint."""
    with_pictures, without = load_page(takes_pictures=True), load_page(takes_pictures=False)
    assert b'class="frame small"' in without.plain
    assert b'class="frame small"' not in with_pictures.plain
    assert with_pictures.tag != without.tag


def test_it_is_found_in_a_zip(tmp_path: Path, page: Page) -> None:
    """On a camera's card the package is one."""
    archive = tmp_path / "yiagent.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in (REPOSITORY / "yiagent").rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                packed.write(file, file.relative_to(REPOSITORY))
    program = (
        f"import sys; sys.path.insert(0, {str(archive)!r}); import yiagent; from yiagent.web.page import load_page;"
        "assert '.zip' in yiagent.__file__; print(load_page(takes_pictures=True).tag)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == page.tag, done.stderr
