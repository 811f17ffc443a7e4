"""A page that is served in this process, for tests that change its constants or look into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.harness import WAIT_TIMEOUT_S
from tests.peers.ports import free_port
from tests.web.samples import snapshot
from tests.web.visitor import PASSWORD
from yiagent.brokerfile import BrokerFile
from yiagent.commands import Command
from yiagent.model import Info, Level
from yiagent.mqtt import MqttLink
from yiagent.mqttfront import MqttFront
from yiagent.redact import Redactor, Secret
from yiagent.settings import DiscoveryConfig, MqttConfig, TlsConfig, WebConfig
from yiagent.store import Journal, Store
from yiagent.web.front import WebFront
from yiagent.web.history import History
from yiagent.web.password import PagePassword
from yiagent.web.routes import Routes

INFO = Info(device="cam", name="Cam", agent="1", ffmpeg=None, python="3", machine="m", web=None)
NO_BROKER = MqttConfig(
    host=None,
    port=1883,
    username=None,
    password=None,
    tls=None,
    prefix="yiagent",
    keepalive_s=60,
    discovery=DiscoveryConfig(enabled=False, prefix="homeassistant"),
)


class Here:
    """A page served in this process: its store, its journal and its port."""

    def __init__(self, folder: Path, *, tls: TlsConfig | None = None) -> None:
        self.redactor = Redactor()
        self.store = Store(snapshot())
        self.journal = Journal(self.redactor, level=Level.DEBUG, clock=lambda: 1_800_000_000.0, monotonic=lambda: 0.0)
        self.port = free_port()
        self.mqtt = MqttFront(
            configured=NO_BROKER,
            device="cam",
            file=BrokerFile(folder),
            make_link=_no_link,
            store=self.store,
            journal=self.journal,
            redactor=self.redactor,
        )
        routes = Routes(
            store=self.store,
            journal=self.journal,
            history=History(),
            info=lambda: INFO,
            execute=_execute,
            mqtt=self.mqtt,
            channels=("sd",),
            takes_pictures=True,
        )
        config = WebConfig(enabled=True, host="127.0.0.1", port=self.port, password=Secret(PASSWORD), tls=tls)
        password = PagePassword(Secret(PASSWORD), fresh=False, file=None)
        self.front = WebFront(config, routes=routes, password=password, hostname="cam", journal=self.journal)

    @property
    def listeners(self) -> tuple[int, int]:
        """How many wait for news of the store, and of the journal."""
        return len(self.store._listeners), len(self.journal._listeners)

    @property
    def lines(self) -> list[str]:
        """What was logged."""
        return [line.message for line in self.journal.since(0)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when a condition holds."""
        async with asyncio.timeout(WAIT_TIMEOUT_S):
            while not condition():  # noqa: ASYNC110  # what is waited for tells nobody
                await asyncio.sleep(0.005)


def _no_link(config: MqttConfig) -> MqttLink:
    raise AssertionError("no broker is named")


async def _execute(command: Command) -> None:
    raise AssertionError("nothing is commanded here")


@asynccontextmanager
async def here(folder: Path) -> AsyncIterator[Here]:
    """A page that listens, and is gone afterwards with all who listened."""
    page = Here(folder)
    before = page.listeners
    serving = asyncio.create_task(page.front.run())
    try:
        await page.until(lambda: "The page is at" in "".join(line.message for line in page.journal.since(0)))
        yield page
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    await page.until(lambda: page.listeners == before)


async def off_loop(work: Callable[[], object]) -> None:
    """Have something that blocks done beside the page's loop."""
    await asyncio.to_thread(work)
