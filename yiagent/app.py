"""The composition root: everything is made here, started top-down and stopped in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from yiagent import __version__
from yiagent.about import About
from yiagent.agent import Agent, empty_snapshot
from yiagent.announced import AnnouncedFile
from yiagent.brokerfile import BrokerFile
from yiagent.child import watch_by_descriptor
from yiagent.console import Console, catch_library_logs
from yiagent.guard import Guard
from yiagent.installed import FfmpegUnusable, InstalledFfmpeg
from yiagent.intent import Intent, IntentFile, IntentUnreadable
from yiagent.lock import AlreadyRunning, state_folder
from yiagent.machine import Limits
from yiagent.memory import AGENT_OOM_SCORE, offer_to_oom_killer
from yiagent.model import Phase
from yiagent.mqtt import MqttLink
from yiagent.mqttfront import MqttFront
from yiagent.redact import Redactor
from yiagent.service import ServiceManager
from yiagent.settings import Config, MqttConfig
from yiagent.store import Journal, Store
from yiagent.supervisor import Supervisor
from yiagent.vitals import Vitals

if TYPE_CHECKING:
    from yiagent.announcer import Announcer
    from yiagent.picture import Pictures
    from yiagent.tap import Tap

# From a request to stop to the end of everything, 10 s: ffmpeg gets the most of it.
STOP_FFMPEG_S: Final = 7.0
STOP_LINK_S: Final = 2.5
STOP_PICTURE_S: Final = 0.5
RESTART_FRONT_END_S: Final = 5.0
JOURNAL_TICK_S: Final = 5.0


def run(config: Config) -> int:
    """Run the agent until SIGTERM or SIGINT; the exit status."""
    redactor = Redactor()
    for secret, user in config.secrets:
        redactor.learn(secret, user=user, keep=True)
    journal = Journal(redactor, level=config.log_level, clock=time.time, monotonic=time.monotonic)
    Console(journal, sys.stderr)
    catch_library_logs(journal)
    try:
        with state_folder(config.state_dir, journal) as lock:
            asyncio.run(_serve(config, redactor, journal, lock))
    except AlreadyRunning:
        journal.error(f"Another yiagent runs with {config.state_dir}; give each camera a state_dir of its own")
        return 1
    except Exception as error:
        # Through the journal, so that no secret stands in a traceback; the service manager starts the agent again.
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
        journal.error(f"An error in yiagent itself ended it: {what}")
        return 1
    return 0


async def _serve(config: Config, redactor: Redactor, journal: Journal, lock: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    journal.info(f"yiagent {__version__} for {config.device.name} ({config.device.id})")

    watch_by_descriptor()
    manager = ServiceManager()
    offer_to_oom_killer(os.getpid(), AGENT_OOM_SCORE)
    guard = Guard(keep_open=(lock,) if lock is not None else ())
    try:
        guard.start()
    except OSError as error:
        journal.warning(f"No /bin/sh ({error.strerror}): if this agent is killed, its ffmpeg may go on")
    file = IntentFile(config.state_dir)
    intent, is_saved = _load(file, journal)
    store = Store(empty_snapshot(config.stream.channel))
    ffmpeg = InstalledFfmpeg(config.ffmpeg, journal, pictures=config.snapshot_enabled)
    supervisor = Supervisor(
        ffmpeg=ffmpeg,
        limits=Limits(config.stream.start_timeout_s, config.stream.stall_timeout_s),
        journal=journal,
        redactor=redactor,
        guard=guard,
        on_change=lambda: agent.refresh(),
        on_turn=manager.alive,
        turn_s=manager.watchdog_period_s,
        open_tap=(lambda: _open_tap(pictures)) if config.snapshot_enabled else None,
    )
    pictures = _pictures(config, ffmpeg, supervisor, store, journal, redactor, guard)
    agent = Agent(
        config=config,
        intent=intent,
        is_saved=is_saved,
        file=file,
        supervisor=supervisor,
        store=store,
        journal=journal,
        redactor=redactor,
        take_picture=pictures.take if pictures is not None else None,
    )
    about = About(config, ffmpeg)
    mqtt = _mqtt(config, store, journal, redactor, about, agent)
    tasks: list[asyncio.Task[None]] = []
    try:
        tasks.append(asyncio.create_task(supervisor.run(), name="supervisor"))
        agent.begin()
        tasks.append(asyncio.create_task(_look_at(ffmpeg, mqtt)))
        sample = partial(_sample, config, store, supervisor, guard, agent, journal)
        tasks.append(asyncio.create_task(_guarded("Telemetry", sample, journal), name="telemetry"))
        if pictures is not None:
            tasks.append(asyncio.create_task(_guarded("Pictures", pictures.run, journal), name="pictures"))
        tasks.append(asyncio.create_task(_guarded("MQTT", mqtt.run, journal), name="mqtt"))
        if config.web.enabled:
            # The stream and the broker are under way before the page is even imported, which takes seconds on a camera.
            await asyncio.sleep(0)
            # Only here: microdot and what serves the page take memory.
            from yiagent.web.serve import serve_page

            page = partial(serve_page, config, store, journal, redactor, about, agent, mqtt)
            tasks.append(asyncio.create_task(_guarded("The page", page, journal), name="page"))
        manager.ready()
        await _until(stop, tasks[0])
    finally:
        manager.stopping()
        journal.info("Stopping")
        loop.add_signal_handler(signal.SIGINT, supervisor.kill)
        await _within(STOP_PICTURE_S, pictures.stop() if pictures is not None else None)
        await _within(STOP_FFMPEG_S, supervisor.stop() if not tasks[0].done() else None)
        supervisor.kill()
        await _within(STOP_LINK_S, _both(mqtt.stop(), agent.settle()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        guard.close()


def _pictures(
    config: Config,
    ffmpeg: InstalledFfmpeg,
    supervisor: Supervisor,
    store: Store,
    journal: Journal,
    redactor: Redactor,
    guard: Guard,
) -> Pictures | None:
    if not config.snapshot_enabled:
        return None
    # Only here: on a camera every import is paid for.
    from yiagent.picture import Pictures
    from yiagent.still import Stills

    stills = Stills(config=config, ffmpeg=ffmpeg, journal=journal, redactor=redactor, guard=guard)
    return Pictures(stills=stills, supervisor=supervisor, store=store, journal=journal, redactor=redactor)


def _open_tap(pictures: Pictures | None) -> Tap:
    from yiagent.tap import Tap

    return Tap(pictures.news if pictures is not None else lambda: None)


def _announcer(config: Config, about: About, journal: Journal) -> Announcer | None:
    file = AnnouncedFile(config.state_dir)
    if not config.mqtt.discovery.enabled and not file.load().topics:
        return None
    # Only here: what Home Assistant is told takes memory.
    from yiagent.announcer import Announcer

    return Announcer(config, about.info, file, journal)


def _mqtt(config: Config, store: Store, journal: Journal, redactor: Redactor, about: About, agent: Agent) -> MqttFront:
    announcer = _announcer(config, about, journal)

    def link(broker: MqttConfig) -> MqttLink:
        return MqttLink(
            config=broker,
            device=config.device.id,
            store=store,
            journal=journal,
            info=about.info,
            execute=agent.execute,
            announcer=announcer,
        )

    front = MqttFront(
        configured=config.mqtt,
        device=config.device.id,
        file=BrokerFile(config.state_dir),
        make_link=link,
        store=store,
        journal=journal,
        redactor=redactor,
    )
    if front.current.host is None:
        who = "the page alone commands this agent" if config.web.enabled else "no command can reach this agent"
        journal.warning(f"mqtt.host is not set: {who}, and without a command it does what stream.autostart says")
    return front


async def _look_at(ffmpeg: InstalledFfmpeg, mqtt: MqttFront) -> None:
    """Ask ffmpeg what it can do, so that the first start need not wait for it."""
    with contextlib.suppress(FfmpegUnusable):
        await ffmpeg.capabilities()
    mqtt.news()


async def _until(stop: asyncio.Event, supervisor: asyncio.Task[None]) -> None:
    """Return when asked to stop; raise what ended the supervisor, which never ends by itself."""
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({waiting, supervisor}, return_when=asyncio.FIRST_COMPLETED)
        if supervisor.done():
            supervisor.result()
    finally:
        waiting.cancel()


async def _both(first: Awaitable[None], second: Awaitable[None]) -> None:
    await asyncio.gather(first, second)


async def _within(seconds: float, work: Awaitable[None] | None) -> None:
    if work is None:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work


async def _guarded(name: str, front_end: Callable[[], Awaitable[None]], journal: Journal) -> None:
    """Run a front end so that a bug in it never stops a live stream."""
    while True:
        try:
            await front_end()
            return
        except Exception as error:
            journal.error(f"{name}: an error in yiagent itself ({type(error).__name__}: {error}); it is started again")
            await asyncio.sleep(RESTART_FRONT_END_S)


async def _sample(
    config: Config, store: Store, supervisor: Supervisor, guard: Guard, agent: Agent, journal: Journal
) -> None:
    """Take a sample every interval, by the monotonic clock, and see to what is to be done now and then."""
    vitals = Vitals(config.telemetry.interface)
    due = next_tick = time.monotonic()
    while True:
        now = time.monotonic()
        if now >= next_tick:
            journal.tick()
            if guard.check():
                journal.warning(
                    "The shell that ends ffmpeg if this agent is killed was ended by something; there is another now"
                )
            next_tick = now + JOURNAL_TICK_S
        state = supervisor.state
        on_air = state.phase in (Phase.STREAMING, Phase.STALLED) and state.flowing_since is not None
        sample = vitals.sample(
            flow=supervisor.flow,
            sent_bytes=supervisor.sent_bytes,
            streaming_s=int(now - state.flowing_since) if on_air and state.flowing_since is not None else 0,
            child_pid=supervisor.child_pid,
        )
        store.put_telemetry(sample)
        # The wall clock may have been set meanwhile, and with it the times that the snapshot tells.
        agent.refresh()
        due = max(due + config.telemetry.interval_s, now)
        await asyncio.sleep(due - time.monotonic())


def _load(file: IntentFile, journal: Journal) -> tuple[Intent, bool]:
    """The owner's intent, and whether it is what stands on the disk."""
    try:
        return file.load(), True
    except IntentUnreadable as problem:
        aside = file.set_aside()
        where = f"kept as {aside.name}" if aside is not None else "it could not be renamed and stays where it is"
        journal.error(
            f"The saved wish in {file.path} cannot be used: {problem}; {where}. "
            "Starting idle: send server, key and ON again"
        )
        return Intent(stream=False), False
