"""What stands in homeassistant/ for the owner to copy, held to what the agent announces."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.homeassistant_rules import expanded
from tests.peers.camera import REPOSITORY
from yiagent.discovery import Card, announcements
from yiagent.model import DiscoveryFormat
from yiagent.settings import MANUFACTURER, MODEL
from yiagent.topics import DiscoveryTopics, Topics

FILES = REPOSITORY / "homeassistant"
BLUEPRINTS = sorted((FILES / "blueprints" / "automation" / "yiagent").glob("*.yaml"))
CARD = Card(
    id="front-door",
    name="Front door",
    manufacturer=MANUFACTURER,
    model=MODEL,
    version="1",
    page=None,
    mac=None,
    machine=None,
    has_pictures=True,
    interval_s=5.0,
    latest=None,
)
TOPICS, PLACES = Topics.of("yiagent", "front-door"), DiscoveryTopics("homeassistant", "front-door")


class _Loader(yaml.SafeLoader):
    """With the one tag that blueprints have."""


def _input(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    assert isinstance(node, yaml.ScalarNode)
    return f"!input {loader.construct_scalar(node)}"


_Loader.add_constructor("!input", _input)


def _announced() -> dict[str, dict[str, Any]]:
    """Every entity that the agent announces, by unique id."""
    (one,) = announcements(CARD, DiscoveryFormat.DEVICE, TOPICS, PLACES).values()
    document = expanded(json.loads(one.payload))
    device = {key: value for key, value in document["device"].items() if key != "sw_version"}
    shared = {"availability_topic": document["availability_topic"], "device": device}
    return {entity["unique_id"]: {**entity, **shared} for entity in document["components"].values()}


def _one_line(value: Any) -> Any:
    """A template as a folded YAML text holds it."""
    return re.sub(r"\s+", " ", value) if isinstance(value, str) else value


def test_the_package_says_what_discovery_says() -> None:
    """Entity by entity, key by key: whoever turned discovery off has the same."""
    package = yaml.safe_load((FILES / "package.yaml").read_text())
    assert set(package) == {"mqtt"}
    written = {
        entity["unique_id"]: {"platform": platform, **{key: _one_line(value) for key, value in entity.items()}}
        for platform, entities in package["mqtt"].items()
        for entity in entities
    }
    announced = {
        name: {key: _one_line(value) for key, value in entity.items()} for name, entity in _announced().items()
    }
    assert written.keys() == announced.keys()
    for name, entity in announced.items():
        assert written[name] == entity, name


def test_the_dashboard_names_entities_that_there_are() -> None:
    """And shows all that an owner looks at: state, reason, switch, server, key, channel, bit rate, picture, log."""
    text = (FILES / "dashboard.yaml").read_text()
    named = set(re.findall(r"\b(?:[a-z_]+)\.front_door_[a-z_]+", text))
    assert named <= {entity["default_entity_id"] for entity in _announced().values()}
    seen = {name.partition(".front_door_")[2] for name in named}
    assert seen >= {"on_air", "problem", "phase", "last_problem", "stream", "server", "stream_key", "channel"}
    assert seen >= {"restart_stream", "stream_bitrate", "snapshot", "log"}
    views = yaml.safe_load(text)["views"]
    assert [view["path"] for view in views] == ["cameras", "front-door"]
    assert "front_door" not in yaml.safe_dump(views[0]), "the first view is for any camera"


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_uses_all_its_inputs_and_no_others(path: Path) -> None:
    """An input that nothing reads is a question without a purpose; one that is not asked for fails the automation."""
    text = path.read_text()
    document = yaml.load(text, _Loader)
    blueprint = document["blueprint"]
    assert blueprint["domain"] == "automation"
    assert blueprint["name"].startswith("yiagent: ")
    assert blueprint["description"]
    asked = dict(_inputs(blueprint["input"]))
    used = set(re.findall(r"!input (\w+)", text))
    assert used == set(asked)
    assert all("name" in one and "selector" in one for one in asked.values())


def _inputs(inputs: dict[str, Any]) -> list[tuple[str, Any]]:
    """Also those in sections."""
    found: list[tuple[str, Any]] = []
    for name, one in inputs.items():
        found += _inputs(one["input"]) if "input" in one else [(name, one)]
    return found


def test_the_readme_names_every_blueprint_and_shows_every_picture() -> None:
    """What it links to is there, and what is there is linked to."""
    text = (FILES / "README.md").read_text()
    linked = {target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target}
    assert all((FILES / target).exists() for target in linked)
    there = {str(path.relative_to(FILES)) for path in (*BLUEPRINTS, *FILES.glob("*.png"), *FILES.glob("*.yaml"))}
    assert there <= linked
