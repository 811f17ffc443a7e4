"""What Home Assistant asks of an MQTT discovery message, drawn from its own code (2026.11), and stricter.

Home Assistant overlooks an unknown key in a component; here it is a fault, for it is a typing error. Device classes and
platforms that nothing here uses are left out: one that comes into use is written down first.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from jinja2 import TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Longer names are cut on a dashboard's card.
LONGEST_NAME = 24
LONGEST_STATE = 255
SHORTEST_EXPIRY_S = 30
DEVICE = "device"
# What may stand for a key, in a component and at the top: of Home Assistant's short words those that are used here.
ABBREVIATIONS = {
    "avty_t": "availability_topic",
    "cmd_t": "command_topic",
    "def_ent_id": "default_entity_id",
    "dev_cla": "device_class",
    "ent_cat": "entity_category",
    "exp_aft": "expire_after",
    "ic": "icon",
    "ops": "options",
    "p": "platform",
    "json_attr_t": "json_attributes_topic",
    "json_attr_tpl": "json_attributes_template",
    "pl_off": "payload_off",
    "pl_on": "payload_on",
    "stat_cla": "state_class",
    "stat_t": "state_topic",
    "sug_dsp_prc": "suggested_display_precision",
    "t": "topic",
    "uniq_id": "unique_id",
    "unit_of_meas": "unit_of_measurement",
    "val_tpl": "value_template",
}
# What stands behind the discovery prefix.
TOPIC = re.compile(r"(?P<platform>\w+)/(?:(?P<node>[a-zA-Z0-9_-]+)/)?(?P<object>[a-zA-Z0-9_-]+)/config", re.ASCII)
ID = re.compile(r"[a-zA-Z0-9_-]+")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
ICON = re.compile(r"mdi:[a-z0-9]+(-[a-z0-9]+)*")
SLUG = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")

# Units, and state classes, that go with a sensor's device class.
SENSOR_CLASSES: dict[str, tuple[set[str], set[str]]] = {
    "data_rate": (
        {f"{prefix}bit/s" for prefix in ("", "k", "M", "G")}
        | {f"{prefix}B/s" for prefix in ("", "k", "M", "G", "Ki", "Mi", "Gi")},
        {"measurement"},
    ),
    "data_size": (
        {f"{prefix}bit" for prefix in ("", "k", "M", "G")}
        | {f"{prefix}B" for prefix in ("", *"kMGTPEZY")}
        | {f"{prefix}iB" for prefix in "KMGTPEZY"},
        {"measurement", "measurement_angle", "total", "total_increasing"},
    ),
    "duration": (
        {"d", "h", "min", "s", "ms", "μs"},
        {"measurement", "measurement_angle", "total", "total_increasing"},
    ),
    "temperature": ({"°C", "°F", "K"}, {"measurement"}),
    "enum": (set(), set()),
}
STATE_CLASSES = {"measurement", "measurement_angle", "total", "total_increasing"}
CLASSES: dict[str, set[str]] = {
    "sensor": set(SENSOR_CLASSES),
    "binary_sensor": {"connectivity", "power", "problem", "running", "update"},
    "switch": {"outlet", "switch"},
    "button": {"identify", "restart", "update"},
    "event": {"button", "doorbell", "motion"},
    "update": {"firmware"},
}

Check = Callable[[Any], str | None]


def _says(is_so: Callable[[Any], bool], fault: str) -> Check:
    return lambda value: None if is_so(value) else fault


def _topic(value: Any) -> str | None:
    if not isinstance(value, str) or not 0 < len(value.encode(errors="replace")) <= 65535:
        return "is no topic"
    if any(ord(sign) <= 0x1F or 0x7F <= ord(sign) <= 0x9F or 0xD800 <= ord(sign) <= 0xDFFF for sign in value):
        return "is a topic with a control character"
    if any(0xFDD0 <= ord(sign) <= 0xFDEF or ord(sign) & 0xFFFE == 0xFFFE for sign in value):
        return "is a topic with a non-character"
    return "is a topic with a wildcard" if set("+#") & set(value) else None


def _template(value: Any) -> str | None:
    if not isinstance(value, str):
        return "is no template"
    try:
        ImmutableSandboxedEnvironment().parse(value)
    except TemplateSyntaxError:
        return "is no template"
    return None


def _page(value: Any) -> str | None:
    try:
        url = urlsplit(value) if isinstance(value, str) else None
        good = (
            url is not None and url.scheme in ("http", "https") and bool(url.hostname) and not set(value) & set(" \t")
        )
    except ValueError:
        good = False
    return None if good else "is no http or https URL"


def _anchored(value: Any) -> str | None:
    try:
        re.compile(value)
    except (re.error, TypeError):
        return "is no pattern"
    return None if value.startswith("^") and value.endswith("$") else "is a pattern that is not anchored"


_is_text: Check = _says(lambda value: isinstance(value, str), "is no text")
_is_filled: Check = _says(lambda value: isinstance(value, str) and bool(value.strip()), "is no text, or empty")
_is_count: Check = _says(lambda value: type(value) is int and value >= 0, "is no whole number from 0 on")
_is_flag: Check = _says(lambda value: isinstance(value, bool), "is not true or false")
_is_list: Check = _says(
    lambda value: (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, str) and one for one in value)
        and len(set(value)) == len(value)
    ),
    "is no list of different texts",
)

CHECKS: dict[str, Check] = {
    "availability_topic": _topic,
    "command_topic": _topic,
    "json_attributes_topic": _topic,
    "latest_version_topic": _topic,
    "state_topic": _topic,
    "topic": _topic,
    "availability_template": _template,
    "command_template": _template,
    "json_attributes_template": _template,
    "latest_version_template": _template,
    "value_template": _template,
    "unique_id": _says(lambda value: isinstance(value, str) and bool(ID.fullmatch(value)), "has other letters"),
    "default_entity_id": _is_text,
    "name": _is_filled,
    "title": _is_filled,
    "icon": _says(lambda value: isinstance(value, str) and bool(ICON.fullmatch(value)), "is no mdi icon"),
    "entity_category": _says(lambda value: value in ("config", "diagnostic"), "is no category"),
    "device_class": _is_text,
    "state_class": _says(lambda value: value in STATE_CLASSES, "is no state class"),
    "unit_of_measurement": _is_filled,
    "options": _is_list,
    "event_types": _is_list,
    "expire_after": _is_count,
    "suggested_display_precision": _is_count,
    "max": _is_count,
    "min": _is_count,
    "mode": _says(lambda value: value in ("text", "password"), "is no mode"),
    "pattern": _anchored,
    "qos": _says(lambda value: type(value) is int and value in (0, 1, 2), "is no QoS"),
    "retain": _is_flag,
    "optimistic": _is_flag,
    "enabled_by_default": _is_flag,
    "payload_available": _is_text,
    "payload_not_available": _is_text,
    "payload_on": _is_text,
    "payload_off": _is_text,
    "payload_press": _is_text,
}
SHARED = {
    *("availability_topic", "availability_template", "payload_available", "payload_not_available"),
    *("command_topic", "state_topic", "qos"),
}
_EVERY = SHARED - {"command_topic", "state_topic"} | {
    *("unique_id", "default_entity_id", "name", "icon", "entity_category", "enabled_by_default"),
    *("json_attributes_topic", "json_attributes_template"),
}
_READS = {"state_topic", "value_template"}
_WRITES = {"command_topic", "command_template", "retain"}
# What each platform needs, and what it knows beside that and `_EVERY`.
PLATFORMS: dict[str, tuple[set[str], set[str]]] = {
    "switch": ({"command_topic"}, _READS | _WRITES | {"device_class", "optimistic", "payload_on", "payload_off"}),
    "binary_sensor": ({"state_topic"}, _READS | {"device_class", "expire_after", "payload_on", "payload_off"}),
    "sensor": (
        {"state_topic"},
        _READS
        | {"device_class", "expire_after", "options", "state_class", "unit_of_measurement"}
        | {"suggested_display_precision"},
    ),
    "text": ({"command_topic"}, _READS | _WRITES | {"max", "min", "mode", "pattern"}),
    "select": ({"command_topic", "options"}, _READS | _WRITES | {"optimistic"}),
    "button": ({"command_topic"}, _WRITES | {"device_class", "payload_press"}),
    "camera": ({"topic"}, set()),
    "event": ({"state_topic", "event_types"}, _READS | {"device_class"}),
    "update": (
        {"state_topic"},
        _READS | {"device_class", "title", "latest_version_topic", "latest_version_template"},
    ),
}
NEEDED_BY_ALL = {"unique_id", "default_entity_id", "name"}
NOT_IN_CONFIG = {"sensor", "binary_sensor"}

_DEVICE: dict[str, Check] = {
    "identifiers": _says(
        lambda value: not _is_list(value) and all(ID.fullmatch(one) for one in value), "is no list of ids"
    ),
    "connections": _says(
        lambda value: (
            isinstance(value, list)
            and all(
                isinstance(one, list) and len(one) == 2 and one[0] == "mac" and bool(MAC.fullmatch(one[1]))
                for one in value
            )
        ),
        "is no list of hardware addresses",
    ),
    "name": _is_filled,
    "manufacturer": _is_filled,
    "model": _is_filled,
    "sw_version": _is_filled,
    "via_device": _says(lambda value: isinstance(value, str) and bool(ID.fullmatch(value)), "is no id"),
    "configuration_url": _page,
}
_ORIGIN: dict[str, Check] = {"name": _is_filled, "sw_version": _is_filled, "support_url": _page}


def expanded(document: Any) -> Any:
    """A message with all its keys in full, and a shared state topic where it is read, as Home Assistant makes it."""
    if not isinstance(document, dict):
        return document
    whole = {ABBREVIATIONS.get(key, key): value for key, value in document.items()}
    if not isinstance(whole.get("components"), dict):
        return whole
    shared = whole.pop("state_topic", None)
    for component, short in whole["components"].items():
        if not isinstance(short, dict):
            continue
        entity = whole["components"][component] = {ABBREVIATIONS.get(key, key): one for key, one in short.items()}
        needed, known = PLATFORMS.get(str(entity.get("platform")), (set(), set()))
        # One without anything else is to be removed.
        if shared is not None and len(entity) > 1 and "state_topic" in needed | known:
            entity.setdefault("state_topic", shared)
    return whole


def faults_of(topic: str, payload: str, *, prefix: str = "homeassistant") -> list[str]:
    """All that is wrong with one retained discovery message; nothing where Home Assistant takes all of it."""
    return list(_faults(topic, payload, prefix))


def _faults(topic: str, payload: str, prefix: str) -> Iterator[str]:
    place = TOPIC.fullmatch(topic.removeprefix(f"{prefix}/")) if topic.startswith(f"{prefix}/") else None
    if place is None or _topic(topic) is not None:
        yield "the topic is no discovery topic"
        return
    try:
        document = expanded(json.loads(payload))
    except ValueError:
        document = None
    if not isinstance(document, dict):
        yield "the message is no JSON object"
        return
    platform = place["platform"]
    if platform == DEVICE:
        yield from _device_faults(document)
        return
    if platform not in PLATFORMS:
        yield f"the topic's platform {platform} is unknown"
        return
    yield from _info_faults(document)
    entity = {key: value for key, value in document.items() if key not in ("device", "origin")}
    yield from _entity_faults(place["object"], platform, entity, {}, _name_of(document))


def _device_faults(document: Mapping[str, Any]) -> Iterator[str]:
    yield from _info_faults(document)
    for key, value in document.items():
        if key not in {"device", "origin", "components"} | SHARED:
            yield f"{key} is unknown at the top"
        elif key in CHECKS and (fault := CHECKS[key](value)) is not None:
            yield f"{key} {fault}"
    components = document.get("components")
    if not isinstance(components, dict) or not components:
        yield "components is missing"
        return
    shared = {key: value for key, value in document.items() if key in SHARED}
    unique: list[Any] = []
    for component, entity in components.items():
        if not ID.fullmatch(component):
            yield f"the component {component} has other letters"
        platform = entity.get("platform") if isinstance(entity, dict) else None
        if platform not in PLATFORMS:
            yield f"{component}: platform is missing or unknown"
            continue
        # Its platform alone: it is to be removed.
        if len(entity) > 1:
            rest = {key: value for key, value in entity.items() if key != "platform"}
            unique.append(rest.get("unique_id"))
            yield from _entity_faults(component, platform, rest, shared, _name_of(document))
    if len(set(map(repr, unique))) != len(unique):
        yield "unique_id stands twice"


def _info_faults(document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with `device` and `origin`."""
    for part, checks, needed in (("device", _DEVICE, {"name", "identifiers"}), ("origin", _ORIGIN, {"name"})):
        fields = document.get(part)
        if not isinstance(fields, dict):
            yield f"{part} is missing"
            continue
        yield from (f"{part}.{key} is missing" for key in sorted(needed - fields.keys()))
        for key, value in fields.items():
            if key not in checks:
                yield f"{part}.{key} is unknown"
            elif (fault := checks[key](value)) is not None:
                yield f"{part}.{key} {fault}"


def _name_of(document: Mapping[str, Any]) -> str:
    device = document.get("device")
    return str(device.get("name", "")) if isinstance(device, dict) else ""


def _entity_faults(
    component: str, platform: str, entity: Mapping[str, Any], shared: Mapping[str, Any], device: str
) -> Iterator[str]:
    needed, known = PLATFORMS[platform]
    for key in sorted((needed | NEEDED_BY_ALL) - entity.keys()):
        yield f"{component}: {key} is missing"
    for key, value in entity.items():
        if key not in known | needed | _EVERY:
            yield f"{component}: {key} is unknown"
        elif (fault := CHECKS[key](value)) is not None:
            yield f"{component}: {key} {fault}"
    for fault in (
        *_naming_faults(platform, entity, device),
        *_class_faults(platform, entity),
        *_reading_faults(entity, {**shared, **entity}),
    ):
        yield f"{component}: {fault}"


def _naming_faults(platform: str, entity: Mapping[str, Any], device: str) -> Iterator[str]:
    name = str(entity.get("name", ""))
    if len(name) > LONGEST_NAME:
        yield "name is long"
    # Home Assistant puts the device's name before it itself.
    if device and f"{name} ".casefold().startswith(f"{device} ".casefold()):
        yield "name begins with the device's"
    domain, _, slug = str(entity.get("default_entity_id", f"{platform}.x")).partition(".")
    if domain != platform:
        yield "default_entity_id has another domain"
    if not SLUG.fullmatch(slug):
        yield "default_entity_id is no slug"


def _class_faults(platform: str, entity: Mapping[str, Any]) -> Iterator[str]:
    device_class, unit, state_class = (
        entity.get(key) for key in ("device_class", "unit_of_measurement", "state_class")
    )
    if device_class is not None and device_class not in CLASSES.get(platform, set()):
        yield "device_class is unknown"
    elif platform == "sensor" and device_class is not None:
        units, state_classes = SENSOR_CLASSES[device_class]
        if unit not in units and not (unit is None and not units):
            yield f"unit_of_measurement does not go with {device_class}"
        if state_class is not None and state_class not in state_classes:
            yield f"state_class does not go with {device_class}"
    if platform == "sensor" and ("options" in entity) != (device_class == "enum"):
        yield "options and the class enum go together"
    if unit is not None and state_class is None:
        yield "a figure without state_class has no statistics"
    if platform in NOT_IN_CONFIG and entity.get("entity_category") == "config":
        yield "entity_category config is for what can be set"
    longest, shortest = entity.get("max", LONGEST_STATE), entity.get("min", 0)
    if isinstance(longest, int) and longest > LONGEST_STATE:
        yield "max is more than a state holds"
    if isinstance(longest, int) and isinstance(shortest, int) and shortest > longest:
        yield "min is more than max"


def _reading_faults(entity: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    state = str(entity.get("state_topic", ""))
    # What tells whether the agent is there is there itself.
    if "availability_topic" not in whole and not state.endswith("/availability"):
        yield "availability_topic is missing"
    if state.endswith("/telemetry"):
        expiry = entity.get("expire_after", 0)
        if not isinstance(expiry, int) or expiry < SHORTEST_EXPIRY_S:
            yield "expire_after is missing or short"
    if "value_template" in entity and not state:
        yield "value_template has nothing to read"
    if ("json_attributes_template" in entity) != ("json_attributes_topic" in entity):
        yield "json_attributes_template and json_attributes_topic go together"
