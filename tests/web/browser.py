"""A real Chromium on the page of a real agent, and what tests ask of it. Everything waits for conditions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.harness import AgentProcess
from tests.peers.broker import Broker
from tests.peers.camera import LiveCamera
from tests.peers.ports import accepts, free_port

PASSWORD = "made-up page password"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
SMALLEST = {"width": 320, "height": 640}
# Other tests may want the processor too; what is waited for is exact instead.
PATIENCE_MS = 20_000
# Nothing of the browser's own may leave this machine.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def chromium() -> str:
    """The program. Where there is none a test is left out, but never on CI."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and "CI" not in os.environ:
        pytest.skip("no chromium on this machine")
    assert found is not None, "no chromium on this machine"
    return found


@contextmanager
def started() -> Iterator[Browser]:
    """Chromium, running for many tests."""
    program = chromium()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One page in a window of its own, and everything it complained of."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(f"{error}"))
        self.page.on("console", self._console)
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self) -> Page:
        """Load the page and wait until it hears the agent."""
        self.page.goto(self.url)
        expect(self.page.locator("body")).to_have_class("heard", timeout=PATIENCE_MS)
        return self.page

    def _console(self, message: Any) -> None:
        # A connection that the agent's own end cut off is what the page is there to bear.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)


@contextmanager
def visit(browser: Browser, agent: AgentProcess, *, login: bool = True, **options: Any) -> Iterator[Visit]:
    """A window on the agent's page; at its end nothing may have been complained of."""
    options.setdefault("viewport", DESKTOP)
    if login:
        options["http_credentials"] = {"username": "yiagent", "password": PASSWORD}
    context = browser.new_context(locale="en-GB", timezone_id="Europe/Berlin", **options)
    guest = Visit(context, page_url(agent))
    try:
        yield guest
        assert guest.complaints == []
    finally:
        context.close()


def page_url(agent: AgentProcess) -> str:
    """Where the agent serves its page."""
    return f"http://127.0.0.1:{agent.config['web']['port']}/"


class PageAgent(AgentProcess):
    """An agent that is ready when its page is."""

    def is_ready(self) -> bool:
        """It obeys, and it listens."""
        return super().is_ready() and accepts(self.config["web"]["port"])


def page_agent(folder: Path, broker: Broker | None, camera: LiveCamera | None = None, **sections: Any) -> PageAgent:
    """An agent with a page; not started yet."""
    config: dict[str, Any] = {
        "device": {"id": folder.name[:40].replace("[", "-").replace("]", "-"), "name": "Front door"},
        "web": {"enabled": True, "host": "127.0.0.1", "port": free_port(), "password": PASSWORD},
        **sections,
    }
    if camera is not None:
        config.setdefault("source", {"hd": camera.hd_url, "sd": camera.sd_url})
    return PageAgent(folder, broker_port=broker.port if broker is not None else None, config=config)


def faults_of_access(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it stands, for people who do not see or point."""
    results = Axe().run(page)
    return [
        f"{found['id']}: {[node['html'][:120] for node in found['nodes']]}" for found in results.response["violations"]
    ]
