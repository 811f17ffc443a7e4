"""What Home Assistant finds at a real mosquitto, whatever happened: all of the device, and nothing of the past."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import pytest
import yaml

from tests.harness import WAIT_TIMEOUT_S, AgentProcess
from tests.homeassistant_rules import expanded, faults_of
from tests.peers.broker import Broker, Listener, OldBrokerProxy
from tests.peers.process import wait_until
from tests.peers.proxy import Proxy
from yiagent.agent import empty_snapshot
from yiagent.announced import Announced, AnnouncedFile
from yiagent.announcer import Announcer, Say
from yiagent.commands import Command
from yiagent.config import parse_config
from yiagent.hardware import own_macs
from yiagent.model import Channel, Info, Level
from yiagent.mqtt import MqttLink
from yiagent.redact import Redactor
from yiagent.settings import Config
from yiagent.store import Journal, Store

STATUS = "homeassistant/status"
CAM = "homeassistant/device/cam/config"
CAM_MACHINE = "homeassistant/device/cam/machine/config"
DOOR = "homeassistant/device/door/config"
MIGRATE = '{"migrate_discovery":true}'
MAC = "0c:8c:24:00:00:01"
PAGE = "http://192.0.2.1:8080/"
# The contract: so long after its birth Home Assistant is told all; and what a busy machine adds.
BIRTH_S = (1.0, 10.0)
LATE_S = 5.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own: what is retained is what the test has seen coming."""
    with Broker(tmp_path / "broker", extra_lines=["set_tcp_nodelay true"]) as broker:
        yield broker


def _retained(port: int, **login: Any) -> dict[str, str]:
    """All that a broker keeps, by topic."""
    mark = f"end/{uuid4().hex}"
    with Listener(port, **login) as late:
        late.publish(mark)
        late.wait_for_topic(mark)
        return {message.topic: message.text for message in late.messages if message.retain}


def _announced_at(port: int, prefix: str = "homeassistant") -> set[str]:
    return {topic for topic in _retained(port) if topic.startswith(f"{prefix}/") and topic != STATUS}


def _device_topics(device: str) -> set[str]:
    return {f"yiagent/{device}/{name}" for name in ("availability", "info", "state")}


# --- the agent as a process -----------------------------------------------------------------------------------------


def _record(agent: AgentProcess) -> Announced:
    return AnnouncedFile(agent.state_dir).load()


def _wait_for_record(agent: AgentProcess, is_so: Callable[[Announced], bool]) -> None:
    """It is written when all of the past is taken back."""
    agent.wait_until(lambda: is_so(_record(agent)), WAIT_TIMEOUT_S, f"the record; it is {_record(agent)}")


def _wait_until_kept(broker: Broker, topics: set[str]) -> None:
    """Return when the broker keeps these, and nothing else."""
    wait_until(lambda: _retained(broker.port).keys() == topics, WAIT_TIMEOUT_S, f"{topics} at the broker")


def test_all_is_said_in_order_and_again_after_a_birth(broker: Broker, tmp_path: Path) -> None:
    """Discovery, availability, info, state; all but info again, 1 to 10 s after Home Assistant has come up."""
    topics = [CAM, "yiagent/cam/availability", "yiagent/cam/info", "yiagent/cam/state"]
    with Listener(broker.port) as listener, AgentProcess(tmp_path / "agent", broker_port=broker.port) as agent:
        agent.wait_until_online(listener)
        heard = [message for message in listener.messages if message.topic in topics]
        assert list(dict.fromkeys(message.topic for message in heard)) == topics
        assert {message.qos for message in heard} == {1}
        kept = _retained(broker.port)
        assert kept.keys() >= set(topics)
        assert faults_of(CAM, kept[CAM]) == []
        # Its look at ffmpeg is over: nothing else is news.
        listener.wait_for(
            lambda message: message.topic == topics[2] and json.loads(message.payload)["ffmpeg"] is not None,
            WAIT_TIMEOUT_S,
        )

        position = listener.position
        listener.publish(STATUS, "online")
        born = listener.wait_for_topic(STATUS, after=position)
        state = listener.wait_for_topic(topics[-1], BIRTH_S[1] + LATE_S, after=position)
        again = [message for message in listener.messages[position:] if message.topic in topics]
        assert [message.topic for message in again] == [topics[0], topics[1], topics[3]]
        assert again[0].text == kept[CAM]
        assert again[1].text == "online"
        assert BIRTH_S[0] - 0.1 < again[0].at_s - born.at_s < BIRTH_S[1] + LATE_S
        assert state.at_s - again[0].at_s < LATE_S


def test_a_broker_that_forgot_has_everything_again(broker: Broker, tmp_path: Path) -> None:
    """After its restart with nothing retained, the announcement is there too."""
    with AgentProcess(tmp_path / "agent", broker_port=broker.port):
        _wait_until_kept(broker, {CAM, *_device_topics("cam")})
        before = _retained(broker.port)
        broker.restart()
        _wait_until_kept(broker, {CAM, *_device_topics("cam")})
        assert _retained(broker.port)[CAM] == before[CAM]


def test_discovery_that_is_turned_off_is_taken_back(broker: Broker, tmp_path: Path) -> None:
    """At the next start without it the message is gone, and the record empty; the device itself goes on."""
    with AgentProcess(tmp_path / "agent", broker_port=broker.port) as agent:
        _wait_until_kept(broker, {CAM, *_device_topics("cam")})
        assert agent.end() == 0
        assert CAM in _record(agent).topics
        agent.config["mqtt"]["discovery"] = {"enabled": False}
        for _ in range(2):
            agent.start()
            _wait_for_record(agent, lambda record: not record.topics and record.root is None)
            wait_until(
                lambda: _retained(broker.port).get("yiagent/cam/availability") == "online", WAIT_TIMEOUT_S, "online"
            )
            assert _retained(broker.port).keys() == _device_topics("cam")
            assert agent.end() == 0
        assert "homeassistant" not in agent.log_text


def test_a_renamed_device_leaves_nothing_behind(broker: Broker, tmp_path: Path) -> None:
    """Its announcement and all that was retained of it go; the new name has both."""
    with AgentProcess(tmp_path / "agent", broker_port=broker.port) as agent:
        _wait_until_kept(broker, {CAM, *_device_topics("cam")})
        assert agent.end() == 0
        agent.config["device"] = {"id": "door", "name": "Test camera"}
        agent.start()
        _wait_until_kept(broker, {DOOR, *_device_topics("door")})
        _wait_for_record(agent, lambda record: set(record.topics) == {DOOR})
        assert _record(agent).root == "yiagent/door"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"version": 2}', b'{"version": 1}'])
def test_a_damaged_record_is_survived(broker: Broker, tmp_path: Path, content: bytes) -> None:
    """The agent starts, announces, and writes a good one."""
    agent = AgentProcess(tmp_path / "agent", broker_port=broker.port)
    agent.state_dir.mkdir(parents=True)
    (agent.state_dir / "announced.json").write_bytes(content)
    with agent:
        _wait_until_kept(broker, {CAM, *_device_topics("cam")})
        _wait_for_record(agent, lambda record: CAM in record.topics)


# --- its link in this process ---------------------------------------------------------------------------------------


async def _nothing(command: Command) -> None:
    """Carry nothing out."""


async def _until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(WAIT_TIMEOUT_S):
            while not condition():  # noqa: ASYNC110 - the conditions are seen on other threads and in files
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


def _no_file(path: Path) -> str:
    raise FileNotFoundError(2, "No such file or directory")


class Watched(Announcer):
    """One of which is known how often it has tidied up."""

    tidied = 0
    says_by: Say | None = None

    async def tidy(self, say: Say, until_said: Callable[[], Any], resume: Callable[[], None]) -> None:
        """As ever, and counted; with the test's own way to say something, where it has one."""
        await super().tidy(self.says_by or say, until_said, resume)
        self.tidied += 1


class Life:
    """One start of an agent, from its folder: what announces, and its connection. Its end is a process's end."""

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        device: str = "cam",
        source: str = "rtsp://127.0.0.1/ch0_1.h264",
        pictures: bool = False,
        mac: str = "auto",
        user: str | None = None,
        **discovery: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tree: dict[str, Any] = {
            "device": {"id": device, "name": "Test camera", "mac": mac},
            "source": {"sd": source},
            "mqtt": {"host": "127.0.0.1", "port": port, "discovery": discovery},
            "snapshot": {"enabled": pictures},
        }
        if user is not None:
            tree["mqtt"] |= {"username": user, "password": user}
        self.config: Config = parse_config(yaml.safe_dump(tree).encode(), hostname="machine", read_secret=_no_file)
        self.info = Info(device, "Test camera", "0.1.0", None, "3.11.7", "x86_64", PAGE)
        self.journal = Journal(Redactor(), level=Level.INFO, clock=lambda: 0.0, monotonic=lambda: 0.0)
        self.file = AnnouncedFile(folder)
        self.announcer = Watched(self.config, lambda: self.info, self.file, self.journal)
        self.link = MqttLink(
            config=self.config.mqtt,
            device=device,
            store=Store(empty_snapshot(Channel.AUTO)),
            journal=self.journal,
            info=lambda: self.info,
            execute=_nothing,
            announcer=self.announcer,
        )

    async def settled(self, times: int = 1) -> None:
        """Return when all is said, and all of the past taken back."""
        await _until(lambda: self.announcer.tidied >= times, "an end of tidying")

    async def heed(self, listener: Listener) -> None:
        """Return when it has dealt with all that the listener has sent it so far, and has said what comes of it."""
        for _ in range(2):
            mark, position = uuid4().hex, listener.position
            listener.publish(f"yiagent/{self.config.device.id}/request", json.dumps({"transaction": mark}))
            await _until(lambda m=mark, p=position: _answered(listener, m, p), "an answer")  # type: ignore[misc]

    def messages(self, text: str) -> list[str]:
        """Lines of the journal with a text in them."""
        return [line.message for line in self.journal.since(0) if text in line.message]

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.link.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.link.stop()
        await self._running
        # As the end of the process would.
        if self.announcer._claim is not None:
            self.announcer._claim.close()


def _answered(listener: Listener, mark: str, after: int) -> bool:
    return any(message.topic.endswith("/response") and mark in message.text for message in listener.messages[after:])


def _document(port: int, topic: str = CAM) -> dict[str, Any]:
    """What stands at a topic; it keeps the rules."""
    payload = _retained(port)[topic]
    assert faults_of(topic, payload) == []
    return dict(expanded(json.loads(payload)))


_PUBLISH = re.compile(r"Received PUBLISH from yiagent-\S+ \(d\d, q\d, r(\d), m\d+, '([^']+)', \.\.\. \((\d+) bytes\)\)")


def _published(broker: Broker, after: int = 0) -> list[tuple[str, bool, int]]:
    """Topic, retain and length of all that was published below the discovery prefix, as the broker logged it."""
    found = [(topic, retain == "1", int(length)) for retain, topic, length in _PUBLISH.findall(broker.log_text)]
    return [one for one in found if one[0].startswith("homeassistant/")][after:]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for Home Assistant waits shorter in this process; other agents of this machine are not its affair."""
    monkeypatch.setattr("yiagent.mqtt.BIRTH_WAIT_S", (0.0, 0.0))
    monkeypatch.setattr("yiagent.mqtt.TELL_AGAIN_S", 0.02)
    monkeypatch.setattr("yiagent.mqtt.LONGEST_WAIT_S", 0.1)
    monkeypatch.setattr("yiagent.announcer.MIGRATION_S", 0.05)
    monkeypatch.setattr("yiagent.announcer._CLAIM", f"yiagent-test-{uuid4().hex}")
    monkeypatch.setattr("yiagent.announcer.own_macs", lambda: [MAC])


def test_births_that_come_together_are_answered_once(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five at once are one, at the time of the first; those that come after that are answered again."""

    async def run() -> None:
        with Listener(broker.port) as listener:
            async with Life(tmp_path, broker.port) as life:
                await life.settled()
                await life.heed(listener)
                for count in (2, 3):
                    monkeypatch.setattr("yiagent.mqtt.BIRTH_WAIT_S", (1.0, 1.0))
                    listener.publish(STATUS, "online")
                    await life.heed(listener)
                    monkeypatch.setattr("yiagent.mqtt.BIRTH_WAIT_S", (3600.0, 3600.0))
                    for _ in range(4):
                        listener.publish(STATUS, "online")
                    await life.heed(listener)
                    await _until(lambda count=count: len(listener.on(CAM)) >= count, "a greeting")  # type: ignore[misc]
                    await life.heed(listener)
                    assert len(listener.on(CAM)) == count

    asyncio.run(run())


def test_what_is_no_birth_is_not_answered(broker: Broker, tmp_path: Path) -> None:
    """Home Assistant's good-bye and junk on its topic do nothing; nor are they told of as commands that are none."""

    async def run() -> None:
        with Listener(broker.port) as listener:
            async with Life(tmp_path, broker.port) as life:
                await life.settled()
                for payload in (b"offline", b"ONLINE", b"online ", b"", b"\xff", b"{}", b"x" * 10_000):
                    listener.publish(STATUS, payload)
                    await life.heed(listener)
                listener.publish("homeassistant/other", "online")
                await life.heed(listener)
                assert len(listener.on(CAM)) == 1
                listener.publish(STATUS, "online")
                await life.heed(listener)
                assert len(listener.on(CAM)) == 2
                assert life.messages("efused") == []

    asyncio.run(run())


@pytest.mark.parametrize("old", [False, True], ids=["MQTT 5", "MQTT 3.1.1"])
def test_a_birth_of_long_ago_is_not_answered(broker: Broker, tmp_path: Path, old: bool) -> None:
    """A retained one is no birth: whoever was born then finds what is retained too."""

    async def run() -> None:
        with OldBrokerProxy(broker.port) as proxy, Listener(broker.port) as listener:
            listener.publish(STATUS, "online", retain=True)
            async with Life(tmp_path, proxy.port if old else broker.port) as life:
                await life.settled()
                await life.heed(listener)
                assert len(listener.on(CAM)) == 1
                assert life.messages("Connected")[0].endswith("(MQTT 3.1.1)" if old else "(MQTT 5)")
                assert life.messages("Ignored") == []
                listener.publish(STATUS, "online")
                await life.heed(listener)
                assert len(listener.on(CAM)) == 2

    asyncio.run(run())


def test_a_birth_elsewhere_is_heard_there(broker: Broker, tmp_path: Path) -> None:
    """Where the owner has named another topic for it, that one counts, and the usual one does not."""

    async def run() -> None:
        with Listener(broker.port) as listener:
            async with Life(tmp_path, broker.port, status_topic="ha/up") as life:
                await life.settled()
                listener.publish(STATUS, "online")
                await life.heed(listener)
                assert len(listener.on(CAM)) == 1
                listener.publish("ha/up", "online")
                await life.heed(listener)
                assert len(listener.on(CAM)) == 2

    asyncio.run(run())


def test_the_pages_new_address_is_told(broker: Broker, tmp_path: Path) -> None:
    """The router has given this machine another address: Home Assistant's link to the page is mended, once."""

    async def run() -> None:
        with Listener(broker.port) as listener:
            async with Life(tmp_path, broker.port) as life:
                await life.settled()
                assert _document(broker.port)["device"]["configuration_url"] == PAGE
                life.info = replace(life.info, web="http://192.0.2.7:8080/")
                life.link.news()
                await life.heed(listener)
                assert _document(broker.port)["device"]["configuration_url"] == "http://192.0.2.7:8080/"
                life.link.news()
                await life.heed(listener)
                assert len(listener.on(CAM)) == 2

    asyncio.run(run())


def test_a_changed_prefix_moves_the_announcement(broker: Broker, tmp_path: Path) -> None:
    """It stands at the new one and no longer at the old one; the device stays as it was."""

    async def run() -> None:
        async with Life(tmp_path, broker.port) as life:
            await life.settled()
        async with Life(tmp_path, broker.port, prefix="ha/x") as life:
            await life.settled()
            assert _retained(broker.port).keys() == {"ha/x/device/cam/config", *_device_topics("cam")}
            assert life.file.load().topics.keys() == {"ha/x/device/cam/config"}
        assert not [topic for topic, retain, _ in _published(broker) if not retain]

    asyncio.run(run())


def test_the_old_one_stays_until_the_new_one_stands(tmp_path: Path) -> None:
    """The access list knows the old prefix alone: Home Assistant keeps what it has until that is mended."""
    allowed = "user cam\ntopic readwrite yiagent/#\ntopic readwrite homeassistant/#\ntopic readwrite end/#\n"
    login = {"username": "cam", "password": "cam"}

    async def run() -> None:
        with Broker(tmp_path / "broker", users={"cam": "cam"}, acl_text=allowed) as broker:
            folder = tmp_path / "state"
            async with Life(folder, broker.port, user="cam") as life:
                await life.settled()
            async with Life(folder, broker.port, user="cam", prefix="ha") as life:
                await _until(lambda: bool(life.messages("publish to ha/device/cam/config")), "the refusal")
                with Listener(broker.port, "yiagent/#", username="cam", password="cam") as listener:
                    await life.heed(listener)
                assert CAM in _retained(broker.port, **login)
                assert life.announcer.tidied == 0
                broker._acl_text = f"{allowed}topic readwrite ha/#\n"
                broker.reload()
            async with Life(folder, broker.port, user="cam", prefix="ha") as life:
                await life.settled()
                assert _retained(broker.port, **login).keys() == {"ha/device/cam/config", *_device_topics("cam")}

    asyncio.run(run())


def test_the_form_changes_and_changes_back(broker: Broker, tmp_path: Path) -> None:
    """Only the new form's topics stay each time; the old ones first say, not retained, that all is about to move."""

    async def run() -> None:
        whole: dict[str, set[str]] = {}
        for form in ("device", "entity", "device"):
            async with Life(tmp_path, broker.port, format=form, source="rtsp://192.0.2.1/x") as life:
                before, old = len(_published(broker)), _announced_at(broker.port)
                await life.settled()
                now = _announced_at(broker.port)
                assert now == life.file.load().topics.keys() == whole.setdefault(form, now)
                for topic, payload in _retained(broker.port).items():
                    assert not topic.startswith("homeassistant/") or faults_of(topic, payload) == []
                said = _published(broker, before)
                moving = [(topic, False, len(MIGRATE)) for topic in old]
                removed = [(topic, True, 0) for topic in old]
                new = [one for one in said if one not in [*moving, *removed]]
                assert sorted(said[: len(old)]) == sorted(moving)
                assert sorted(one for one in said if one in removed) == sorted(removed)
                assert {topic for topic, _, _ in new} == now
                assert all(retain and length > len(MIGRATE) for _, retain, length in new)
                # Nothing of the new form stands there before all of the old one is gone: Home Assistant would complain.
                told = said[: min(said.index(one) for one in new)]
                assert sorted(one for one in told if one in removed) == sorted(removed)
        assert whole["device"] == {CAM, CAM_MACHINE}
        assert len(whole["entity"]) > 20
        assert not whole["entity"] & whole["device"]

    asyncio.run(run())


def test_a_disk_that_hangs_holds_no_announcement_back(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a change of the form, which is noted down before it is begun."""
    monkeypatch.setattr("yiagent.announcer.NOTE_S", 0.05)
    mended = threading.Event()

    async def run() -> None:
        async with Life(tmp_path, broker.port) as life:
            await life.settled()
        async with Life(tmp_path, broker.port, format="entity") as life:
            monkeypatch.setattr(life.file, "save", lambda record: mended.wait())
            await life.settled()
            assert len(_announced_at(broker.port)) > 20
            assert CAM not in _announced_at(broker.port)

    try:
        asyncio.run(run())
    finally:
        mended.set()


def test_a_move_that_was_cut_short_begins_anew(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ends while Home Assistant is given time to let go: nothing of the new form was said yet."""

    async def run() -> None:
        async with Life(tmp_path, broker.port) as life:
            await life.settled()
        monkeypatch.setattr("yiagent.announcer.MIGRATION_S", 60.0)
        with Proxy(broker.port) as proxy:
            before = len(_published(broker))
            async with Life(tmp_path, proxy.port, format="entity") as life:
                await _until(lambda: bool(_published(broker, before)), "the move's beginning")
                await _until(lambda: _device_topics("cam") <= _retained(broker.port).keys(), "the device itself")
                assert _announced_at(broker.port) == {CAM}
                monkeypatch.setattr("yiagent.announcer.MIGRATION_S", 0.05)
                proxy.cut()
                await life.settled()
                said = _published(broker, before)
                assert said[:2] == [(CAM, False, len(MIGRATE))] * 2
                assert CAM not in _announced_at(broker.port)
                assert _announced_at(broker.port) == life.file.load().topics.keys()

    asyncio.run(run())


def _note(folder: Path, **changes: Any) -> None:
    """Change what stands in the record, by hand."""
    file = folder / "announced.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_an_entity_of_an_earlier_version_goes(broker: Broker, tmp_path: Path) -> None:
    """It is named with its platform alone, at this start and at every later one: Home Assistant may be away."""

    async def run() -> None:
        async with Life(tmp_path, broker.port) as life:
            await life.settled()
            parts = life.file.load().topics[CAM]
        _note(tmp_path, topics={CAM: {**parts, "sensor_wifi": "sensor"}})
        for _ in range(2):
            async with Life(tmp_path, broker.port) as life:
                await life.settled()
                assert _document(broker.port)["components"]["sensor_wifi"] == {"platform": "sensor"}
                assert life.file.load() == Announced(
                    root="yiagent/cam",
                    topics={CAM: parts},
                    dropped={"sensor_wifi": "sensor"},
                    macs=(MAC,),
                    has_mac=True,
                )

    asyncio.run(run())


def test_an_entity_of_an_earlier_version_goes_before_the_form_changes(broker: Broker, tmp_path: Path) -> None:
    """What the other form does not have is removed first, and by name: a move would leave it behind."""

    async def run() -> None:
        async with Life(tmp_path, broker.port) as life:
            await life.settled()
            parts = life.file.load().topics[CAM]
        _note(tmp_path, topics={CAM: {**parts, "sensor_wifi": "sensor"}})
        with Listener(broker.port, CAM) as listener:
            async with Life(tmp_path, broker.port, format="entity") as life:
                await life.settled()
                await _until(lambda: listener.position >= 4, "its retained message, and three more")
            removal, move, end = (message.text for message in listener.messages[1:])
            assert json.loads(removal)["components"] == {"sensor_wifi": {"platform": "sensor"}}
            assert faults_of(CAM, removal) == []
            assert (move, end) == (MIGRATE, "")
        assert not [topic for topic in _announced_at(broker.port) if "wifi" in topic]

    asyncio.run(run())


def test_pictures_that_are_turned_off_are_taken_back(broker: Broker, tmp_path: Path) -> None:
    """Button and picture are named as gone, and the last picture is not kept; turned on again, all is there again."""

    async def run() -> None:
        gone = {"button_snapshot": {"platform": "button"}, "camera_snapshot": {"platform": "camera"}}
        with Listener(broker.port) as listener:
            for pictures in (True, False, True, False):
                async with Life(tmp_path, broker.port, pictures=pictures) as life:
                    await life.settled()
                    components = _document(broker.port)["components"]
                    assert ({name: components[name] for name in gone} == gone) is not pictures
                    assert life.file.load().dropped == (
                        {} if pictures else {name: one["platform"] for name, one in gone.items()}
                    )
                    assert "yiagent/cam/snapshot" not in _retained(broker.port)
                    if pictures:
                        listener.publish("yiagent/cam/snapshot", b"jpeg", retain=True)
                        assert "yiagent/cam/snapshot" in _retained(broker.port)
                        await life.heed(listener)

    asyncio.run(run())


def test_a_copied_folder_leaves_the_others_alone(broker: Broker, tmp_path: Path) -> None:
    """A card copied for a second camera, with another id: what the first one announced stays."""

    async def run() -> None:
        async with Life(tmp_path, broker.port) as life:
            await life.settled()
        _note(tmp_path, macs=["0c:8c:24:00:00:99"])
        async with Life(tmp_path, broker.port, device="door") as life:
            await life.settled()
            assert _retained(broker.port).keys() == {CAM, DOOR, *_device_topics("cam"), *_device_topics("door")}
            assert life.messages("comes from another machine")
            assert life.file.load().topics.keys() == {DOOR}
            assert life.file.load().macs == (MAC,)

    asyncio.run(run())


def test_a_folder_that_moved_with_its_camera_is_tidied(broker: Broker, tmp_path: Path) -> None:
    """The same id on another machine is the same camera: what it announced before is its own."""

    async def run() -> None:
        async with Life(tmp_path, broker.port) as life:
            await life.settled()
        _note(tmp_path, macs=["0c:8c:24:00:00:99"])
        async with Life(tmp_path, broker.port, prefix="ha") as life:
            await life.settled()
            assert life.messages("comes from another machine") == []
            assert _announced_at(broker.port) == set()
            assert _announced_at(broker.port, "ha") == {"ha/device/cam/config"}

    asyncio.run(run())


def test_what_may_not_be_removed_is_told(tmp_path: Path) -> None:
    """Once, with the line that removes it; it is tried again at the next start, and is not taken for a move."""
    everything = "user cam\ntopic readwrite #\nuser watcher\ntopic readwrite #\n"
    own = "topic readwrite yiagent/#\ntopic readwrite homeassistant/device/door/#\ntopic read homeassistant/status\n"
    users = {"cam": "cam", "watcher": "w"}
    watcher = {"username": "watcher", "password": "w"}

    async def run() -> None:
        with Broker(tmp_path / "broker", users=users, acl_text=everything) as broker:
            folder = tmp_path / "state"
            async with Life(folder, broker.port, user="cam") as life:
                await life.settled()
            broker._acl_text = f"user watcher\ntopic readwrite #\nuser cam\n{own}"
            broker.reload()
            for _ in range(2):
                async with Life(folder, broker.port, device="door", user="cam") as life:
                    await life.settled()
                    line = f"mosquitto_pub -r -n -t '{CAM}'"
                    assert len(life.messages("let this user remove")) == len(life.messages(line)) == 1
                    assert life.file.load().topics.keys() == {CAM, DOOR}
                    assert _retained(broker.port, **watcher).keys() == {CAM, DOOR, *_device_topics("door")}
            broker._acl_text = everything
            broker.reload()
            async with Life(folder, broker.port, device="door", user="cam") as life:
                await life.settled()
                assert life.messages("let this user remove") == []
                assert life.file.load().topics.keys() == {DOOR}
            assert _retained(broker.port, **watcher).keys() == {DOOR, *_device_topics("door")}
            assert not [topic for topic, retain, _ in _published(broker) if not retain]

    asyncio.run(run())


def test_what_stands_beside_a_refused_one_is_known(tmp_path: Path) -> None:
    """The access list allows the camera's message and not the machine's: turned off, what stood there is gone."""
    acl = "topic readwrite yiagent/#\ntopic write homeassistant/device/cam/config\ntopic read homeassistant/#\n"
    login = {"username": "cam", "password": "cam"}

    async def run() -> None:
        with Broker(
            tmp_path / "broker", users={"cam": "cam"}, acl_text=f"user cam\n{acl}topic readwrite end/#\n"
        ) as broker:
            folder = tmp_path / "state"
            async with Life(folder, broker.port, user="cam", source="rtsp://192.0.2.1/x") as life:
                await _until(lambda: bool(life.messages(f"publish to {CAM_MACHINE}")), "the refusal")
                await _until(lambda: CAM in _retained(broker.port, **login), "the camera's message")
                assert CAM_MACHINE not in _retained(broker.port, **login)
                assert life.announcer.tidied == 0
            async with Life(folder, broker.port, user="cam", enabled=False) as life:
                await life.settled()
                assert _retained(broker.port, **login).keys() == _device_topics("cam")

    asyncio.run(run())


def test_a_start_that_was_cut_short_is_remembered(broker: Broker, tmp_path: Path) -> None:
    """The power fails after all was said under a new name, and before the old one's is taken back: neither is lost."""

    async def never(topic: str, payload: str, *, retain: bool) -> bool:
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> None:
        async with Life(tmp_path, broker.port) as life:
            await life.settled()
        async with Life(tmp_path, broker.port, device="door") as life:
            life.announcer.says_by = never
            await _until(lambda: _announced_at(broker.port) == {CAM, DOOR}, "the new name's")
        async with Life(tmp_path, broker.port, device="shed") as life:
            await life.settled()
            assert _announced_at(broker.port) == {"homeassistant/device/shed/config"}
            assert not _device_topics("cam") & _retained(broker.port).keys()

    asyncio.run(run())


def test_what_cannot_be_noted_down_costs_nothing_else(broker: Broker, tmp_path: Path) -> None:
    """A full or read-only disk: all is announced; the record stays as it was."""

    async def run() -> None:
        (tmp_path / "announced.json").mkdir()
        async with Life(tmp_path, broker.port) as life:
            await life.settled()
            assert _announced_at(broker.port) == {CAM}
            assert life.messages("an error in yiagent") == []
            assert life.file.load() == Announced()

    asyncio.run(run())


# --- which machine it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mac", "connections"),
    [("auto", [["mac", MAC]]), ("none", None), ("0C-8C-24-00-00-77", [["mac", "0c:8c:24:00:00:77"]])],
)
def test_a_camera_that_is_this_machine(broker: Broker, tmp_path: Path, mac: str, connections: object) -> None:
    """It has the machine's hardware address, or the one it is given; there is no second device."""

    async def run() -> None:
        async with Life(tmp_path, broker.port, mac=mac) as life:
            await life.settled()
            device = _document(broker.port)["device"]
            assert device.get("connections") == connections
            assert "via_device" not in device
            assert _announced_at(broker.port) == {CAM}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("mac", "connections"), [("auto", None), ("0c:8c:24:00:00:77", [["mac", "0c:8c:24:00:00:77"]])]
)
def test_a_camera_elsewhere(broker: Broker, tmp_path: Path, mac: str, connections: object) -> None:
    """This machine is a device of its own, by which the camera is reached."""

    async def run() -> None:
        async with Life(tmp_path, broker.port, mac=mac, source="rtsp://192.0.2.1/x") as life:
            await life.settled()
            device, machine = _document(broker.port)["device"], _document(broker.port, CAM_MACHINE)["device"]
            assert device["via_device"] == machine["identifiers"][0]
            assert device.get("connections") == connections
            assert "connections" not in machine, "a camera of this very machine may have its address"
            said = [topic for topic, _, _ in _published(broker)]
            assert said.index(CAM_MACHINE) < said.index(CAM)
            assert life.file.load().has_mac is None

    asyncio.run(run())


def test_of_two_agents_on_a_machine_one_has_its_address(broker: Broker, tmp_path: Path) -> None:
    """The first, and it alone; both keep that, whichever starts first another time, and when one is alone."""

    async def run() -> None:
        async def connections(life: Life) -> object:
            await life.settled()
            topic = f"homeassistant/device/{life.config.device.id}/config"
            return _document(broker.port, topic)["device"].get("connections")

        first, second = tmp_path / "first", tmp_path / "second"
        async with Life(first, broker.port) as one, Life(second, broker.port, device="door") as other:
            assert await connections(one) == [["mac", MAC]]
            assert await connections(other) is None
        async with Life(second, broker.port, device="door") as other, Life(first, broker.port) as one:
            assert await connections(other) is None
            assert await connections(one) == [["mac", MAC]]

    asyncio.run(run())


def test_an_agent_that_has_the_address_keeps_it_beside_a_newcomer(broker: Broker, tmp_path: Path) -> None:
    """A third that starts before it has a claim of its own; the record is what counts for who had it."""

    async def run() -> None:
        async with Life(tmp_path / "first", broker.port) as life:
            await life.settled()
        async with Life(tmp_path / "new", broker.port, device="door") as new:
            await new.settled()
            async with Life(tmp_path / "first", broker.port) as life:
                await life.settled()
                assert _document(broker.port)["device"]["connections"] == [["mac", MAC]]

    asyncio.run(run())


def test_this_machines_own_addresses_are_taken(broker: Broker, tmp_path: Path) -> None:
    """The agent as a process finds the same addresses as anybody on this machine."""
    macs = own_macs()
    with AgentProcess(tmp_path / "agent", broker_port=broker.port, config={"mqtt": {"discovery": {}}}) as agent:
        _wait_until_kept(broker, {CAM, *_device_topics("cam")})
        _wait_for_record(agent, lambda record: CAM in record.topics)
        assert _record(agent).macs == tuple(macs)
        connections = _document(broker.port)["device"].get("connections")
        # Another agent of this machine may have it.
        assert connections == ([["mac", macs[0]]] if macs and _record(agent).has_mac else None)
