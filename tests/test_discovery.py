"""What Home Assistant is told, held against the rules drawn from its own code, and its templates, rendered for real."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.homeassistant_rules import ABBREVIATIONS, expanded, faults_of
from tests.test_payloads import FAILING, IDLE, INFO, LINE, NOTHING_KNOWN, SAMPLE, SNAPSHOT
from yiagent.config import ConfigError, parse_config
from yiagent.discovery import (
    LONGEST_STATE,
    MIGRATE,
    SHORTEST_EXPIRY_S,
    Announcement,
    Card,
    Machine,
    Parts,
    announcements,
    parts_of,
    removal,
)
from yiagent.model import Channel, DiscoveryFormat, Level, LogLine, Origin, Phase, Reason, ReasonCode, Snapshot
from yiagent.payloads import info_json, log_json, state_json, telemetry_json
from yiagent.settings import Config
from yiagent.topics import DiscoveryTopics, Topics

TOPICS = Topics.of("yiagent", "front-door")
PLACES = DiscoveryTopics("homeassistant", "front-door")
CAMERA = PLACES.camera
MACHINE = PLACES.machine
CARD = Card(
    id="front-door",
    name="Front door",
    manufacturer="YI",
    model="Home 47US",
    version="0.1.0",
    page="http://192.0.2.1:8080/",
    mac="0c:8c:24:00:00:01",
    machine=None,
    has_pictures=True,
    interval_s=5.0,
    latest=None,
)
BESIDE = replace(CARD, mac=None, machine=Machine("yiagent_machine_0123456789ab", "pi"))
GONE = {"sensor_gone": "sensor"}
DEVICE_FORM, ENTITY_FORM = DiscoveryFormat.DEVICE, DiscoveryFormat.ENTITY

# The contract: component, name, category, reads, writes, device class, unit, state class.
CONTRACT: list[tuple[str, str, str | None, str | None, str | None, str | None, str | None, str | None]] = [
    ("switch_stream", "Stream", None, "state", "stream/set", None, None, None),
    ("binary_sensor_on_air", "On air", None, "state", None, "running", None, None),
    ("binary_sensor_problem", "Problem", "diagnostic", "state", None, "problem", None, None),
    ("sensor_phase", "Phase", None, "state", None, "enum", None, None),
    ("sensor_last_problem", "Last problem", None, "state", None, None, None, None),
    ("text_server", "Server", "config", "state", "server/set", None, None, None),
    ("text_stream_key", "Stream key", "config", "state", "key/set", None, None, None),
    ("select_channel", "Channel", "config", "state", "channel/set", None, None, None),
    ("button_restart_stream", "Restart stream", None, None, "restart/set", None, None, None),
    ("button_snapshot", "Snapshot", None, None, "snapshot/set", None, None, None),
    ("camera_snapshot", "Snapshot", None, "snapshot", None, None, None, None),
    ("sensor_stream_bitrate", "Stream bitrate", None, "telemetry", None, "data_rate", "kbit/s", "measurement"),
    ("sensor_upload", "Upload", None, "telemetry", None, "data_rate", "kbit/s", "measurement"),
    ("sensor_download", "Download", None, "telemetry", None, "data_rate", "kbit/s", "measurement"),
    ("sensor_sent", "Sent", None, "telemetry", None, "data_size", "B", "total_increasing"),
    ("sensor_fps", "FPS", "diagnostic", "telemetry", None, None, "fps", "measurement"),
    ("sensor_speed", "Speed", "diagnostic", "telemetry", None, None, "x", "measurement"),
    ("sensor_on_air_for", "On air for", "diagnostic", "telemetry", None, "duration", "s", "measurement"),
    ("sensor_cpu", "CPU", "diagnostic", "telemetry", None, None, "%", "measurement"),
    ("sensor_memory_available", "Memory available", "diagnostic", "telemetry", None, "data_size", "KiB", "measurement"),
    ("sensor_temperature", "Temperature", "diagnostic", "telemetry", None, "temperature", "°C", "measurement"),
    ("event_log", "Log", "diagnostic", "log", None, None, None, None),
    ("update_agent", "Agent", "diagnostic", "info", None, "firmware", None, None),
]
PICTURES = {"button_snapshot", "camera_snapshot"}


def _made(
    card: Card = CARD, form: DiscoveryFormat = DEVICE_FORM, dropped: Parts | None = None
) -> dict[str, Announcement]:
    return announcements(card, form, TOPICS, PLACES, dropped)


def _document(card: Card = CARD, topic: str = CAMERA) -> dict[str, Any]:
    return dict(expanded(json.loads(_made(card)[topic].payload)))


@cache
def _components(card: Card = CARD) -> dict[str, dict[str, Any]]:
    return dict(_document(card)["components"])


# --- the messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", [CARD, BESIDE], ids=["on the camera", "beside it"])
@pytest.mark.parametrize("form", DiscoveryFormat)
@pytest.mark.parametrize("latest", [None, "0.2.0"])
def test_home_assistant_takes_all_of_it(card: Card, form: DiscoveryFormat, latest: str | None) -> None:
    """No rule is broken, in either form, on the camera and on a machine beside it."""
    for topic, one in _made(replace(card, latest=latest), form, GONE).items():
        assert faults_of(topic, one.payload) == []


@pytest.mark.parametrize("row", CONTRACT, ids=[row[0] for row in CONTRACT])
def test_an_entity_of_the_contract(row: tuple[str | None, ...]) -> None:
    """Each row of the contract is there, as it is there: its category, its topics, its class and its units."""
    component, name, category, reads, writes, device_class, unit, state_class = row
    assert component is not None
    entity = _components()[component]
    reading = entity.get("topic") if entity["platform"] == "camera" else entity.get("state_topic")
    assert (entity["name"], entity.get("entity_category")) == (name, category)
    assert reading == (f"yiagent/front-door/{reads}" if reads is not None else None)
    assert entity.get("command_topic") == (f"yiagent/front-door/{writes}" if writes is not None else None)
    assert entity.get("device_class") == device_class
    assert (entity.get("unit_of_measurement"), entity.get("state_class")) == (unit, state_class)
    assert component.startswith(f"{entity['platform']}_")
    assert entity["unique_id"] == f"yiagent_front-door_{component}"
    assert entity["default_entity_id"].startswith(f"{entity['platform']}.front_door_")
    # A press or a switch that gets lost would be a wish that nobody hears.
    assert entity.get("qos") == (1 if writes is not None else None)


def test_there_is_nothing_beyond_the_contract() -> None:
    """All rows in their order, and no more; without pictures, what shows and takes them is not there."""
    names = [row[0] for row in CONTRACT]
    assert list(_components()) == names
    assert list(_components(replace(CARD, has_pictures=False))) == [name for name in names if name not in PICTURES]


def test_a_broker_need_not_keep_long_words() -> None:
    """In the device's message every key that has a short word is short, and what most of them read stands once.

    An older Home Assistant may not know each of the short words: the other form has them in full.
    """
    document = json.loads(_made()[CAMERA].payload)
    entities = document["components"].values()
    assert not {key for entity in entities for key in entity} & set(ABBREVIATIONS.values())
    assert document["state_topic"] == TOPICS.telemetry
    assert TOPICS.telemetry not in {entity.get("stat_t") for entity in entities}
    for one in _made(CARD, ENTITY_FORM).values():
        assert not json.loads(one.payload).keys() & ABBREVIATIONS.keys()


def test_what_the_contract_says_of_single_entities() -> None:
    """Options are all phases and all channels, no more text than a state holds, the key is typed unseen."""
    components = _components()
    assert components["sensor_phase"]["options"] == [phase.value for phase in Phase]
    assert components["select_channel"]["options"] == [channel.value for channel in Channel]
    assert components["event_log"]["event_types"] == ["warning", "error"]
    assert components["text_server"]["max"] == components["text_stream_key"]["max"] == 255
    assert components["text_stream_key"]["mode"] == "password"
    assert components["sensor_last_problem"]["json_attributes_topic"] == TOPICS.state
    # ON, OFF and PRESS are Home Assistant's own words too.
    assert not {"payload_on", "payload_off", "payload_press"} & {key for one in components.values() for key in one}


@pytest.mark.parametrize(
    ("interval_s", "expires_s"), [(0.2, 30), (5.0, 30), (7.5, 30), (7.6, 31), (60.0, 240), (3600.0, 14400)]
)
def test_a_sample_that_stays_away_is_no_longer_true(interval_s: float, expires_s: int) -> None:
    """What comes from telemetry is unavailable after four samples that did not come, and not before half a minute."""
    components = _components(replace(CARD, interval_s=interval_s))
    expiries = {name: one["expire_after"] for name, one in components.items() if "expire_after" in one}
    assert expiries == {row[0]: expires_s for row in CONTRACT if row[3] == "telemetry"}


def test_the_camera_is_one_device() -> None:
    """Who made it, what runs there, its page and its hardware address; the origin is this program."""
    document = _document()
    assert document["device"] == {
        "identifiers": ["yiagent_front-door"],
        "connections": [["mac", "0c:8c:24:00:00:01"]],
        "name": "Front door",
        "manufacturer": "YI",
        "model": "Home 47US",
        "sw_version": "0.1.0",
        "configuration_url": "http://192.0.2.1:8080/",
    }
    assert document["origin"] == {"name": "yiagent", "sw_version": "0.1.0"}
    assert document["availability_topic"] == TOPICS.availability
    assert document.keys() == {"device", "origin", "availability_topic", "components"}


def test_what_is_not_known_is_left_out() -> None:
    """Without a page and a hardware address there is no null in the message: Home Assistant would refuse it."""
    device = _document(replace(CARD, page=None, mac=None))["device"]
    assert device.keys() == {"identifiers", "name", "manufacturer", "model", "sw_version"}


@pytest.mark.parametrize("page", ["http://my host:8080/", "http://höst/", "ftp://192.0.2.1/", "http://"])
def test_a_page_that_is_none_does_not_cost_the_device(page: str) -> None:
    """A host that somebody mistyped in web.host: without the link, and with all the rest."""
    assert "configuration_url" not in _document(replace(CARD, page=page))["device"]


def test_a_machine_beside_the_camera_is_a_device_of_its_own() -> None:
    """It comes first, for the camera names it; it tells whether this camera's agent is connected."""
    assert list(_made(BESIDE)) == [MACHINE, CAMERA]
    machine, camera = _document(BESIDE, MACHINE), _document(BESIDE)
    assert camera["device"]["via_device"] == "yiagent_machine_0123456789ab"
    assert "connections" not in camera["device"]
    assert machine["device"]["identifiers"] == ["yiagent_machine_0123456789ab"]
    assert "connections" not in machine["device"], "a camera of this very machine may have its address"
    (entity,) = machine["components"].values()
    assert (entity["name"], entity["device_class"]) == ("Agent for Front door", "connectivity")
    assert (entity["state_topic"], entity["payload_on"], entity["payload_off"]) == (
        TOPICS.availability,
        "online",
        "offline",
    )
    # Unavailable is what it is there to tell of.
    assert "availability_topic" not in machine


def test_one_message_for_each_entity() -> None:
    """For an older Home Assistant: the same entities, each with device and availability at a topic of its own."""
    whole, made = _components(BESIDE), _made(BESIDE, ENTITY_FORM)
    shared = {key: _document(BESIDE)[key] for key in ("device", "origin", "availability_topic")}
    topics = {f"homeassistant/{one['platform']}/front-door/{name}/config": name for name, one in whole.items()}
    agent = "homeassistant/binary_sensor/front-door/binary_sensor_agent/config"
    assert list(made) == [agent, *topics]
    for topic, name in topics.items():
        without_platform = {key: value for key, value in whole[name].items() if key != "platform"}
        assert json.loads(made[topic].payload) == {**without_platform, **shared}
        assert made[topic].parts == {name: whole[name]["platform"]}
    assert parts_of(made.values()) == parts_of(_made(BESIDE).values())


def test_the_parts_are_the_components() -> None:
    """What is noted down of a message is the platform of each of its components."""
    made = _made(BESIDE)
    for one in made.values():
        components = expanded(json.loads(one.payload))["components"]
        assert one.parts == {name: entity["platform"] for name, entity in components.items()}
    assert len(parts_of(made.values())) == len(CONTRACT) + 1


def test_what_an_earlier_version_announced_is_named_as_gone() -> None:
    """Its platform alone removes it from Home Assistant; it is no part of what stands there, nor in the machine's."""
    made = _made(BESIDE, dropped=GONE)
    assert json.loads(made[CAMERA].payload)["components"]["sensor_gone"] == {"platform": "sensor"}
    assert "sensor_gone" not in made[CAMERA].parts
    assert "sensor_gone" not in made[MACHINE].payload
    assert all("sensor_gone" not in one.payload for one in _made(CARD, ENTITY_FORM, GONE).values())


def test_components_are_removed_one_by_one() -> None:
    """The message that removes some of them names those alone; that which announces a move is what is awaited."""
    document = json.loads(removal(CARD, {"sensor_gone": "sensor", "button_gone": "button"}))
    assert document["components"] == {"sensor_gone": {"platform": "sensor"}, "button_gone": {"platform": "button"}}
    assert faults_of(CAMERA, json.dumps(document)) == []
    assert json.loads(MIGRATE) == {"migrate_discovery": True}


def test_no_two_devices_can_have_one_unique_id() -> None:
    """`yiagent_<device>_<component>` is unlike for any two devices: no component ends as another is called."""
    names = parts_of(_made(BESIDE).values())
    assert not [(one, other) for one, other in permutations(names, 2) if one.endswith(f"_{other}")]


# --- whatever the configuration allows ------------------------------------------------------------------------------

_LINE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300).filter(str.isprintable)
_NAME = _LINE.filter(lambda text: not text.isspace())
_TOPIC = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
_SETTINGS = st.fixed_dictionaries(
    {
        "source": st.just({"sd": "rtsp://camera.example/ch0_1.h264"}),
        "device": st.fixed_dictionaries(
            {"id": st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)},
            optional={
                "name": _NAME,
                "manufacturer": _NAME,
                "model": _NAME,
                "mac": st.sampled_from(["auto", "none", "0C-8C-24-00-00-01", "0c:8c:24:00:00:01"]),
            },
        ),
        "mqtt": st.fixed_dictionaries(
            {},
            optional={
                "prefix": _TOPIC,
                "discovery": st.fixed_dictionaries(
                    {},
                    optional={
                        "prefix": _TOPIC,
                        "latest": _LINE,
                        "format": st.sampled_from([str(form) for form in DiscoveryFormat]),
                    },
                ),
            },
        ),
        "telemetry": st.fixed_dictionaries({"interval_s": st.floats(0.2, 3600)}),
        "snapshot": st.fixed_dictionaries({"enabled": st.booleans()}),
    }
)


def _no_file(path: Path) -> str:
    raise FileNotFoundError(2, "No such file or directory")


def _allowed(tree: dict[str, Any]) -> Config | None:
    try:
        return parse_config(yaml.safe_dump(tree).encode(), hostname="front.door", read_secret=_no_file)
    except ConfigError:
        return None


def _announced(config: Config, machine: Machine | None) -> tuple[str, dict[str, Announcement]]:
    discovery = config.mqtt.discovery
    card = replace(
        CARD,
        id=config.device.id,
        name=config.device.name,
        manufacturer=config.device.manufacturer,
        model=config.device.model,
        mac=config.device.mac or None,
        machine=machine,
        has_pictures=config.snapshot_enabled,
        interval_s=config.telemetry.interval_s,
        latest=discovery.latest,
    )
    topics = Topics.of(config.mqtt.prefix, config.device.id)
    places = DiscoveryTopics(discovery.prefix, config.device.id)
    return discovery.prefix, announcements(card, discovery.format, topics, places)


# Home Assistant shows them twice then; it breaks nothing, and what a camera is called is its owner's affair.
NAMING: Final = ("name begins with the device's", "name is long")


@settings(max_examples=200)
@given(_SETTINGS, st.sampled_from([None, BESIDE.machine]))
def test_whatever_is_configured_is_taken(tree: dict[str, Any], machine: Machine | None) -> None:
    """Any id, name, maker, prefix and version that the configuration takes gives messages that Home Assistant takes."""
    config = _allowed(tree)
    assume(config is not None)
    assert config is not None
    prefix, found = _announced(config, machine)
    for topic, one in found.items():
        assert [fault for fault in faults_of(topic, one.payload, prefix=prefix) if not fault.endswith(NAMING)] == []


@settings(max_examples=100)
@given(_LINE)
@example('it\'s "0.2" \\ }} {{ value }} {% raw %} {# x #} \U0001f3a5')
def test_any_latest_version_arrives_as_it_was_typed(latest: str) -> None:
    """Whatever stands there is text in a template, and nothing of it is a template."""
    entity = _components(replace(CARD, latest=latest))["update_agent"]
    assert json.loads(_rendered(entity["value_template"], info_json(INFO))) == {
        "installed_version": INFO.agent,
        "latest_version": latest,
    }
    assert not {"latest_version_topic", "latest_version_template"} & entity.keys()


# --- the rules are rules ---------------------------------------------------------------------------------------------

Mutation = Callable[[dict[str, Any]], Any]


def _entity_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    entity: dict[str, Any] = document["components"][name]
    return entity


def _setting(component: str, **fields: Any) -> Mutation:
    """Put fields into a component; None takes one away."""

    def change(document: dict[str, Any]) -> None:
        entity = _entity_of(document, component)
        entity.update(fields)
        for key in [key for key, value in fields.items() if value is None]:
            del entity[key]

    return change


def _at_device(**fields: Any) -> Mutation:
    return lambda document: document["device"].update(fields)


MUTATIONS: dict[str, Mutation] = {
    # A device's message is dropped as a whole for these.
    "device is missing": lambda document: document.pop("device"),
    "origin is missing": lambda document: document.pop("origin"),
    "origin.name is missing": lambda document: document["origin"].pop("name"),
    "origin.version is unknown": lambda document: document["origin"].update(version="1"),
    "origin.support_url is no http": lambda document: document["origin"].update(support_url="ftp://h/"),
    "components is missing": lambda document: document.pop("components"),
    "platform is unknown at the top": lambda document: document.update(platform="mqtt"),
    "availability is unknown at the top": lambda document: document.update(availability=[]),
    "device.serial is unknown": _at_device(serial="1"),
    "device.identifiers is missing": lambda document: document["device"].pop("identifiers"),
    "device.name is missing": lambda document: document["device"].pop("name"),
    "device.name is no text": _at_device(name=None),
    "device.identifiers is no list": _at_device(identifiers=["a b"]),
    "device.connections is no list": _at_device(connections=[["mac"]]),
    "device.via_device is no id": _at_device(via_device=["x"]),
    "device.model is no text": _at_device(model=5),
    "device.manufacturer is no text": _at_device(manufacturer=""),
    "device.sw_version is no text": _at_device(sw_version=1.5),
    "device.configuration_url is no http": _at_device(configuration_url="192.0.2.1:8080"),
    "the component sensor one has": lambda document: document["components"].update({"sensor one": {}}),
    "switch_stream: platform is missing": _setting("switch_stream", platform=None),
    "switch_stream: platform is missing or unknown": _setting("switch_stream", platform="swich"),
    "switch_stream: unique_id is missing": _setting("switch_stream", unique_id=None),
    "unique_id has other letters": _setting("switch_stream", unique_id="a b"),
    "unique_id stands twice": _setting("switch_stream", unique_id="yiagent_front-door_sensor_phase"),
    # An entity fails alone for these.
    "switch_stream: command_topic is missing": _setting("switch_stream", command_topic=None),
    "sensor_phase: state_topic is missing": _setting("sensor_phase", state_topic=None),
    "text_server: command_topic is missing": _setting("text_server", command_topic=None),
    "select_channel: options is missing": _setting("select_channel", options=None),
    "button_snapshot: command_topic is missing": _setting("button_snapshot", command_topic=None),
    "camera_snapshot: topic is missing": _setting("camera_snapshot", topic=None),
    "event_log: event_types is missing": _setting("event_log", event_types=None),
    "update_agent: state_topic is missing": _setting("update_agent", state_topic=None),
    "binary_sensor_problem: state_topic is missing": _setting("binary_sensor_problem", state_topic=None),
    "sensor_phase: object_id is unknown": _setting("sensor_phase", object_id="phase"),
    "camera_snapshot: state_topic is unknown": _setting("camera_snapshot", state_topic="a"),
    "button_snapshot: value_template is unknown": _setting("button_snapshot", value_template="a"),
    "text_server: options is unknown": _setting("text_server", options=["a"]),
    "select_channel: options is no list": _setting("select_channel", options=["sd", "sd"]),
    "event_log: event_types is no list": _setting("event_log", event_types=[]),
    "max is more than a state holds": _setting("text_server", max=256),
    "min is more than max": _setting("text_server", max=5, min=6),
    "max is no whole number": _setting("text_server", max="255"),
    "pattern is no pattern": _setting("text_server", pattern="^(a$"),
    "pattern is a pattern that is not anchored": _setting("text_server", pattern="rtmp://.*"),
    "mode is no mode": _setting("text_stream_key", mode="hidden"),
    "sensor_fps: entity_category config": _setting("sensor_fps", entity_category="config"),
    "binary_sensor_problem: entity_category config": _setting("binary_sensor_problem", entity_category="config"),
    "entity_category is no category": _setting("sensor_fps", entity_category="system"),
    "sensor_last_problem: options and the class": _setting("sensor_last_problem", options=["a"]),
    "sensor_phase: options and the class": _setting("sensor_phase", options=None),
    "sensor_upload: unit_of_measurement does not go": _setting("sensor_upload", unit_of_measurement="kbps"),
    "sensor_sent: unit_of_measurement does not go": _setting("sensor_sent", unit_of_measurement="KB"),
    "sensor_phase: unit_of_measurement does not go": _setting("sensor_phase", unit_of_measurement="x"),
    "sensor_temperature: unit_of_measurement does not go": _setting("sensor_temperature", unit_of_measurement="C"),
    "sensor_on_air_for: unit_of_measurement does not go": _setting("sensor_on_air_for", unit_of_measurement="sec"),
    "sensor_upload: state_class does not go": _setting("sensor_upload", state_class="total_increasing"),
    "sensor_phase: state_class does not go": _setting("sensor_phase", state_class="measurement"),
    "state_class is no state class": _setting("sensor_upload", state_class="average"),
    "a figure without state_class": _setting("sensor_fps", state_class=None),
    "sensor_upload: device_class is unknown": _setting("sensor_upload", device_class="datarate"),
    "binary_sensor_on_air: device_class is unknown": _setting("binary_sensor_on_air", device_class="on_air"),
    "update_agent: device_class is unknown": _setting("update_agent", device_class="software"),
    "qos is no QoS": _setting("switch_stream", qos=3),
    "retain is not true or false": _setting("switch_stream", retain="false"),
    "suggested_display_precision is no whole": _setting("sensor_fps", suggested_display_precision=-1),
    "command_topic is a topic with a wildcard": _setting("switch_stream", command_topic="yiagent/+/set"),
    "state_topic is a topic with a control": _setting("switch_stream", state_topic="yiagent/\x80"),
    "state_topic is a topic with a non-char": _setting("switch_stream", state_topic="yiagent/\ufdd0"),
    "topic is no topic": _setting("camera_snapshot", topic=""),
    "value_template is no template": _setting("switch_stream", value_template="{{ value"),
    "latest_version_template is no template": _setting("update_agent", latest_version_template=5),
    # Home Assistant says nothing of these; somebody sees them.
    "default_entity_id is missing": _setting("switch_stream", default_entity_id=None),
    "default_entity_id has another domain": _setting("switch_stream", default_entity_id="sensor.front_door_stream"),
    "default_entity_id is no slug": _setting("switch_stream", default_entity_id="switch.front-door_stream"),
    "name is long": _setting("switch_stream", name="Whether this camera is to stream"),
    "name begins with the device's": _setting("switch_stream", name="Front door stream"),
    "switch_stream: name is missing": _setting("switch_stream", name=None),
    "icon is no mdi icon": _setting("switch_stream", icon="broadcast"),
    "availability_topic is missing": lambda document: document.pop("availability_topic"),
    "expire_after is missing or short": _setting("sensor_fps", expire_after=None),
    "sensor_fps: expire_after is missing or short": _setting("sensor_fps", expire_after=SHORTEST_EXPIRY_S - 1),
    "value_template has nothing to read": _setting("text_stream_key", state_topic=None),
    "json_attributes_template and json_": _setting("sensor_last_problem", json_attributes_topic=None),
}


@pytest.mark.parametrize("fault", MUTATIONS)
def test_each_rule_is_one(fault: str) -> None:
    """A good message with one thing wrong in it is found out."""
    document = _document()
    MUTATIONS[fault](document)
    found = faults_of(CAMERA, json.dumps(document))
    assert any(fault in told for told in found), found


@pytest.mark.parametrize(
    ("topic", "payload", "fault"),
    [
        ("homeassistant/device/front door/config", None, "the topic is no discovery topic"),
        ("homeassistant/device/front-door/config/x", None, "the topic is no discovery topic"),
        ("homeassistant/device/a/b/c/config", None, "the topic is no discovery topic"),
        ("elsewhere/device/front-door/config", None, "the topic is no discovery topic"),
        ("homeassistant/swich/front-door/switch_stream/config", None, "the topic's platform swich is unknown"),
        ("homeassistant/switch/front-door/switch_stream/config", None, "components is unknown"),
        (CAMERA, "{", "the message is no JSON object"),
        (CAMERA, "[]", "the message is no JSON object"),
    ],
)
def test_a_message_at_the_wrong_place(topic: str, payload: str | None, fault: str) -> None:
    """A topic that Home Assistant does not read, and what is no message at all."""
    told = faults_of(topic, _made()[CAMERA].payload if payload is None else payload)
    assert any(fault in one for one in told), told


def test_an_entitys_own_message_is_held_to_the_rules() -> None:
    """The same rules without a device's message around it."""
    topic = "homeassistant/sensor/front-door/sensor_upload/config"
    good = json.loads(_made(form=ENTITY_FORM)[topic].payload)
    for change, fault in (
        ({"unit_of_measurement": "kbps"}, "unit_of_measurement"),
        ({"platform": "sensor"}, "platform is unknown"),
        ({"device": None}, "device is missing"),
        ({"origin": {}}, "origin.name is missing"),
    ):
        told = faults_of(topic, json.dumps({**good, **change}))
        assert any(fault in one for one in told), told
    without = {key: value for key, value in good.items() if key != "availability_topic"}
    assert faults_of(topic, json.dumps(without)) == ["sensor_upload: availability_topic is missing"]


# --- the templates ---------------------------------------------------------------------------------------------------

ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined)


def _rendered(template: str, payload: str) -> str:
    """As Home Assistant renders it: `value` is the text, and `value_json` is there only where that is JSON."""
    values: dict[str, Any] = {"value": payload}
    with suppress(ValueError):
        values["value_json"] = json.loads(payload)
    return _compiled(template).render(values).strip()


@cache
def _compiled(template: str) -> Template:
    return ENVIRONMENT.from_string(template)


def _templates(card: Card = CARD) -> Iterator[tuple[str, str, str]]:
    """Component, topic and text of every template."""
    for component, entity in _components(card).items():
        for template, topic in (
            ("value_template", "state_topic"),
            ("json_attributes_template", "json_attributes_topic"),
            ("latest_version_template", "latest_version_topic"),
        ):
            if template in entity:
                yield component, entity[topic].rpartition("/")[2], entity[template]


def _value(component: str, payload: str, *, card: Card = CARD) -> str:
    return _rendered(_components(card)[component]["value_template"], payload)


JUNK = ["", " ", "not JSON", "[]", "[1]", "5", "-1.5", '"text"', "null", "true", "{}", "{", "\0", "[[[]]]", "NaN"]


def test_there_are_templates() -> None:
    """Every entity that reads something has one, but for the picture; nothing below is true of nothing."""
    reading = {component for component, entity in _components().items() if "state_topic" in entity}
    assert reading == {component for component, _, _ in _templates()}
    assert len(reading) == len(CONTRACT) - 3


# What each gives where nothing is known; None, in Home Assistant's word, is unknown.
UNKNOWN: dict[str, str] = {
    "binary_sensor_on_air": "OFF",
    "binary_sensor_problem": "OFF",
    "sensor_last_problem": "none",
    "text_server": "",
    "text_stream_key": "",
    "event_log": "",
    "update_agent": "",
}


@pytest.mark.parametrize("payload", JUNK)
@pytest.mark.parametrize("latest", [None, "0.2.0"])
def test_junk_says_nothing(payload: str, latest: str | None) -> None:
    """What is no message of ours is no complaint in Home Assistant's log: each gives what stands for unknown."""
    card = replace(CARD, latest=latest)
    for component in dict.fromkeys(component for component, _, _ in _templates()):
        assert _value(component, payload, card=card) == UNKNOWN.get(component, "None"), component
    attributes = _components(card)["sensor_last_problem"]["json_attributes_template"]
    assert json.loads(_rendered(attributes, payload)) == dict.fromkeys(("code", "message", "attempt", "retry_at"))


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
_FIELDS = sorted(
    {key for payload in (state_json(SNAPSHOT), telemetry_json(SAMPLE), info_json(INFO), log_json(LINE))
     for key in json.loads(payload)}
)  # fmt: skip


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(_FIELDS), _ANYTHING) | _ANYTHING)
def test_no_template_ever_fails(document: Any) -> None:
    """Fields of any kind, under the names of ours: whatever comes of it, nothing is raised."""
    for latest in (None, "0.2.0"):
        for _, _, template in _templates(replace(CARD, latest=latest)):
            _rendered(template, json.dumps(document))


REASONS = [None, *(Reason(code, f"What is wrong: {code}") for code in ReasonCode)]


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.code if reason is not None else "no reason")
@pytest.mark.parametrize("on", [True, False], ids=["ON", "OFF"])
def test_the_state_is_shown_as_it_is(phase: Phase, reason: Reason | None, on: bool) -> None:
    """For every phase, with each reason and without one, while it is to stream and while it is not."""
    payload = state_json(replace(FAILING, stream=on, phase=phase, reason=reason))
    assert _value("switch_stream", payload) == ("ON" if on else "OFF")
    assert _value("binary_sensor_on_air", payload) == ("ON" if phase is Phase.STREAMING else "OFF")
    assert _value("binary_sensor_problem", payload) == ("ON" if on and reason is not None else "OFF")
    assert _value("sensor_phase", payload) == phase
    assert _value("sensor_last_problem", payload) == (reason.message if reason is not None else "none")
    assert _value("select_channel", payload) == "auto"
    attributes = json.loads(_rendered(_components()["sensor_last_problem"]["json_attributes_template"], payload))
    assert attributes == {
        "code": reason.code if reason is not None else None,
        "message": reason.message if reason is not None else None,
        "attempt": 3,
        "retry_at": json.loads(payload)["retry_at"],
    }


@pytest.mark.parametrize("channel", Channel)
def test_the_channel_is_shown(channel: Channel) -> None:
    """One of the options."""
    assert _value("select_channel", state_json(replace(SNAPSHOT, channel=channel))) == channel
    assert channel in _components()["select_channel"]["options"]


@pytest.mark.parametrize("length", [1, 254, 255, 256, 3000])
def test_a_long_problem_is_cut(length: int) -> None:
    """A state holds 255 signs; the attribute has all of them."""
    message = "ü" * length
    payload = state_json(replace(FAILING, reason=Reason(ReasonCode.SINK_DNS, message)))
    assert _value("sensor_last_problem", payload) == message[:LONGEST_STATE]
    attributes = json.loads(_rendered(_components()["sensor_last_problem"]["json_attributes_template"], payload))
    assert attributes["message"] == message


def _with_server(server: str | None) -> Snapshot:
    return replace(SNAPSHOT, server=server)


@pytest.mark.parametrize(
    ("server", "shown"),
    [
        (None, ""),
        ("rtmp://a.rtmp.youtube.com/live2", "rtmp://a.rtmp.youtube.com/live2"),
        ("rtmps://***@[2001:db8::1]:443/app?backup=1", "rtmps://***@[2001:db8::1]:443/app?backup=1"),
        (f"rtmp://h/{'a' * 246}", f"rtmp://h/{'a' * 246}"),
        (f"rtmp://h/{'a' * 247}", ""),
        (f"rtmp://h/{'a' * 3000}", ""),
    ],
)
def test_a_server_is_shown_whole_or_not_at_all(server: str | None, shown: str) -> None:
    """A cut address would be another one; what is shown fits the entity's own pattern and length."""
    entity = _components()["text_server"]
    assert _value("text_server", state_json(_with_server(server))) == shown
    assert re.match(entity["pattern"], shown)
    assert len(shown) <= entity["max"]


@pytest.mark.parametrize("typed", ["http://h/a", "h/app", "rtmp:/h", "rtmp://", "xrtmp://h/a", "rtmpss://h/a"])
def test_what_is_no_server_cannot_be_typed(typed: str) -> None:
    """Home Assistant refuses it before it is sent."""
    assert not re.match(_components()["text_server"]["pattern"], typed)


@pytest.mark.parametrize("payload", [state_json(SNAPSHOT), state_json(FAILING), state_json(IDLE), '{"key":"x"}', "x"])
def test_the_key_is_never_shown(payload: str) -> None:
    """Whatever the state holds, the text for the key is empty: what was typed is not kept there either."""
    assert _value("text_stream_key", payload) == ""


@pytest.mark.parametrize(
    ("component", "field", "shown"),
    [
        ("sensor_stream_bitrate", "stream_kbps", "612.4"),
        ("sensor_upload", "tx_kbps", "655.1"),
        ("sensor_download", "rx_kbps", "12.0"),
        ("sensor_sent", "sent_bytes", "48211034"),
        ("sensor_fps", "fps", "15.0"),
        ("sensor_speed", "speed", "1.0"),
        ("sensor_on_air_for", "streaming_s", "631"),
        ("sensor_cpu", "cpu_percent", "31.0"),
        ("sensor_memory_available", "memory_available_kb", "9120"),
        ("sensor_temperature", "temperature_c", "None"),
    ],
)
def test_a_sample_is_shown(component: str, field: str, shown: str) -> None:
    """Each figure from its own field; null is unknown, and 0 is 0."""
    assert _value(component, telemetry_json(SAMPLE)) == shown
    sample = json.loads(telemetry_json(NOTHING_KNOWN))
    assert _value(component, json.dumps({**sample, field: None})) == "None"
    assert _value(component, json.dumps({**sample, field: 0})) == "0"
    assert _value(component, json.dumps({**json.loads(telemetry_json(SAMPLE)), field: 7.25})) == "7.25"


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("source", Origin)
@pytest.mark.parametrize("message", ["plain", "“quoted” 'and' \"that\" {{ braces }} <b>&", "ü" * 500, "\\"])
def test_only_warnings_and_errors_are_events(level: Level, source: Origin, message: str) -> None:
    """They come as JSON with their type, who said it and what; the rest is empty, which is passed over."""
    event = _value("event_log", log_json(LogLine(1, 0.0, level, source, message)))
    if level in (Level.WARNING, Level.ERROR):
        assert json.loads(event) == {"event_type": level, "source": source, "message": message}
        assert level in _components()["event_log"]["event_types"]
    else:
        assert event == ""


def test_the_version_is_the_agents() -> None:
    """Installed is what `info` says; the newest stands at the broker, where its owner put it, for all cameras."""
    entity = _components()["update_agent"]
    assert _value("update_agent", info_json(INFO)) == "0.1.0"
    assert _value("update_agent", info_json(replace(INFO, ffmpeg=None, web=None))) == "0.1.0"
    assert entity["latest_version_topic"] == "yiagent/latest"
    for payload, latest in {"0.2.0": "0.2.0", " 0.2.0\n": "0.2.0", "": "", "1" * 31: "1" * 31, "1" * 32: ""}.items():
        assert _rendered(entity["latest_version_template"], payload) == latest
