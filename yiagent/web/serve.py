"""Puts the page together, and with what it needs of the agent. Imported only where there is a page."""

from __future__ import annotations

import socket
import time

from yiagent.about import About
from yiagent.agent import Agent
from yiagent.model import Channel, Telemetry
from yiagent.mqttfront import MqttFront
from yiagent.redact import Redactor
from yiagent.settings import PAGE_USER, Config
from yiagent.store import Journal, Store
from yiagent.web.front import WebFront
from yiagent.web.history import History
from yiagent.web.password import PagePassword
from yiagent.web.routes import Routes


async def serve_page(
    config: Config,
    store: Store,
    journal: Journal,
    redactor: Redactor,
    about: About,
    agent: Agent,
    mqtt: MqttFront,
) -> None:
    """Make the page's parts and serve it until cancelled."""
    password = PagePassword.load(config.web.password, config.state_dir, journal)
    redactor.learn(password.secret, user=PAGE_USER, keep=True)
    history = History()
    last: Telemetry | None = None

    def take() -> None:
        nonlocal last
        if store.telemetry is not None and store.telemetry is not last:
            last = store.telemetry
            history.add(last, time.monotonic())

    routes = Routes(
        store=store,
        journal=journal,
        history=history,
        info=about.info,
        execute=agent.execute,
        mqtt=mqtt,
        channels=tuple(channel for channel in Channel if channel is Channel.AUTO or config.source.url(channel)),
        takes_pictures=config.snapshot_enabled,
    )
    front = WebFront(config.web, routes=routes, password=password, hostname=socket.gethostname(), journal=journal)
    store.listen(take)
    try:
        await front.run()
    finally:
        store.forget(take)
