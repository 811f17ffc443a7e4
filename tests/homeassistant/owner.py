"""What the owner copies from homeassistant/ into a real Home Assistant: package, blueprints, dashboard; its looks."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page

from tests.demo import DEVICE
from tests.harness import AgentProcess
from tests.homeassistant.checking import check, expect
from tests.homeassistant.checks import ENTITIES, PICTURES, UNKNOWN
from tests.homeassistant.hass import Json
from tests.homeassistant.stand import PATIENCE_S, Stand
from tests.homeassistant_rules import expanded
from tests.peers.camera import REPOSITORY
from tests.peers.process import PeerError
from tests.web.browser import started

FILES = REPOSITORY / "homeassistant"
BLUEPRINTS = FILES / "blueprints" / "automation" / "yiagent"
HOME_TIME = ZoneInfo("Europe/Berlin")
SOMEBODY = "input_boolean.somebody"
PLUG = "input_boolean.plug"
WINDOW = {"width": 1280, "height": 1000}
TALL = {"width": 1280, "height": 1560}
LOW = {"width": 1280, "height": 360}
PICTURE_PATIENCE_MS = 30_000


@check
def the_files_pass_its_own_check(stand: Stand) -> None:
    """Package and blueprints, put where their comments say, are content to `check_config`."""
    config = stand.hass.config
    package = (FILES / "package.yaml").read_text()
    (config / "packages" / "front_door.yaml").write_text(package)
    shutil.copytree(BLUEPRINTS, config / "blueprints" / "automation" / "yiagent")
    automations = [{"id": name, "alias": name, **_using(name, inputs)} for name, inputs in _INPUTS.items()]
    (config / "automations.yaml").write_text(yaml.safe_dump(automations))
    try:
        complaints = stand.hass.check_config()
        expect(not complaints, "\n".join(complaints))
        # That it takes notice of faults at all is seen of one: without its plug.
        faulty = [{"id": "plug", "alias": "plug", **_using("plug", {"problem": "binary_sensor.x"})}]
        (config / "automations.yaml").write_text(yaml.safe_dump(faulty))
        expect(stand.hass.check_config(), "it does not see a missing input")
    finally:
        (config / "automations.yaml").write_text("[]\n")
        (config / "packages" / "front_door.yaml").unlink()


@check
def the_package_is_as_good_as_discovery(stand: Stand) -> None:
    """With discovery off and the package in place, the same entities are there, and work."""
    shutil.copyfile(FILES / "package.yaml", stand.hass.config / "packages" / "front_door.yaml")
    stand.hass.restart()
    stand.hass.wait_until_up()
    with _front_door(stand, discovery={"enabled": False}):
        entity = "switch.front_door_stream"
        stand.hass.wait_for(lambda states: states.get(entity, {}).get("state") == "off", PATIENCE_S, "the package")
        stand.hass.wait_for(
            lambda states: states["sensor.front_door_cpu"]["state"] not in ("unknown", "unavailable"),
            *(PATIENCE_S, "the package's telemetry"),
        )
        states, found = stand.hass.states(), stand.hass.entities()
        for name, (category, attributes) in ENTITIES.items():
            ours = stand.entity(name, "front_door")
            expect(ours in found, f"the package lacks {name}")
            expect(found[ours]["entity_category"] == category, f"{name} is {found[ours]['entity_category']}")
            for attribute, value in attributes.items():
                said = states[ours]["attributes"].get(attribute)
                expect(said == value, f"{name}: {attribute} is {said}, not {value}")
        stand.hass.act("select.select_option", "select.front_door_channel", option="sd")
        stand.hass.wait_for(
            lambda states: states["select.front_door_channel"]["state"] == "sd", PATIENCE_S, "the channel to be sd"
        )
        stand.measured["by the package"] = f"{len(ENTITIES)} entities"
    (stand.hass.config / "packages" / "front_door.yaml").unlink()
    stand.hass.restart()
    stand.hass.wait_until_up()
    stand.see("switch.stream", "on")
    # What the package brought is gone with it, but for the registry's memory of it.
    for entity in [name for name in stand.hass.entities() if "front_door" in name]:
        stand.hass.call({"type": "config/entity_registry/remove", "entity_id": entity})


@check
def an_agent_beside_its_camera_names_its_machine(stand: Stand) -> None:
    """A second camera, elsewhere: a device of its own, reached by this machine, which is a device too, with a name."""
    elsewhere = {"hd": "rtsp://192.0.2.1/ch0_0.h264", "sd": None}
    with _front_door(stand, source=elsewhere) as agent:
        stand.hass.wait_for(
            lambda states: states.get("switch.front_door_stream", {}).get("state") == "off",
            *(PATIENCE_S, "the second camera"),
        )
        devices = {device["name"]: device for device in stand.hass.devices()}
        expect({"Front door", "Demo camera"} < set(devices) and len(devices) == 3, f"devices: {set(devices)}")
        camera = devices["Front door"]
        (machine,) = (device for name, device in devices.items() if name not in ("Front door", "Demo camera"))
        expect(camera["via_device_id"] == machine["id"], f"reached by {camera['via_device_id']}")
        expect(machine["name"], "the machine has no name")
        stand.hass.wait_for(
            lambda states: states.get("binary_sensor.front_door_agent", {}).get("state") == "on",
            *(PATIENCE_S, "the machine's agent"),
        )
        stand.measured["via"] = f"{machine['name']} ({machine['model']})"
        expect(stand.hass.states()[stand.entity("switch.stream")]["state"] == "on", "the first camera is disturbed")
        agent.config["mqtt"]["discovery"] = {"enabled": False}
        agent.restart()
        _expect_only_the_demo(stand)


@check
def an_entity_of_an_earlier_version_goes(stand: Stand) -> None:
    """What an earlier version announced, and this one does not, is removed, and nothing else is."""
    position = stand.listener.position
    with _front_door(stand) as agent:
        topic = "homeassistant/device/front-door/config"
        message = expanded(json.loads(stand.listener.wait_for_topic(topic, PATIENCE_S, after=position).payload))
        stand.hass.wait_for(lambda states: "switch.front_door_stream" in states, PATIENCE_S, "the camera")
        agent.stop()
        old = {**message["components"]["sensor_phase"], "unique_id": "yiagent_front-door_sensor_old", "name": "Old"}
        old["default_entity_id"] = "sensor.front_door_old"
        message["components"]["sensor_old"] = old
        stand.listener.publish(topic, json.dumps(message), retain=True)
        stand.hass.wait_for(lambda states: "sensor.front_door_old" in states, PATIENCE_S, "the old entity")
        record = agent.state_dir / "announced.json"
        announced = json.loads(record.read_text())
        announced["topics"][topic]["sensor_old"] = "sensor"
        record.write_text(json.dumps(announced))
        agent.start()
        stand.hass.wait_for(lambda states: "sensor.front_door_old" not in states, PATIENCE_S, "the old entity to go")
        without = {stand.entity(name, "front_door") for name in ENTITIES if name not in PICTURES}
        left = {name for name in stand.hass.entities() if "front_door" in name}
        expect(left == without, f"{left ^ without}")
        agent.config["mqtt"]["discovery"] = {"enabled": False}
        agent.restart()
        _expect_only_the_demo(stand)


def _expect_only_the_demo(stand: Stand) -> None:
    def names() -> list[str]:
        return [f"{device['name']} {device['identifiers']}" for device in stand.hass.devices()]

    try:
        stand.hass.wait_for(lambda states: len(names()) == 1, PATIENCE_S, "the others to go")
    except PeerError as error:
        raise PeerError(f"{error}\nits devices: {names()}") from None


# --- blueprints ---

_INPUTS: dict[str, Json] = {
    "schedule": {"stream": f"switch.{DEVICE}_stream", "begin_by": "time", "end_by": "time"},
    "problem": {"problem": f"binary_sensor.{DEVICE}_problem", "minutes": 0},
    "presence": {"stream": f"switch.{DEVICE}_stream", "watched": [SOMEBODY], "state": "on", "minutes": 0},
    "plug": {"problem": f"binary_sensor.{DEVICE}_problem", "plug": PLUG, "minutes": 0, "off_seconds": 1},
}


@check
def the_schedule_blueprint_acts(stand: Stand) -> None:
    """At the time set it goes live, at the other it ends."""
    stand.act("switch.turn_off", "switch.stream")
    stand.see("switch.stream", "off")
    begin = datetime.now(HOME_TIME) + timedelta(seconds=4)
    end = begin + timedelta(seconds=6)
    times = {"begin_time": f"{begin:%H:%M:%S}", "end_time": f"{end:%H:%M:%S}"}
    with _automation(stand, "schedule", **times):
        stand.see("switch.stream", "on")
        stand.see("switch.stream", "off")
    # The sun cannot be waited for: that it is taken, with an offset, has to do.
    with _automation(stand, "schedule", begin_by="sunset", begin_offset="-00:30:00", end_by="sunrise"):
        stand.act("switch.turn_on", "switch.stream")
        stand.see("binary_sensor.on_air", "on")


@check
def the_problem_blueprint_acts(stand: Stand) -> None:
    """A problem is notified with its reason in words; the notification goes when it is over."""
    with _automation(stand, "problem"):
        stand.demo.server.stop()
        stand.see("binary_sensor.problem", "on")
        found = _wait_for_notification(stand)
        stand.demo.server.start()
        expect(found["title"] == "Demo camera", f"its title: {found['title']}")
        expect("server" in found["message"], f"its message: {found['message']}")
        stand.measured["notification"] = found["message"]
        stand.see("binary_sensor.on_air", "on")
        stand.demo.agent.wait_until(lambda: not _notifications(stand), PATIENCE_S, "the notification to go")


@check
def the_presence_blueprint_acts(stand: Stand) -> None:
    """Live while somebody is there."""
    with _automation(stand, "presence"):
        stand.hass.act("input_boolean.turn_on", SOMEBODY)
        stand.see("switch.stream", "on")
        stand.hass.act("input_boolean.turn_off", SOMEBODY)
        stand.see("switch.stream", "off")
        stand.hass.act("input_boolean.turn_on", SOMEBODY)
        stand.see("binary_sensor.on_air", "on")


@check
def the_plug_blueprint_acts(stand: Stand) -> None:
    """A camera that does not answer has its plug switched off and on again; a server that is away has not."""
    with _automation(stand, "plug"):
        stand.demo.server.stop()
        stand.see("binary_sensor.problem", "on")
        stand.demo.server.start()
        stand.see("binary_sensor.on_air", "on")
        expect(stand.hass.states()[PLUG]["state"] == "on", "the plug is off though the camera answers")
        stand.demo.camera.stop()
        stand.hass.wait_for(lambda states: states[PLUG]["state"] == "off", PATIENCE_S, "the plug to be off")
        stand.hass.wait_for(lambda states: states[PLUG]["state"] == "on", PATIENCE_S, "the plug to be on")
        stand.demo.camera.start()
        stand.see("binary_sensor.on_air", "on")


def _using(name: str, inputs: Json) -> Json:
    return {"use_blueprint": {"path": f"yiagent/{name}.yaml", "input": inputs}}


@contextmanager
def _automation(stand: Stand, name: str, **more: Any) -> Iterator[None]:
    """An automation made of a blueprint, as its editor makes it; gone afterwards."""
    path = f"/api/config/automation/config/{name}"
    stand.hass.rest("POST", path, {"alias": name, "description": "", **_using(name, {**_INPUTS[name], **more})})
    try:
        stand.hass.wait_for(
            lambda states: states.get(f"automation.{name}", {}).get("state") == "on", PATIENCE_S, "the automation"
        )
        yield
    finally:
        stand.hass.rest("DELETE", path)
        stand.hass.wait_for(lambda states: f"automation.{name}" not in states, PATIENCE_S, "the automation to go")


def _notifications(stand: Stand) -> list[Json]:
    found = stand.hass.call({"type": "persistent_notification/get"})
    return [one for one in found if one["notification_id"].startswith("yiagent_")]


def _wait_for_notification(stand: Stand) -> Json:
    stand.demo.agent.wait_until(lambda: bool(_notifications(stand)), PATIENCE_S, "a notification")
    return _notifications(stand)[0]


@contextmanager
def _front_door(stand: Stand, discovery: Json | None = None, **config: Any) -> Iterator[AgentProcess]:
    """A second agent on the demo's broker."""
    mqtt = {"discovery": discovery} if discovery is not None else {}
    device = {"id": "front-door", "name": "Front door"}
    position = stand.listener.position
    folder = stand.demo.folder / f"front-door-{time.monotonic_ns()}"
    with AgentProcess(
        folder, broker_port=stand.demo.broker.port, config={"device": device, "mqtt": mqtt, **config}
    ) as it:
        online = it.topic("availability")
        stand.listener.wait_for(lambda m: (m.topic, m.payload) == (online, b"online"), PATIENCE_S, after=position)
        yield it


# --- its looks ---


@check
def the_dashboard_shows_it(stand: Stand) -> None:
    """Both views without one card that complains; pictures of them, and of the device's page."""
    stand.see("binary_sensor.on_air", "on")
    # A whole second on air at least, so that there is something to see.
    for name in ("sensor.stream_bitrate", "sensor.upload"):
        stand.see(name, lambda state: state not in UNKNOWN and float(state) > 100)
    text = (FILES / "dashboard.yaml").read_text().replace("front_door", DEVICE).replace("front-door", DEVICE)
    # The demo has not been there for an hour.
    text = text.replace("hours_to_show: 1\n", "hours_to_show: 0.1\n")
    config = yaml.safe_load(text.replace("Front door", "Demo camera"))
    wish = {"type": "lovelace/dashboards/create", "url_path": "the-cameras", "title": "Cameras", "mode": "storage"}
    stand.hass.call({**wish, "show_in_sidebar": True, "require_admin": False})
    stand.hass.call({"type": "lovelace/config/save", "url_path": "the-cameras", "config": config})
    (device,) = stand.hass.devices()
    with started() as browser, _as_peer_error():
        page = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
        page.set_default_timeout(PICTURE_PATIENCE_MS)
        page.add_init_script(f"localStorage.setItem('hassTokens', JSON.stringify({json.dumps(_tokens(stand))}))")
        page.goto(f"{stand.hass.url}/the-cameras/{DEVICE}")
        page.locator("hui-history-graph-card canvas, hui-history-graph-card svg").first.wait_for()
        page.locator("hui-picture-entity-card img").first.wait_for()
        _expect_content(page, ("Demo camera", "Streaming", "Stream key", "Bit rate"))
        _shoot(page, "dashboard.png")
        page.set_viewport_size(TALL)  # type: ignore[arg-type]
        page.goto(f"{stand.hass.url}/config/devices/device/{device['id']}")
        page.get_by_text("Stream bitrate").first.wait_for()
        _expect_content(page, ("Demo camera", "by yiagent", "Restart stream", "Stream key"))
        _shoot(page, "device.png")
        with _front_door(stand) as second:
            for name, payload in (("server/set", stand.demo.server.url()), ("key/set", "k"), ("stream/set", "ON")):
                stand.listener.publish(second.topic(name), payload)
            stand.hass.wait_for(
                lambda states: states.get("binary_sensor.front_door_problem", {}).get("state") == "on",
                *(PATIENCE_S, "a second camera, with a problem"),
            )
            page.set_viewport_size(LOW)  # type: ignore[arg-type]
            page.goto(f"{stand.hass.url}/the-cameras/cameras")
            page.locator("hui-markdown-card table").wait_for()
            _expect_content(page, ("Demo camera", "live", "kbit/s", "Front door", "camera"))
            _shoot(page, "dashboard-all.png")


@contextmanager
def _as_peer_error() -> Iterator[None]:
    try:
        yield
    except PlaywrightError as error:
        raise PeerError(f"in the browser: {error}") from None


def _tokens(stand: Stand) -> Json:
    url = stand.hass.url
    token = {"access_token": stand.hass.token, "token_type": "Bearer", "refresh_token": "", "expires_in": 1e6}
    return {**token, "hassUrl": url, "clientId": f"{url}/", "expires": 1e14, "ha_auth_provider": "homeassistant"}


def _expect_content(page: Page, words: tuple[str, ...]) -> None:
    for word in words:
        page.get_by_text(word).first.wait_for()
    complaints = page.locator("hui-error-card, hui-warning, hui-warning-element, ha-alert[alert-type=error]")
    if complaints.count():
        raise PeerError(f"a card complains: {complaints.first.inner_text()}")


def _shoot(page: Page, name: str) -> None:
    # Fonts, icons and the chart's curve come after what is waited for; it is a picture, not a proof.
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(2000)
    page.screenshot(path=str(FILES / name))
