"""The MQTT front end: commands in, state, telemetry, log and answers out; connected for ever, or trying to be."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from yiagent.broker import CUT, NO_ANSWER, Acknowledged, Closed, Connected, Connection, Ended, Received
from yiagent.chance import between
from yiagent.commands import Command, Refused, TakeSnapshot, parse_command, parse_request
from yiagent.inbox import Inbox
from yiagent.logfeed import LogFeed
from yiagent.model import BrokerStatus, Info
from yiagent.notice import Notice
from yiagent.payloads import answer_json, info_json, log_json, refusal_json, state_json, telemetry_json
from yiagent.picturefeed import PictureFeed
from yiagent.protocol import Version
from yiagent.settings import MqttConfig
from yiagent.store import Journal, Store
from yiagent.threads import in_daemon_thread
from yiagent.topics import OFFLINE, ONLINE, Topics

if TYPE_CHECKING:
    from yiagent.announcer import Announcer

ANSWER_TIMEOUT_S: Final = 15.0
LONGEST_WAIT_S: Final = 60.0
# A connection that held this long proves the way; the wait begins anew from the shortest.
STEADY_S: Final = 30.0
GOODBYE_S: Final = 2.0
# So long a broker may owe an acknowledgement that the agent waits with; then the connection is made anew.
LONGEST_UNANSWERED_S: Final = 300.0
# How often is looked again, when something could not be said yet: what the broker must know, and what it may miss.
TELL_AGAIN_S: Final = 1.0
ROOM_AGAIN_S: Final = 0.2
# After Home Assistant has come up, so long: it subscribes first, and a fleet does not answer in one instant.
BIRTH_WAIT_S: Final = (1.0, 10.0)
BORN: Final = b"online"
# So many who ask for a picture while one is being taken get an answer where it fails.
MOST_ASKERS: Final = 10

Execute = Callable[[Command], Awaitable[None]]
T = TypeVar("T")


class MqttLink:
    """Keeps one device on the broker. Everything it publishes it reads from `store`, `journal` and `info`."""

    def __init__(
        self,
        *,
        config: MqttConfig,
        device: str,
        store: Store,
        journal: Journal,
        info: Callable[[], Info],
        execute: Execute,
        announcer: Announcer | None = None,
    ) -> None:
        self._config = config
        self._announcer = announcer
        self._client_id = f"yiagent-{device}"
        self._topics = Topics.of(config.prefix, device)
        self._store = store
        self._journal = journal
        self._info = info
        self._execute = execute
        self._inbox = Inbox()
        self._news = asyncio.Event()
        self._log_sent = 0
        self._version = Version()
        self._notices: dict[str, Notice[Any]] = {}
        self._announced: dict[str, Notice[Any]] = {}
        self._all_announced = asyncio.Event()
        self._answers: dict[str, asyncio.Future[bool]] = {}
        self._greets_at: float | None = None
        self._told_too_long = False
        self._pictures = PictureFeed()
        self._askers: list[tuple[str, Received]] = []
        self._taking: asyncio.Task[None] | None = None
        self._short_lived = 0
        self._told: str | None = None
        self._refused: set[str] = set()
        self._stopping = False
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Connect, serve, and connect again, until `stop`."""
        self._store.listen(self._news.set)
        self._journal.listen(self._news.set)
        failures = 0
        try:
            while not self._stopping:
                began = time.monotonic()
                closed, accepted = await self._one_connection()
                if self._stopping:
                    break
                if self._version.try_another(closed.how, accepted=accepted):
                    continue
                lasted_s = time.monotonic() - began
                self._short_lived = self._short_lived + 1 if accepted and lasted_s < STEADY_S else 0
                self._tell(closed, accepted=accepted)
                failures = failures_after(failures, accepted=accepted, lasted_s=lasted_s)
                await self._wait(pause_s(failures))
        finally:
            self._store.forget(self._news.set)
            self._journal.forget(self._news.set)
            self._store.put_broker(BrokerStatus(connected=False))
            self._stopped.set()

    def news(self) -> None:
        """There is something to look at anew: `info` may have changed."""
        self._news.set()

    async def stop(self) -> None:
        """Publish `offline` where there is a connection, and end `run`."""
        self._stopping = True
        self._inbox.put(Closed(Ended.LOST, "the agent is stopping"))
        self._news.set()
        await self._stopped.wait()

    # --- one connection ---

    async def _one_connection(self) -> tuple[Closed, bool]:
        """Serve one connection from its opening to its end: how it ended, and whether the broker had accepted it."""
        self._inbox = Inbox()
        connection = Connection(
            self._config,
            client_id=self._client_id,
            mqtt5=self._version.mqtt5,
            will=(self._topics.availability, OFFLINE),
            loop=asyncio.get_running_loop(),
            post=self._inbox.put,
        )
        pump: asyncio.Task[None] | None = None
        tidying: asyncio.Task[None] | None = None
        says_goodbye = False
        opening = asyncio.create_task(connection.open())
        try:
            closed, accepted = await self._await_answer()
            if closed is None:
                if self._version.is_doubtful:
                    says_goodbye = True
                    return Closed(Ended.LOST, "it may speak MQTT 5"), True
                self._connected(connection)
                pump = asyncio.create_task(self._pump(connection))
                pump.add_done_callback(self._pump_ended)
                if self._announcer is not None:
                    tidying = asyncio.create_task(self._tidy(self._announcer, connection))
                    tidying.add_done_callback(self._pump_ended)
                closed = await self._serve(connection)
            return closed, accepted
        finally:
            opening.cancel()
            if self._taking is not None:
                self._taking.cancel()
            for task in (pump, tidying):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
            if self._stopping and pump is not None:
                says_goodbye = await self._says_goodbye(connection)
            await connection.close(say_goodbye=says_goodbye)

    async def _await_answer(self) -> tuple[Closed | None, bool]:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    event = await self._inbox.get()
                    if isinstance(event, Closed):
                        return event, False
                    if isinstance(event, Connected):
                        return None, True
        except TimeoutError:
            return Closed(Ended.LOST, NO_ANSWER), False

    def _connected(self, connection: Connection) -> None:
        """Subscribe and republish everything: the broker may be another one, or have forgotten all."""
        version = "5" if connection.mqtt5 else "3.1.1"
        self._journal.info(f"Connected to the MQTT broker at {self._config.host} (MQTT {version})")
        self._told = None
        self._store.put_broker(BrokerStatus(connected=True))
        if not connection.mqtt5:
            # It has no word for a refusal, so it cannot take one back either.
            self._refused.clear()
        if self._pictures.connected(time.monotonic()):
            self._journal.warning("The MQTT broker's connection ended right after a picture, again: pictures wait now")
        self._greets_at = None
        self._answers.clear()
        self._all_announced.clear()
        self._notices = self._notices_for(connection)
        self._notify()

    def _notices_for(self, connection: Connection) -> dict[str, Notice[Any]]:
        """What the broker must know, by topic, in the order in which it is told."""
        topics = self._topics

        def listening(topic: str) -> Notice[str]:
            return Notice(lambda: topic, lambda topic: connection.subscribe([topic]))

        def kept(topic: str, read: Callable[[], T], payload: Callable[[T], str]) -> Notice[T]:
            return Notice(read, lambda value: connection.publish(topic, payload(value), qos=1, retain=True) is not None)

        subscriptions = [topics.any_command, topics.request]
        self._announced = {}
        if (announcer := self._announcer) is not None:
            announcer.connected()
            if announcer.birth_topic is not None:
                subscriptions.append(announcer.birth_topic)
            self._announced = {topic: self._announcement(announcer, connection, topic) for topic in announcer.topics}
        return {
            **{topic: listening(topic) for topic in subscriptions},
            **self._announced,
            topics.availability: kept(topics.availability, lambda: ONLINE, str),
            topics.info: kept(topics.info, self._info, info_json),
            topics.state: kept(topics.state, lambda: self._store.snapshot, state_json),
        }

    def _announcement(self, announcer: Announcer, connection: Connection, topic: str) -> Notice[str]:
        def say(payload: str) -> bool:
            if announcer.is_held or not self._fits(connection, payload):
                return False
            return connection.publish(topic, payload, qos=1, retain=True) is not None

        return Notice(lambda: announcer.payload(topic), say)

    def _fits(self, connection: Connection, payload: str) -> bool:
        """Whether the broker takes a message so long; one that is longer would cost the connection, again and again."""
        size = len(payload.encode())
        if connection.takes(size):
            return True
        if not self._told_too_long:
            self._told_too_long = True
            self._journal.error(
                f"What Home Assistant is to be told has {size / 1000:.0f} kB, more than the MQTT broker takes "
                "(max_packet_size): set mqtt.discovery.format to entity, which sends it in small pieces"
            )
        return False

    async def _serve(self, connection: Connection) -> Closed:
        while True:
            event = await self._inbox.get()
            if isinstance(event, Closed):
                return event
            if isinstance(event, Received):
                if self._inbox.left_out:
                    count, self._inbox.left_out = self._inbox.left_out, 0
                    self._journal.warning(f"Too many commands at once: {count} were left out; the latest count")
                await self._received(connection, event)
            elif isinstance(event, Acknowledged):
                self._acknowledged(event)

    def _acknowledged(self, answer: Acknowledged) -> None:
        notice = self._notices.get(answer.topic)
        if notice is not None:
            notice.answered(time.monotonic(), allowed=answer.allowed)
            if all(announced.is_known for announced in self._announced.values()):
                self._all_announced.set()
        elif (awaited := self._answers.pop(answer.topic, None)) is not None:
            if not awaited.done():
                awaited.set_result(answer.allowed)
            return
        own = notice is not None or answer.topic == self._topics.response
        # Senders name as many topics for their answers as they like.
        what = f"{answer.verb} to {answer.topic}" if own else "publish to a response topic that was asked for"
        if not answer.allowed and what not in self._refused:
            self._refused.add(what)
            self._journal.error(f"The MQTT broker does not let this user {what}: check its access list")
        elif answer.allowed and own and what in self._refused:
            self._refused.remove(what)
            self._journal.info(f"The MQTT broker lets this user {what} again")
        self._notify()

    async def _received(self, connection: Connection, message: Received) -> None:
        if self._announcer is not None and message.topic == self._announcer.birth_topic:
            # A retained one tells of an earlier birth: whoever was born then finds what is retained too.
            if message.payload == BORN and not message.retained and self._greets_at is None:
                self._greets_at = time.monotonic() + between(*BIRTH_WAIT_S)
                self._news.set()
            return
        if message.retained:
            name = self._topics.command(message.topic) or "request"
            self._journal.warning(
                f"Ignored a retained command on {name}: it was sent before this connection. "
                "Send commands without retain"
            )
            return
        command = self._topics.command(message.topic)
        if command is not None:
            try:
                parsed = parse_command(command, message.payload)
                if isinstance(parsed, TakeSnapshot):
                    self._take_picture(connection, command, message)
                else:
                    await self._execute(parsed)
            except Refused as refused:
                self._refuse(connection, command, message, refused)
        elif message.topic == self._topics.request:
            await self._requested(connection, message)

    def _refuse(self, connection: Connection, command: str, message: Received, refused: Refused) -> None:
        self._journal.warning(f"Refused {command}: {refused.message}")
        answer = refusal_json(self._store.snapshot, command=command, refused=refused)
        self._answer(connection, answer, message)

    def _take_picture(self, connection: Connection, command: str, message: Received) -> None:
        """Beside the other commands, for it takes seconds. Whoever asks meanwhile gets the same picture."""
        if self._taking is not None and not self._taking.done():
            self._askers = [*self._askers, (command, message)][:MOST_ASKERS]
            return
        self._askers = [(command, message)]

        async def take() -> None:
            try:
                await self._execute(TakeSnapshot())
            except Refused as refused:
                for command, message in self._askers:
                    self._refuse(connection, command, message, refused)

        self._taking = asyncio.create_task(take())
        self._taking.add_done_callback(self._pump_ended)

    async def _requested(self, connection: Connection, message: Received) -> None:
        transaction: str | None = None
        refusal: Refused | None = None
        try:
            request = parse_request(message.payload)
            transaction = request.transaction
            await self._execute(request.command)
        except Refused as refused:
            refusal = refused
            transaction = transaction or refused.transaction
            self._journal.warning(f"Refused a request: {refused.message}")
        answer = answer_json(self._store.snapshot, transaction=transaction, refused=refusal)
        self._answer(connection, answer, message)

    def _answer(self, connection: Connection, answer: str, message: Received) -> None:
        """To `response`, and to the sender's own response topic where MQTT 5 brought one."""
        # A state that waited for its turn goes before the answer that tells it too.
        self._notify()
        own = message.response_topic
        # Not to this agent's own topics: an answer on `request` would be a request again.
        if own is not None and (not self._topics.is_ours(own) or own.startswith(f"{self._topics.response}/")):
            connection.publish(own, answer, qos=1, correlation=message.correlation)
        connection.publish(self._topics.response, answer, qos=1, correlation=message.correlation)

    # --- Home Assistant ---

    async def _tidy(self, announcer: Announcer, connection: Connection) -> None:
        async def say(topic: str, payload: str, *, retain: bool) -> bool:
            answer = asyncio.get_running_loop().create_future()
            if connection.publish(topic, payload, qos=1, retain=retain) is None:
                return False
            self._answers[topic] = answer
            return bool(await answer)

        async def until_said() -> None:
            if self._announced:
                await self._all_announced.wait()

        await announcer.tidy(say, until_said, self._greet)

    def _greet(self) -> None:
        """Say all that Home Assistant needs once more: it has come up, or has just heard of this device."""
        self._greets_at = None
        for topic in (*self._announced, self._topics.availability, self._topics.state):
            self._notices[topic].say_again()
        self._news.set()

    def _greet_when_due(self) -> float | None:
        """How long until Home Assistant is to be greeted; None where it is not waiting."""
        if self._greets_at is None:
            return None
        wait_s = self._greets_at - time.monotonic()
        if wait_s > 0:
            return wait_s
        self._greet()
        return 0.0

    # --- what goes out ---

    async def _pump(self, connection: Connection) -> None:
        """Publish what is new whenever something is. Only the latest state and sample ever wait."""
        sample = self._store.telemetry
        log = LogFeed(self._journal, self._log_sent)
        while True:
            self._news.clear()
            connection.check_thread()
            waits_s = [self._greet_when_due(), None if self._notify() else TELL_AGAIN_S]
            if any(notice.unanswered_s(time.monotonic()) > LONGEST_UNANSWERED_S for notice in self._notices.values()):
                self._inbox.put(Closed(Ended.LOST, "it does not acknowledge what it is told"))
            if (new := self._store.telemetry) is not sample and new is not None:
                if connection.has_room:
                    sample = new
                    connection.publish_loosely(self._topics.telemetry, telemetry_json(sample))
                else:
                    waits_s.append(ROOM_AGAIN_S)
            while connection.has_room and (line := log.next()) is not None:
                connection.publish_loosely(self._topics.log, log_json(line))
                self._log_sent = log.sent
            waits_s.append(log.wait_s)
            waits_s.append(self._publish_picture(connection))
            await self._sleep(min((wait_s for wait_s in waits_s if wait_s is not None), default=None))

    def _publish_picture(self, connection: Connection) -> float | None:
        """The latest picture, when the way is free for it; how long until it is worth looking again."""
        now = time.monotonic()
        picture, wait_s = self._pictures.next(self._store.picture, now, has_room=connection.has_room)
        if picture is None:
            return wait_s
        if connection.takes(len(picture.jpeg)):
            connection.publish_loosely(self._topics.snapshot, picture.jpeg, retain=True)
            self._pictures.sent(picture, now)
        else:
            size_kb = len(picture.jpeg) // 1000
            self._journal.warning(f"A picture of {size_kb} kB is longer than the MQTT broker takes (max_packet_size)")
            self._pictures.told(picture)
        return wait_s

    def _notify(self) -> bool:
        """Tell the broker what it must know; whether it knows all of it."""
        now = time.monotonic()
        settled = [notice.tell(now) for notice in self._notices.values()]
        return all(settled)

    def _pump_ended(self, pump: asyncio.Task[None]) -> None:
        """Without it the agent would be online and tell nothing: a bug in it costs the connection, not the truth."""
        if not pump.cancelled() and (error := pump.exception()) is not None:
            self._inbox.put(Closed(Ended.LOST, f"an error in yiagent itself ({type(error).__name__}: {error})"))

    async def _sleep(self, longest_s: float | None) -> None:
        try:
            async with asyncio.timeout(longest_s):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _says_goodbye(self, connection: Connection) -> bool:
        """Publish how it ends; whether the broker has it. Where it has not, its last will must say `offline`."""
        connection.publish(self._topics.state, state_json(self._store.snapshot), qos=1, retain=True)
        info = connection.publish(self._topics.availability, OFFLINE, qos=1, retain=True)
        if info is None:
            return False
        with contextlib.suppress(RuntimeError, ValueError):
            await in_daemon_thread(lambda: info.wait_for_publish(GOODBYE_S))
            return info.is_published()
        return False

    # --- between connections ---

    def _tell(self, closed: Closed, *, accepted: bool) -> None:
        what = "Lost the MQTT broker" if accepted else f"Cannot connect to the MQTT broker at {self._config.host}"
        message = closed.message
        if self._short_lived > 1 and message == CUT:
            # Brokers before MQTT 5 throw the older of two clients with one id off without a word.
            message += " again; is a second agent running with this device.id?"
        self._store.put_broker(BrokerStatus(connected=False, message=message))
        say = self._journal.debug if message == self._told else self._journal.warning
        self._told = message
        stop = "" if message.endswith("?") else "."
        say(f"{what}: {message}{stop} Streaming goes on; trying again for ever")

    async def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < deadline:
            self._news.clear()
            await self._sleep(deadline - time.monotonic())


def failures_after(failures: int, *, accepted: bool, lasted_s: float) -> int:
    """How many connections in a row came to nothing, when one more has ended; `failures`: before it."""
    return 0 if accepted and lasted_s >= STEADY_S else failures + 1


def pause_s(failures: int) -> float:
    """How long to stay away after so many."""
    longest = min(LONGEST_WAIT_S, 2.0 ** min(failures, 10))
    # Jitter: after a broker's restart, a fleet must not come back in one instant.
    return between(0.3, 1.0) * longest
