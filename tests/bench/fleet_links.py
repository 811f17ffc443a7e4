"""A process of real agents' links to the broker, as many as it is told: their own code, without camera and ffmpeg."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.fleet_cameras import INTERVAL_S, Part, config_of, info_of, sample, snapshot_of
from tests.bench.fleet_child import ATTEMPTS, Attempts, obey
from yiagent import mqtt
from yiagent.announced import AnnouncedFile
from yiagent.announcer import Announcer
from yiagent.broker import Connected, Connection, Event
from yiagent.commands import Command
from yiagent.model import Level, Telemetry
from yiagent.redact import Redactor
from yiagent.store import Journal, Store

START = "start"
attempts = Attempts()


class CountedConnection(Connection):
    """The agent's, and its attempt noted down."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        accepted, post = attempts.begin(), options["post"]

        def noted(event: Event) -> None:
            if isinstance(event, Connected):
                accepted()
            post(event)

        super().__init__(*arguments, **{**options, "post": noted})


async def _nothing(command: Command) -> None:
    """Carry nothing out."""


async def _live(number: int, part: Part, folder: Path, measured: Telemetry) -> None:
    """One agent's link, and a sample for it at every interval."""
    config = config_of(number, part, folder)
    config.state_dir.mkdir()
    info = info_of(config)
    journal = Journal(Redactor(), level=Level.INFO, clock=time.time, monotonic=time.monotonic)
    store = Store(snapshot_of(number))
    announcer = Announcer(config, lambda: info, AnnouncedFile(config.state_dir), journal)
    link = mqtt.MqttLink(
        config=config.mqtt,
        device=config.device.id,
        store=store,
        journal=journal,
        info=lambda: info,
        execute=_nothing,
        announcer=announcer,
    )
    await asyncio.sleep(part.spread_s * (number - part.first) / part.count)
    running = asyncio.create_task(link.run())
    due = time.monotonic()
    while not running.done():
        store.put_telemetry(replace(measured, ts=time.time()))
        due += INTERVAL_S
        await asyncio.sleep(due - time.monotonic())
    running.result()


async def _main() -> None:
    part = Part.of_arguments()
    vars(mqtt)["Connection"] = CountedConnection
    lives: list[asyncio.Task[None]] = []
    measured = sample()

    def start() -> None:
        lives.extend(asyncio.create_task(_live(number, part, folder, measured)) for number in part.numbers())

    with TemporaryDirectory() as name:
        folder = Path(name)
        await obey({START: start, ATTEMPTS: attempts.take})


if __name__ == "__main__":
    asyncio.run(_main())
