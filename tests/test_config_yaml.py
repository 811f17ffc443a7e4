"""config/yiagent.yaml is the place where an owner learns what can be set: it is complete, and changes nothing."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from yiagent.config import _SHAPE, load_config

SHIPPED = Path(__file__).resolve().parents[1] / "config" / "yiagent.yaml"
CAMERA_ALONE = """
source: {hd: "rtsp://127.0.0.1/ch0_0.h264", sd: "rtsp://127.0.0.1/ch0_1.h264"}
"""


def _paths(tree: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every key of a tree, with its path; a section without anything in it counts as a key."""
    for key, value in tree.items():
        yield f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{path}{key}.")


def _leaves(tree: Mapping[str, Any]) -> set[str]:
    paths = set(_paths(tree))
    return {path for path in paths if not any(other.startswith(f"{path}.") for other in paths)}


def test_it_names_every_setting_there_is() -> None:
    """A setting that the file does not name is one that nobody finds; one too many would be refused."""
    document = yaml.safe_load(SHIPPED.read_text())
    assert sorted(_paths(document)) == sorted(_paths(_SHAPE))


def test_it_is_the_defaults(tmp_path: Path) -> None:
    """As shipped, it does what a file with the camera's addresses alone does."""
    bare = tmp_path / "bare.yaml"
    bare.write_text(CAMERA_ALONE)
    assert load_config(SHIPPED) == load_config(bare)


def test_it_shows_the_defaults() -> None:
    """What has a default shows it; only what has none (a name, a password, a file) stands without a value."""
    document = yaml.safe_load(SHIPPED.read_text())
    values = {path: _at(document, path) for path in _leaves(document)}
    empty = {path for path, value in values.items() if value is None}
    without_default = {"device.id", "device.name", "source.username", "mqtt.host", "mqtt.username", "mqtt.tls.ca_file"}
    without_default |= {path for path in values if path.endswith((".password", ".password_file", "cert_file"))}
    without_default |= {"mqtt.discovery.latest"}
    without_default |= {path for path in values if path.startswith("destination.") or path.endswith("tls.key_file")}
    assert empty == without_default


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree[key]
    return tree
