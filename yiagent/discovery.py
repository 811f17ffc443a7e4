"""What Home Assistant is told so that a camera is simply there: its MQTT discovery messages. Pure.

The rules that these keep are Home Assistant's own, read in its code and tried with release 2026.11: a device's message
is dropped as a whole for one unknown key in `device` or `origin`, an entity alone for a class that does not fit its
unit, and a template that fails says so in its log at every message: so each takes whatever stands in its topic.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from yiagent.model import Channel, DiscoveryFormat, Level, Phase
from yiagent.topics import (
    CHANNEL_SET,
    KEY_SET,
    OFFLINE,
    ONLINE,
    RESTART_SET,
    SERVER_SET,
    SNAPSHOT_SET,
    STREAM_SET,
    DiscoveryTopics,
    Topics,
)

# Said on a topic that is about to be left for one of the other form: the entities stay, with their history.
MIGRATE: Final = '{"migrate_discovery":true}'
# A state in Home Assistant holds no more.
LONGEST_STATE: Final = 255
# A sample that stays away for so many intervals is no longer true; and no sooner than this.
EXPIRES_AFTER_SAMPLES: Final = 4
SHORTEST_EXPIRY_S: Final = 30
_ORIGIN: Final = "yiagent"
_URL: Final = re.compile(r"https?://[!-~]+")

# Home Assistant's own short words for a component's keys (its mqtt/abbreviations.py): a broker keeps this message of
# every camera, and it is most of what a camera costs there.
_SHORT: Final = {
    "command_topic": "cmd_t",
    "default_entity_id": "def_ent_id",
    "device_class": "dev_cla",
    "entity_category": "ent_cat",
    "expire_after": "exp_aft",
    "icon": "ic",
    "json_attributes_template": "json_attr_tpl",
    "json_attributes_topic": "json_attr_t",
    "options": "ops",
    "payload_off": "pl_off",
    "payload_on": "pl_on",
    "platform": "p",
    "state_class": "stat_cla",
    "state_topic": "stat_t",
    "suggested_display_precision": "sug_dsp_prc",
    "topic": "t",
    "unique_id": "uniq_id",
    "unit_of_measurement": "unit_of_meas",
    "value_template": "val_tpl",
}

# One entity as Home Assistant takes it, without its platform.
Entity = dict[str, Any]
# The platform (sensor, switch, …) of each component, by the component's name.
Parts = dict[str, str]


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that the agent runs on, where that is not the camera itself. `id`: stable and unlike any other's.

    Its hardware address is not told: a camera whose stream comes from this very machine may have been announced with
    it, and to Home Assistant two devices with one address are one.
    """

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Card:
    """What an announcement is made of. `machine` None: the agent runs on the camera. `latest`: the newest version."""

    id: str
    name: str
    manufacturer: str
    model: str
    version: str
    page: str | None
    mac: str | None
    machine: Machine | None
    has_pictures: bool
    interval_s: float
    latest: str | None


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is to stand at one topic, and the entities that it makes."""

    payload: str
    parts: Parts


def announcements(
    card: Card,
    form: DiscoveryFormat,
    topics: Topics,
    places: DiscoveryTopics,
    dropped: Mapping[str, str] | None = None,
) -> dict[str, Announcement]:
    """All that is to stand below the discovery prefix for this device, by topic, in the order to be sent.

    `dropped`: components that an earlier version announced by the device's message, with their platforms. They are
    named there without anything else, which removes them; leaving them out would leave them in Home Assistant.
    """
    camera, machine = _camera_entities(card, topics), _machine_entities(card, topics)
    devices = [(places.camera, _camera(card), camera)]
    if card.machine is not None:
        devices.insert(0, (places.machine, _machine(card.machine), machine))
    origin = _origin(card)
    found: dict[str, Announcement] = {}
    for topic, device, entities in devices:
        shared = {"availability_topic": topics.availability} if entities is camera else {}
        if form is DiscoveryFormat.ENTITY:
            for component, entity in entities.items():
                platform = entity["platform"]
                document = {**_without_platform(entity), **shared, "device": device, "origin": origin}
                found[places.entity(platform, component)] = _announcement(document, {component: platform})
            continue
        parts = {component: str(entity["platform"]) for component, entity in entities.items()}
        # The one that most of them read stands once, for all that name none.
        most_read = {"state_topic": topics.telemetry} if entities is camera else {}
        components = {component: _shortened(entity, most_read) for component, entity in entities.items()}
        if entities is camera:
            gone = {component: {"platform": platform} for component, platform in (dropped or {}).items()}
            components = {**gone, **components}
        shared |= most_read
        found[topic] = _announcement({"device": device, "origin": origin, **shared, "components": components}, parts)
    return found


def removal(card: Card, gone: Parts) -> str:
    """The device's message that removes these components and leaves all others as they are."""
    components = {component: {"platform": platform} for component, platform in gone.items()}
    return _announcement({"device": _camera(card), "origin": _origin(card), "components": components}, {}).payload


def _origin(card: Card) -> dict[str, Any]:
    return {"name": _ORIGIN, "sw_version": card.version}


def _announcement(document: Mapping[str, Any], parts: Parts) -> Announcement:
    return Announcement(json.dumps(document, ensure_ascii=False, separators=(",", ":")), parts)


def _shortened(entity: Entity, shared: Mapping[str, Any]) -> Entity:
    return {_SHORT.get(key, key): value for key, value in entity.items() if shared.get(key) != value}


def _without_platform(entity: Entity) -> Entity:
    return {key: value for key, value in entity.items() if key != "platform"}


# --- the devices ----------------------------------------------------------------------------------------------------


def _camera(card: Card) -> dict[str, Any]:
    return _filled(
        identifiers=[f"yiagent_{card.id}"],
        connections=[["mac", card.mac]] if card.mac else None,
        name=card.name,
        manufacturer=card.manufacturer,
        model=card.model,
        sw_version=card.version,
        # A host that is none would cost the whole device.
        configuration_url=card.page if card.page is not None and _URL.fullmatch(card.page) else None,
        via_device=card.machine.id if card.machine is not None else None,
    )


def _machine(machine: Machine) -> dict[str, Any]:
    return _filled(
        identifiers=[machine.id],
        name=machine.name,
        manufacturer=_ORIGIN,
        model="Machine beside a camera",
    )


def _filled(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# --- the entities ---------------------------------------------------------------------------------------------------

# Not JSON, or JSON of another kind, is an empty mapping, in which nothing is found and nothing is complained of.
_SET = "{% set said = value_json if value_json is mapping else {} -%}"
# What an event is called by Home Assistant, and by a line of the log.
_EVENT = {"event_type": "level", "source": "source", "message": "message"}
_SET_REASON = _SET + " {% set reason = said.get('reason') if said.get('reason') is mapping else {} -%}"


def _template(expression: str, *, before: str = _SET) -> str:
    return f"{before} {{{{ {expression} }}}}"


def _value(name: str) -> str:
    """A template for one field; None where there is none, which Home Assistant shows as unknown."""
    return f"{{{{ value_json.get('{name}') if value_json is mapping else None }}}}"


def _camera_entities(card: Card, topics: Topics) -> dict[str, Entity]:
    slug = _slug(card)
    entities: dict[str, Entity] = {}

    def add(platform: str, name: str, **fields: Any) -> None:
        key = name.lower().replace(" ", "_")
        component = f"{platform}_{key}"
        entities[component] = {
            "platform": platform,
            "unique_id": f"yiagent_{card.id}_{component}",
            "default_entity_id": f"{platform}.{slug}_{key}",
            "name": name,
            **_filled(**fields),
        }

    def command(name: str) -> dict[str, Any]:
        return {"command_topic": topics.command_topic(name), "qos": 1}

    def state(template: str) -> dict[str, Any]:
        return {"state_topic": topics.state, "value_template": template}

    def sample(field: str, precision: int | None = None) -> dict[str, Any]:
        return {
            "state_topic": topics.telemetry,
            "value_template": _value(field),
            "state_class": "measurement",
            "suggested_display_precision": precision,
            "expire_after": max(SHORTEST_EXPIRY_S, math.ceil(EXPIRES_AFTER_SAMPLES * card.interval_s)),
        }

    diagnostic: dict[str, Any] = {"entity_category": "diagnostic"}
    config: dict[str, Any] = {"entity_category": "config"}
    attributes = ", ".join(
        f"'{name}': {where}.get('{name}')"
        for where, names in (("reason", ("code", "message")), ("said", ("attempt", "retry_at")))
        for name in names
    )
    set_server = _SET + " {% set server = (said.get('server') or '') | string -%}"
    line = ", ".join(f"'{name}': said.get('{field}')" for name, field in _EVENT.items())
    loud = [Level.WARNING.value, Level.ERROR.value]

    add("switch", "Stream", icon="mdi:broadcast", **state(_value("stream")), **command(STREAM_SET))
    add(
        "binary_sensor",
        "On air",
        device_class="running",
        **state(_template(f"'ON' if said.get('phase') == '{Phase.STREAMING}' else 'OFF'")),
    )
    add(
        "binary_sensor",
        "Problem",
        device_class="problem",
        **state(_template("'ON' if said.get('stream') == 'ON' and said.get('reason') else 'OFF'")),
        **diagnostic,
    )
    add(
        "sensor",
        "Phase",
        icon="mdi:state-machine",
        device_class="enum",
        options=[phase.value for phase in Phase],
        **state(_value("phase")),
    )
    add(
        "sensor",
        "Last problem",
        icon="mdi:message-alert-outline",
        **state(
            _template(
                f"((reason.get('message') or 'none') | string)[:{LONGEST_STATE}]",
                before=_SET_REASON,
            )
        ),
        json_attributes_topic=topics.state,
        json_attributes_template=_template(f"{{{attributes}}} | tojson", before=_SET_REASON),
    )
    add(
        "text",
        "Server",
        icon="mdi:server-network",
        max=LONGEST_STATE,
        pattern="^(rtmps?://.+)?$",
        # A cut address would be another one: where it does not fit, none is shown.
        **state(
            _template(
                f"server if server.startswith('rtmp') and server | length <= {LONGEST_STATE} else ''", before=set_server
            )
        ),
        **command(SERVER_SET),
        **config,
    )
    # Without a topic to read, Home Assistant would keep what was typed as the entity's state, and in its database.
    add(
        "text",
        "Stream key",
        icon="mdi:key-variant",
        mode="password",
        max=LONGEST_STATE,
        **state("{{ '' }}"),
        **command(KEY_SET),
        **config,
    )
    add(
        "select",
        "Channel",
        icon="mdi:video-switch-outline",
        options=[channel.value for channel in Channel],
        **state(_value("channel")),
        **command(CHANNEL_SET),
        **config,
    )
    add("button", "Restart stream", icon="mdi:restart", **command(RESTART_SET))
    if card.has_pictures:
        add("button", "Snapshot", icon="mdi:camera", **command(SNAPSHOT_SET))
        add("camera", "Snapshot", topic=topics.snapshot)
    rate = {"device_class": "data_rate", "unit_of_measurement": "kbit/s"}
    add("sensor", "Stream bitrate", icon="mdi:speedometer", **rate, **sample("stream_kbps", 0))
    add("sensor", "Upload", icon="mdi:upload-network", **rate, **sample("tx_kbps", 0))
    add("sensor", "Download", icon="mdi:download-network", **rate, **sample("rx_kbps", 0))
    sent = {**sample("sent_bytes"), "state_class": "total_increasing"}
    add("sensor", "Sent", icon="mdi:counter", device_class="data_size", unit_of_measurement="B", **sent)
    add("sensor", "FPS", icon="mdi:filmstrip", unit_of_measurement="fps", **sample("fps", 1), **diagnostic)
    add("sensor", "Speed", icon="mdi:fast-forward", unit_of_measurement="x", **sample("speed", 2), **diagnostic)
    add(
        "sensor",
        "On air for",
        icon="mdi:timer-outline",
        device_class="duration",
        unit_of_measurement="s",
        **sample("streaming_s", 0),
        **diagnostic,
    )
    add("sensor", "CPU", icon="mdi:cpu-32-bit", unit_of_measurement="%", **sample("cpu_percent", 0), **diagnostic)
    add(
        "sensor",
        "Memory available",
        icon="mdi:memory",
        device_class="data_size",
        unit_of_measurement="KiB",
        **sample("memory_available_kb"),
        **diagnostic,
    )
    add(
        "sensor",
        "Temperature",
        device_class="temperature",
        unit_of_measurement="°C",
        **sample("temperature_c", 0),
        **diagnostic,
    )
    add(
        "event",
        "Log",
        icon="mdi:text-box-outline",
        event_types=loud,
        state_topic=topics.log,
        value_template=_template(f"{{{line}}} | tojson if said.get('level') in {loud} else ''"),
        **diagnostic,
    )
    add(
        "update",
        "Agent",
        title="yiagent",
        device_class="firmware",
        state_topic=topics.info,
        **_versions(card, topics),
        **diagnostic,
    )
    return entities


def _slug(card: Card) -> str:
    """The device's id as entity ids begin with it."""
    return re.sub(r"[^a-z0-9]+", "_", card.id.lower()).strip("_") or "camera"


def _versions(card: Card, topics: Topics) -> dict[str, Any]:
    """Where the installed version is read, and the latest: the owner's word in the configuration, or at the broker."""
    if card.latest is None:
        latest = "{{ value | trim if value | length < 32 else '' }}"
        return {
            "value_template": _template("said.get('agent') or ''"),
            "latest_version_topic": topics.latest,
            "latest_version_template": latest,
        }
    versions = f"{{'installed_version': said.agent, 'latest_version': {json.dumps(card.latest)}}}"
    return {"value_template": _template(f"{versions} | tojson if 'agent' in said else ''")}


def _machine_entities(card: Card, topics: Topics) -> dict[str, Entity]:
    """Which agents run on a machine, and whether they are connected. It tells so itself, so it is always available."""
    return {
        "binary_sensor_agent": {
            "platform": "binary_sensor",
            "unique_id": f"yiagent_{card.id}_binary_sensor_agent",
            "default_entity_id": f"binary_sensor.{_slug(card)}_agent",
            "name": f"Agent for {card.name}",
            "device_class": "connectivity",
            "state_topic": topics.availability,
            "payload_on": ONLINE,
            "payload_off": OFFLINE,
            "entity_category": "diagnostic",
        }
    }


def parts_of(found: Iterable[Announcement]) -> Parts:
    """All components of these announcements."""
    return {component: platform for one in found for component, platform in one.parts.items()}
