"""The page listens, or says once why it cannot and goes on trying; what it says of itself is true."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path
from ssl import SSLContext

import pytest

from tests.peers.certificates import Certificates
from tests.peers.ports import accepts
from tests.web.here import Here
from tests.web.visitor import PASSWORD
from yiagent.redact import Secret
from yiagent.settings import TlsConfig
from yiagent.web import front
from yiagent.web.password import PagePassword


def counted(page: Here, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One item for each time that the page has tried to listen."""
    tries: list[None] = []
    real = page.front._tls

    def count() -> SSLContext | None:
        tries.append(None)
        return real()

    monkeypatch.setattr(page.front, "_tls", count)
    return tries


async def run_until(page: Here, condition: str) -> None:
    """Serve until a line of the log holds this."""
    serving = asyncio.create_task(page.front.run())
    try:
        await page.until(lambda: any(condition in line for line in page.lines))
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "(No such file or directory) (web.tls)"),
        ("folder", "(Is a directory) (web.tls)"),
        ("garbage", "cannot be used (web.tls)"),
        ("another's key", "cannot be used (web.tls)"),
    ],
)
def test_a_bad_certificate_is_told_and_looked_at_again(
    any_certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    """With the setting that is to be mended, once; the page is there as soon as the files are good."""
    monkeypatch.setattr(front, "LISTEN_AGAIN_S", 0.01)
    good = any_certificates.server
    certificate, key = tmp_path / "page.crt", tmp_path / "page.key"
    shutil.copy(good.cert_file, certificate)
    if fault == "folder":
        key.mkdir()
    elif fault == "garbage":
        key.write_text("no key")
    elif fault == "another's key":
        shutil.copy(any_certificates.client.key_file, key)

    async def play() -> None:
        page = Here(tmp_path, tls=TlsConfig(None, certificate, key))
        tries = counted(page, monkeypatch)
        serving = asyncio.create_task(page.front.run())
        await page.until(lambda: len(tries) > 3)
        [line] = page.lines
        assert words in line
        assert "web.host" not in line
        assert "Streaming goes on" in line
        if fault == "folder":
            key.rmdir()
        shutil.copy(good.key_file, key)
        await page.until(lambda: any(f"The page is at https://127.0.0.1:{page.port}/" in line for line in page.lines))
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(play())


def test_a_taken_port_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is tried; after the page is gone nothing listens any more."""
    monkeypatch.setattr(front, "LISTEN_AGAIN_S", 0.01)
    page = Here(tmp_path)
    taken = socket.create_server(("127.0.0.1", page.port))

    tries = counted(page, monkeypatch)

    async def play() -> None:
        serving = asyncio.create_task(run_until(page, "The page is at"))
        await page.until(lambda: len(tries) > 3)
        taken.close()
        await serving

    asyncio.run(play())
    assert [line.partition(": ")[2] for line in page.lines if "cannot be served" in line] == [
        "Address already in use (web.host, web.port). Streaming goes on; trying again for ever"
    ]
    assert not accepts(page.port)


def test_a_new_password_is_shown_when_the_page_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the console, once, though the page had to wait for its port or begin anew; the log has only where it is."""
    page = Here(tmp_path)
    password = PagePassword(Secret(PASSWORD), fresh=True, file=tmp_path / "web-password")
    monkeypatch.setattr(page.front, "_password", password)

    async def play() -> None:
        await run_until(page, "The page is at")
        await run_until(page, "The page is at")

    asyncio.run(play())
    shown = capsys.readouterr()
    assert shown.err.count(PASSWORD) == 1
    assert shown.out == ""
    assert f"its password is in {tmp_path / 'web-password'}" in page.lines[0]
    assert PASSWORD not in "".join(page.lines)
