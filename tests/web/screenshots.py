"""`scripts/screenshots`: the page as it looks, desktop and phone, light and dark, for docs/ and the README."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect

from tests.harness import AgentProcess
from tests.peers.broker import Broker
from tests.peers.camera import REPOSITORY, LiveCamera
from tests.peers.ports import free_port
from tests.peers.rtmp import RtmpServer
from tests.web.browser import DESKTOP, PATIENCE_MS, PHONE, page_agent, started, visit

# For a chart with something in it; the time is what is shown there, so nothing can be waited for instead.
LIVE_S = 50.0
SD_S = 30.0
LOOKS: dict[str, dict[str, Any]] = {
    "desktop-light": {"viewport": DESKTOP, "color_scheme": "light"},
    "desktop-dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "phone-light": {"viewport": PHONE, "color_scheme": "light", "device_scale_factor": 2, "is_mobile": True},
    "phone-dark": {"viewport": PHONE, "color_scheme": "dark", "device_scale_factor": 2, "is_mobile": True},
}


def main() -> int:
    """Take them all; 0."""
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY / "docs", help="where to (docs)")
    folder: Path = parser.parse_args().folder
    folder.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        Broker(Path(name) / "broker") as broker,
        LiveCamera(Path(name) / "camera") as camera,
        RtmpServer(Path(name) / "server") as server,
        page_agent(
            Path(name) / "front-door", broker, camera, snapshot={"enabled": True}, telemetry={"interval_s": 5}
        ) as agent,
        started() as browser,
    ):
        _go_live(browser, agent, server)
        for look, options in LOOKS.items():
            _shoot(browser, agent, folder / f"page-{look}.png", options)
        server.stop()
        for look in ("desktop-light", "phone-dark"):
            _shoot(browser, agent, folder / f"page-problem-{look}.png", LOOKS[look], phase="Not on air")
    return 0


def _go_live(browser: Browser, agent: AgentProcess, server: RtmpServer) -> None:
    with visit(browser, agent) as guest:
        page = guest.open()
        page.fill("#server", server.url())
        page.fill("#key", f"key-{free_port()}")
        page.click("#toggle")
        expect(page.locator("#phase")).to_have_text("On air", timeout=PATIENCE_MS)
        time.sleep(LIVE_S)
        page.check("[name=channel][value=sd]")
        page.click("#save")
        time.sleep(SD_S)
        page.check("[name=channel][value=auto]")
        page.click("#save")
        expect(page.locator("#fact-channel")).to_have_text("HD (auto)", timeout=PATIENCE_MS)
        time.sleep(LIVE_S)


def _shoot(browser: Browser, agent: AgentProcess, to: Path, look: dict[str, Any], phase: str = "On air") -> None:
    with visit(browser, agent, **look) as guest:
        page = guest.open()
        expect(page.locator("#phase")).to_have_text(phase, timeout=PATIENCE_MS)
        expect(page.locator("#now-stream")).not_to_have_text("–", timeout=PATIENCE_MS)
        expect(page.locator("#image")).to_be_visible(timeout=PATIENCE_MS)
        page.screenshot(path=to, full_page="is_mobile" not in look and phase == "On air")
        print(to)


if __name__ == "__main__":
    sys.exit(main())
