"""What Home Assistant is to make of the agent, check by check, in the order in which an owner's life brings it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.demo import DEVICE, KEY
from tests.homeassistant.checking import check, expect
from tests.homeassistant.hass import Json
from tests.homeassistant.stand import BACK_S, PATIENCE_S, Stand
from tests.peers.process import PeerError

MEASUREMENT = {"state_class": "measurement"}
RATE = {**MEASUREMENT, "device_class": "data_rate", "unit_of_measurement": "kbit/s"}
PHASES = ["idle", "starting", "streaming", "stalled", "backing_off", "stopping", "failed"]
# The contract's table, as Home Assistant has it: category, and attributes.
ENTITIES: dict[str, tuple[str | None, dict[str, Any]]] = {
    "switch.stream": (None, {}),
    "binary_sensor.on_air": (None, {"device_class": "running"}),
    "binary_sensor.problem": ("diagnostic", {"device_class": "problem"}),
    "sensor.phase": (None, {"device_class": "enum", "options": PHASES}),
    "sensor.last_problem": (None, {"code": None, "attempt": 0, "retry_at": None}),
    "text.server": ("config", {"mode": "text", "max": 255}),
    "text.stream_key": ("config", {"mode": "password", "max": 255}),
    "select.channel": ("config", {"options": ["sd", "hd", "auto"]}),
    "button.restart_stream": (None, {}),
    "button.snapshot": (None, {}),
    "camera.snapshot": (None, {}),
    "sensor.stream_bitrate": (None, RATE),
    "sensor.upload": (None, RATE),
    "sensor.download": (None, RATE),
    "sensor.sent": (
        *(None,),
        {"state_class": "total_increasing", "device_class": "data_size", "unit_of_measurement": "B"},
    ),
    "sensor.fps": ("diagnostic", {**MEASUREMENT, "unit_of_measurement": "fps"}),
    "sensor.speed": ("diagnostic", {**MEASUREMENT, "unit_of_measurement": "x"}),
    "sensor.on_air_for": ("diagnostic", {**MEASUREMENT, "device_class": "duration", "unit_of_measurement": "s"}),
    "sensor.cpu": ("diagnostic", {**MEASUREMENT, "unit_of_measurement": "%"}),
    "sensor.memory_available": (
        *("diagnostic",),
        {**MEASUREMENT, "device_class": "data_size", "unit_of_measurement": "KiB"},
    ),
    "sensor.temperature": (
        *("diagnostic",),
        {**MEASUREMENT, "device_class": "temperature", "unit_of_measurement": "°C"},
    ),
    "event.log": ("diagnostic", {"event_types": ["warning", "error"]}),
    "update.agent": ("diagnostic", {"device_class": "firmware", "title": "yiagent"}),
}
PICTURES = {"button.snapshot", "camera.snapshot"}


# --- it is simply there ---


@check
def the_camera_is_there(stand: Stand) -> None:
    """Once the owner has added the MQTT integration, the device is there by itself, with all that is known of it."""
    stand.hass.add_mqtt(stand.demo.broker.port)
    took = stand.see("switch.stream", "on")
    stand.measured["the device and its switch, after MQTT was added"] = f"{took:.1f} s"
    (device,) = stand.hass.devices()
    info = stand.listener.on(f"yiagent/{DEVICE}/info")[-1].text
    expect(device["name"] == "Demo camera", f"its name: {device['name']}")
    expect(device["identifiers"] == [["mqtt", f"yiagent_{DEVICE}"]], f"{device['identifiers']}")
    expect(device["manufacturer"] and device["model"], "no maker or model")
    expect(f'"agent":"{device["sw_version"]}"' in info, f"version {device['sw_version']}, {info}")
    expect(f'"web":"{device["configuration_url"]}"' in info, f"page {device['configuration_url']}, {info}")
    # None where another agent on this machine has it: two devices must not share it.
    expect([kind for kind, _ in device["connections"]] in (["mac"], []), f"connections: {device['connections']}")
    stand.measured["connections"] = f"{device['connections']}"


@check
def every_entity_is_what_it_should_be(stand: Stand) -> None:
    """All of the contract's table, with category, class, unit and the name that Home Assistant shows."""
    stand.see("sensor.stream_bitrate", lambda state: float(state) > 100 if state not in UNKNOWN else False)
    found = stand.hass.entities()
    names = {stand.entity(name) for name in ENTITIES}
    expect(set(found) == names, f"too many: {set(found) - names}, missing: {names - set(found)}")
    states = stand.hass.states()
    for name, (category, attributes) in ENTITIES.items():
        entity, state = found[stand.entity(name)], states[stand.entity(name)]
        expect(entity["entity_category"] == category, f"{name} is of category {entity['entity_category']}")
        for attribute, value in attributes.items():
            said = state["attributes"].get(attribute, "nothing")
            expect(said == value, f"{name}: {attribute} is {said}, not {value}")
        expect(state["attributes"]["friendly_name"].startswith("Demo camera "), f"{state['attributes']}")
        expect(not entity["original_name"].startswith("Demo"), f"{entity['original_name']}: the device's name twice")
        stand.measured[f"  {name}"] = f"{state['state'] or '(empty)'}, {category or 'no category'}"
    stand.expect_silence()


@check
def its_states_are_true(stand: Stand) -> None:
    """What Home Assistant shows is what the agent says, and the server has."""
    for name, state in (
        ("switch.stream", "on"),
        ("binary_sensor.on_air", "on"),
        ("binary_sensor.problem", "off"),
        ("sensor.phase", "streaming"),
        ("sensor.last_problem", "none"),
        ("text.server", stand.demo.server.url()),
        ("text.stream_key", ""),
        ("select.channel", "auto"),
    ):
        stand.see(name, state)
    stream = stand.demo.server.stream(KEY)
    expect(stream is not None and stream.publishing, "the server has no stream")


@check
def its_history_is_kept(stand: Stand) -> None:
    """Every figure goes into the long-term statistics, and their own check has nothing against it."""
    known = {entry["statistic_id"] for entry in stand.hass.call({"type": "recorder/list_statistic_ids"})}
    figures = {stand.entity(name) for name, (_, attributes) in ENTITIES.items() if "state_class" in attributes}
    # This machine has no thermometer.
    unknown = {entity for entity in figures if stand.hass.states()[entity]["state"] == "unknown"}
    expect(figures - unknown <= known, f"not kept: {figures - unknown - known}")
    wrong = stand.hass.call({"type": "recorder/validate_statistics"})
    expect(not any(DEVICE in entity for entity in wrong), f"{wrong}")
    since = {"type": "history/history_during_period", "start_time": "2020-01-01T00:00:00+00:00"}
    history = stand.hass.call({**since, "entity_ids": [stand.entity("sensor.phase")], "no_attributes": True})
    expect(history[stand.entity("sensor.phase")], "the phase has no history")
    stand.measured["figures in the long-term statistics"] = f"{len(figures & known)} of {len(figures)}"


# --- it obeys ---


@check
def the_switch_acts(stand: Stand) -> None:
    """Off ends the stream at the server, on brings it back, and the state follows."""
    stand.act("switch.turn_off", "switch.stream")
    stand.measured["switch off: seen"] = f"{stand.see('switch.stream', 'off'):.2f} s"
    stand.see("sensor.phase", "idle")
    stand.see("binary_sensor.on_air", "off")
    stand.demo.server.wait_until(lambda: not _publishing(stand), PATIENCE_S, "the stream to end")
    stand.act("switch.turn_on", "switch.stream")
    stand.measured["switch on: on air"] = f"{stand.see('binary_sensor.on_air', 'on'):.2f} s"
    stand.demo.server.wait_until(lambda: _publishing(stand), PATIENCE_S, "the stream to be back")


@check
def text_and_select_act(stand: Stand) -> None:
    """Server, key and channel are set from Home Assistant; the key is nowhere in it afterwards."""
    secret = "another-key-of-the-owner"
    stand.act("select.select_option", "select.channel", option="sd")
    stand.see("select.channel", "sd")
    stand.act("text.set_value", "text.stream_key", value=secret)
    server = stand.demo.server
    server.wait_until(lambda: _publishing(stand, secret), PATIENCE_S, "the stream under the new key")
    expect((server.stream(secret) or _nothing()).width == 640, "the small picture is not at the server")
    other = server.url().replace("127.0.0.1", "localhost")
    stand.act("text.set_value", "text.server", value=other)
    stand.see("text.server", other)
    for name, state in stand.hass.states().items():
        expect(secret not in f"{state}", f"{name} holds the key")
    kept = stand.hass.recorded()
    expect(any("streaming" in value for value in kept), "the database does not have what it should have")
    expect(not any(secret in value for value in kept), "the key stands in Home Assistant's recorded states")
    stand.act("text.set_value", "text.server", value=server.url())
    stand.act("text.set_value", "text.stream_key", value=KEY)
    stand.act("select.select_option", "select.channel", option="auto")
    stand.see("select.channel", "auto")
    server.wait_until(lambda: _publishing(stand), PATIENCE_S, "the stream under the old key")
    stand.see("binary_sensor.on_air", "on")


@check
def nonsense_is_refused_before_it_is_sent(stand: Stand) -> None:
    """An address that is none does not leave Home Assistant, and changes nothing."""
    before = stand.state_of_agent()["server"]
    try:
        stand.act("text.set_value", "text.server", value="http://nonsense")
    except PeerError:
        pass
    else:
        raise PeerError("Home Assistant sends what is no server")
    expect(stand.state_of_agent()["server"] == before, "the server has changed")
    # It tells so in its log, as of any service call that it refuses.
    stand.complaints()


@check
def buttons_act(stand: Stand) -> None:
    """Restart makes a new stream; Snapshot brings a new picture, which the camera entity shows."""
    before = [m.at_s for m in stand.listener.on(f"yiagent/{DEVICE}/snapshot")]
    stand.act("button.press", "button.restart_stream")
    stand.see("sensor.phase", lambda state: state in ("starting", "stopping"))
    stand.see("sensor.phase", "streaming")
    stand.act("button.press", "button.snapshot")
    topic = f"yiagent/{DEVICE}/snapshot"
    stand.demo.agent.wait_until(lambda: len(stand.listener.on(topic)) > len(before), PATIENCE_S, "a new picture")
    jpeg = stand.listener.on(topic)[-1].payload
    stand.demo.agent.wait_until(
        lambda: stand.hass.picture(stand.entity("camera.snapshot")) == stand.listener.on(topic)[-1].payload,
        *(PATIENCE_S, "the camera entity to show it"),
    )
    expect(jpeg.startswith(b"\xff\xd8"), "the picture is no JPEG")
    stand.measured["picture in the camera entity"] = f"{len(jpeg) / 1000:.0f} kB"


@check
def the_log_is_an_event(stand: Stand) -> None:
    """A refused command is an event of type warning with its sentence; lines of no concern are none."""
    stand.command("channel/set", "4k")
    entity = stand.entity("event.log")

    def refused(states: dict[str, Json]) -> bool:
        attributes = states[entity]["attributes"]
        return attributes.get("event_type") == "warning" and "channel/set" in attributes["message"]

    stand.hass.wait_for(refused, PATIENCE_S, "the warning")
    said = stand.hass.states()[entity]["attributes"]["message"]
    stand.measured["event Log"] = f"warning: {said}"


@check
def a_problem_is_told_with_its_reason(stand: Stand) -> None:
    """The server goes: off air, a problem, and why in words; it comes back: all well."""
    stand.demo.server.stop()
    took = stand.see("binary_sensor.problem", "on")
    stand.see("binary_sensor.on_air", "off")
    stand.see("switch.stream", "on")
    stand.see("sensor.last_problem", lambda state: state != "none")
    last = stand.hass.states()[stand.entity("sensor.last_problem")]
    code = last["attributes"]["code"]
    expect(code in ("sink_unreachable", "sink_closed"), f"the code is {code}")
    stand.measured["server gone: problem after"] = f"{took:.1f} s: {code}, {last['state']}"
    stand.demo.server.start()
    stand.measured["server back: on air after"] = f"{stand.see('binary_sensor.on_air', 'on'):.1f} s"
    stand.see("binary_sensor.problem", "off")
    stand.see("sensor.last_problem", "none")


@check
def updates_are_what_the_owner_says(stand: Stand) -> None:
    """Unknown until somebody says what is newest; then there is an update, or there is none."""
    installed = stand.hass.states()[stand.entity("update.agent")]["attributes"]["installed_version"]
    stand.see("update.agent", "unknown")
    stand.listener.publish("yiagent/latest", "99.0.0", retain=True)
    stand.see("update.agent", "on")
    stand.listener.publish("yiagent/latest", installed, retain=True)
    stand.see("update.agent", "off")
    stand.measured["update"] = f"installed {installed}; on at 99.0.0, off at {installed}"


@check
def junk_on_its_topics_is_passed_over(stand: Stand) -> None:
    """Whatever stands in the agent's topics by mistake, Home Assistant's log stays empty, and the truth comes back."""
    for topic in ("state", "telemetry", "log", "info"):
        for payload in ("", "not JSON", "[]", "17", '"text"', "null", "{}", '{"reason":3,"server":4}'):
            stand.listener.publish(f"yiagent/{DEVICE}/{topic}", payload)
    stand.listener.publish("yiagent/latest", "x" * 300)
    stand.command("channel/set", "sd")
    stand.see("select.channel", "sd")
    stand.see("sensor.phase", "streaming")
    stand.command("channel/set", "auto")
    stand.see("select.channel", "auto")


# --- it goes and comes back ---


@check
def a_killed_agent_is_unavailable(stand: Stand) -> None:
    """The broker tells within the keep-alive; what starts again is back, live, with nothing said twice."""
    stand.kill_agent()
    took = stand.see("switch.stream", "unavailable", 50.0)
    stand.measured["agent killed: unavailable after"] = f"{took:.1f} s"
    stand.demo.agent.start()
    stand.measured["agent started: on air after"] = f"{stand.see('binary_sensor.on_air', 'on'):.1f} s"
    _expect_all(stand)


@check
def home_assistant_restarts(stand: Stand) -> None:
    """All of it is back within 15 s of its start, and only once."""
    stand.hass.stop()
    stand.hass.start()
    took = stand.see("binary_sensor.on_air", "on", BACK_S)
    stand.measured["Home Assistant restarted: on air after"] = f"{took:.1f} s"
    stand.see("sensor.stream_bitrate", lambda state: state not in UNKNOWN)
    _expect_all(stand)


@check
def the_broker_comes_back_empty(stand: Stand) -> None:
    """A broker that has forgotten everything has all of it again, and Home Assistant too, within 15 s."""
    stand.demo.broker.restart()
    began = time.monotonic()
    stand.listener.wait_until_subscribed()
    stand.see("switch.stream", "on", BACK_S)
    stand.see("binary_sensor.on_air", "on", BACK_S)
    stand.see("sensor.stream_bitrate", lambda state: state not in UNKNOWN, BACK_S)
    stand.measured["broker restarted empty: all back after"] = f"{time.monotonic() - began:.1f} s"
    _expect_all(stand)
    # It tells of the lost connection, and of its own birth message that came too late for it; nothing of ours.
    ours = [line for line in stand.complaints() if DEVICE in line or "yiagent" in line]
    expect(not ours, f"beside the lost connection it complains of {ours}")


# --- it changes ---


@check
def the_older_form_and_back(stand: Stand) -> None:
    """`discovery.format: entity` and back: the same entities, none twice, none new, and no complaint."""
    before = {name: entity["id"] for name, entity in stand.hass.entities().items()}
    for form in ("entity", "device"):
        stand.restart_agent({"mqtt": {**_mqtt(stand), "discovery": {"format": form}}})
        own = _announcements(stand, form)
        stand.demo.agent.wait_until(own, PATIENCE_S, f"the form {form} alone to stand at the broker")
        stand.see("binary_sensor.on_air", "on")
        after = {name: entity["id"] for name, entity in stand.hass.entities().items()}
        expect(after == before, f"{form}: {set(after) ^ set(before)}")
        if form == "entity":
            # It finds nothing to clean up where nothing is left, and says so.
            said = stand.complaints()
            expect(all("No device components to cleanup" in line for line in said), f"it complains: {said}")
    stand.measured["device -> entity -> device"] = f"the same {len(before)} entities of the registry"
    _expect_all(stand)


@check
def pictures_turned_off_and_on(stand: Stand) -> None:
    """Entities that a configuration drops go; what it brings is there."""
    stand.restart_agent({"snapshot": {"enabled": False}})
    gone = {stand.entity(name) for name in PICTURES}
    stand.hass.wait_for(lambda states: not gone & set(states), PATIENCE_S, "the pictures to go")
    _expect_all(stand, without=PICTURES)
    stand.restart_agent()
    stand.see("camera.snapshot", "idle")
    _expect_all(stand)


@check
def a_renamed_device_is_one_device(stand: Stand) -> None:
    """With another device.id there is the new device, and the old one is gone."""
    stand.restart_agent({"device": {"id": "porch", "name": "Porch"}})
    entity = "switch.porch_stream"
    stand.hass.wait_for(lambda states: states.get(entity, {}).get("state") == "on", PATIENCE_S, "the new device")
    stand.hass.wait_for(lambda states: stand.entity("switch.stream") not in states, PATIENCE_S, "the old one to go")
    names = [device["name"] for device in stand.hass.devices()]
    expect(names == ["Porch"], f"devices: {names}")
    stand.restart_agent()
    stand.see("switch.stream", "on")
    stand.hass.wait_for(lambda states: entity not in states, PATIENCE_S, "the new device to go again")
    # The name alone may change too: then it is the same device.
    stand.restart_agent({"device": {"name": "Garden camera"}})
    stand.hass.wait_for(
        lambda states: [device["name"] for device in stand.hass.devices()] == ["Garden camera"],
        *(PATIENCE_S, "the new name"),
    )
    stand.restart_agent()
    stand.hass.wait_for(
        lambda states: [device["name"] for device in stand.hass.devices()] == ["Demo camera"],
        *(PATIENCE_S, "the old name"),
    )
    _expect_all(stand)


@check
def discovery_switched_off_and_on(stand: Stand) -> None:
    """Without discovery nothing is left of it; with it again, all is there."""
    stand.restart_agent({"mqtt": {**_mqtt(stand), "discovery": {"enabled": False}}})
    stand.hass.wait_for(
        lambda states: not stand.hass.devices() and not stand.hass.entities(), PATIENCE_S, "the device to go"
    )
    stand.restart_agent()
    stand.see("binary_sensor.on_air", "on")
    _expect_all(stand)


# --- what they are made of ---

UNKNOWN = ("unknown", "unavailable")


class _Nothing:
    width = 0
    publishing = False


def _nothing() -> Any:
    return _Nothing()


def _publishing(stand: Stand, key: str = KEY) -> bool:
    return bool((stand.demo.server.stream(key) or _nothing()).publishing)


def _mqtt(stand: Stand) -> dict[str, object]:
    return {"host": "127.0.0.1", "port": stand.demo.broker.port}


def _announcements(stand: Stand, form: str) -> Callable[[], bool]:
    """Whether all that stands below the discovery prefix, as far as was heard, is of this form."""

    def own() -> bool:
        standing = {m.topic: m.payload for m in stand.listener.messages if m.topic.endswith("/config")}
        topics = [topic for topic, payload in standing.items() if payload]
        return bool(topics) and all((topic.split("/")[1] == "device") == (form == "device") for topic in topics)

    return own


def _expect_all(stand: Stand, without: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    names = {stand.entity(name) for name in ENTITIES if name not in without}
    stand.hass.wait_for(lambda states: names <= set(states), PATIENCE_S, "all entities")
    found = set(stand.hass.entities())
    expect(found == names, f"too many: {found - names}, missing: {names - found}")
    expect(len(stand.hass.devices()) == 1, f"devices: {[device['name'] for device in stand.hass.devices()]}")
