"""Which broker the agent is on: the configuration's, or the one set on the page; and the change between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from yiagent.brokerchoice import BrokerChoice, ChoiceUnreadable
from yiagent.brokerfile import BrokerFile
from yiagent.commands import RefusalCode, Refused
from yiagent.lean import bring_ssl_back
from yiagent.model import BrokerStatus
from yiagent.mqtt import MqttLink
from yiagent.probe import BrokerLost, probe_broker
from yiagent.redact import Redactor
from yiagent.settings import MqttConfig
from yiagent.store import Journal, Store
from yiagent.threads import in_daemon_thread

# A broker that is left for another one gets this long to hear of it.
LEAVE_S: Final = 2.5


@dataclass(frozen=True, slots=True)
class Trial:
    """What a broker answered to a connection that was only tried."""

    accepted: bool
    message: str


class MqttFront:
    """Runs one link at a time. `make_link` makes the link to one broker; none is made where no broker is named."""

    def __init__(
        self,
        *,
        configured: MqttConfig,
        device: str,
        file: BrokerFile,
        make_link: Callable[[MqttConfig], MqttLink],
        store: Store,
        journal: Journal,
        redactor: Redactor,
    ) -> None:
        self._configured = configured
        self._device = device
        self._file = file
        self._make_link = make_link
        self._store = store
        self._journal = journal
        self._redactor = redactor
        self._choice = self._load()
        self._link: MqttLink | None = None
        self._changed = asyncio.Event()
        self._stopping = False
        self._turn = asyncio.Lock()
        self._trying = False

    @property
    def configured(self) -> MqttConfig:
        """The broker of the configuration."""
        return self._configured

    @property
    def current(self) -> MqttConfig:
        """The broker that holds now."""
        return self._choice.over(self._configured) if self._choice is not None else self._configured

    @property
    def is_chosen(self) -> bool:
        """Whether it was set on the page."""
        return self._choice is not None

    async def run(self) -> None:
        """Be on the broker that holds, for ever, until `stop`."""
        while not self._stopping:
            self._changed.clear()
            config = self.current
            if config.host is None:
                self._store.put_broker(BrokerStatus(connected=False))
                await self._changed.wait()
                continue
            if config.tls is not None:
                # The configuration's may want it though the agent was started on one that did not.
                bring_ssl_back()
            link = self._link = self._make_link(config)
            running = asyncio.create_task(link.run())
            try:
                await self._until_changed(running)
                if not running.done():
                    await self._leave(link, running)
                if running.done() and not running.cancelled():
                    running.result()
            finally:
                self._link = None
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    def news(self) -> None:
        """There is something for the broker to hear: `info` may have changed."""
        if self._link is not None:
            self._link.news()

    async def stop(self) -> None:
        """Publish `offline` where there is a connection, and end `run`."""
        self._stopping = True
        self._changed.set()
        if self._link is not None:
            await self._link.stop()

    # --- what the page does ---

    async def attempt(self, choice: BrokerChoice) -> Trial:
        """Connect to a broker under another client id than the agent's, and hang up; changes nothing.

        Raises `Refused` while another try is under way.
        """
        if self._trying:
            raise Refused(RefusalCode.NOT_AVAILABLE, "a broker is being tried already: wait for its answer")
        config = choice.over(self._configured)
        if config.tls is not None:
            bring_ssl_back()
        # For this answer alone: the words of a hundred tries would push the stream key out of what is remembered.
        mask = Redactor()
        mask.learn(choice.password, user=choice.username)
        self._trying = True
        try:
            async with probe_broker(config, f"yiagent-{self._device}-try") as probe:
                version = "5" if probe.connection.mqtt5 else "3.1.1"
                return Trial(True, f"The broker lets this agent in (MQTT {version}).")
        except BrokerLost as lost:
            return Trial(False, mask.redact(self._redactor.redact(str(lost))))
        except TimeoutError:
            return Trial(False, "it takes the connection but does not answer")
        finally:
            self._trying = False

    async def choose(self, choice: BrokerChoice | None) -> None:
        """Keep `choice` from now on and connect to it; None: back to the configuration's. Raises `Refused`."""
        async with self._turn:
            if choice is not None:
                self._redactor.learn(choice.password, user=choice.username, keep=True)
            try:
                await in_daemon_thread(lambda: self._file.save(choice))
            except OSError as error:
                message = f"it could not be saved in {self._file.path.parent} ({error.strerror}); nothing was changed"
                raise Refused(RefusalCode.NOT_AVAILABLE, message) from None
            self._choice = choice
            where = "the configuration's" if choice is None else f"{choice.host}:{choice.port}, as set on the page"
            self._journal.info(f"The MQTT broker is now {where}")
            # Told before the link has said anything of its own: what was so of the old broker is not so of this one.
            self._store.put_broker(BrokerStatus(connected=False))
            self._changed.set()

    # --- the link ---

    async def _until_changed(self, running: asyncio.Task[None]) -> None:
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({running, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    async def _leave(self, link: MqttLink, running: asyncio.Task[None]) -> None:
        leaving = asyncio.create_task(link.stop())
        await asyncio.wait({leaving, running}, timeout=LEAVE_S)
        leaving.cancel()
        await asyncio.wait({running}, timeout=0.1)

    def _load(self) -> BrokerChoice | None:
        try:
            choice = self._file.load()
        except ChoiceUnreadable as problem:
            aside = self._file.set_aside()
            where = f"kept as {aside.name}" if aside is not None else "it could not be renamed and stays where it is"
            self._journal.error(
                f"The broker set on the page, {self._file.path}, cannot be used: {problem}; {where}. "
                "The configuration's broker is used: set it on the page again"
            )
            return None
        if choice is not None:
            self._redactor.learn(choice.password, user=choice.username, keep=True)
            self._journal.info(f"The MQTT broker set on the page ({choice.host}:{choice.port}) wins over the file's")
        return choice
