"""The wire names of the contract, for any prefix and device, and nothing of another device taken for ours."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from yiagent.topics import OFFLINE, ONLINE, DiscoveryTopics, Topics

TOPICS = Topics.of("home/cameras", "front-door")
ROOTS = st.from_regex(r"[A-Za-z0-9_-]{1,8}(/[A-Za-z0-9_-]{1,8})?", fullmatch=True)
DEVICES = st.from_regex(r"[A-Za-z0-9_-]{1,16}", fullmatch=True)


def test_the_names_of_the_contract() -> None:
    """Every topic below `<prefix>/<device>`, as the contract spells it."""
    root = "home/cameras/front-door"
    assert TOPICS.root == root
    assert TOPICS.availability == f"{root}/availability"
    assert TOPICS.info == f"{root}/info"
    assert TOPICS.state == f"{root}/state"
    assert TOPICS.telemetry == f"{root}/telemetry"
    assert TOPICS.log == f"{root}/log"
    assert TOPICS.snapshot == f"{root}/snapshot"
    assert TOPICS.response == f"{root}/response"
    assert TOPICS.request == f"{root}/request"
    assert (ONLINE, OFFLINE) == ("online", "offline")


def test_every_command_is_subscribed_to() -> None:
    """One filter takes every `…/set`, mistyped ones included, and none of what the agent publishes itself."""
    assert TOPICS.any_command == "home/cameras/front-door/+/set"


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("home/cameras/front-door/stream/set", "stream/set"),
        ("home/cameras/front-door/no-such-thing/set", "no-such-thing/set"),
        ("home/cameras/front-door//set", "/set"),
        ("home/cameras/front-door/stream", None),
        ("home/cameras/front-door/stream/set/", None),
        ("home/cameras/front-door/stream/sets", None),
        ("home/cameras/front-door/request", None),
        ("home/cameras/front-door/state", None),
        ("home/cameras/front-door", None),
        ("home/cameras/front-door2/stream/set", None),
        ("home/cameras/front/stream/set", None),
        ("x/home/cameras/front-door/stream/set", None),
        ("HOME/cameras/front-door/stream/set", None),
        ("stream/set", None),
        ("/set", None),
        ("", None),
    ],
)
def test_the_command_of_a_topic(topic: str, name: str | None) -> None:
    """A `…/set` below this device's root is a command by its name; everything else is none."""
    assert TOPICS.command(topic) == name


@given(ROOTS, DEVICES, DEVICES)
def test_a_command_finds_its_way_back(prefix: str, device: str, name: str) -> None:
    """For any prefix and device: what is sent to `<root>/<name>/set` is the command `<name>/set`, and is ours."""
    topics = Topics.of(prefix, device)
    assert topics.command(f"{topics.root}/{name}/set") == f"{name}/set"
    assert topics.is_ours(f"{topics.root}/{name}/set")
    for own in (topics.availability, topics.state, topics.log, topics.request, topics.response, topics.root):
        assert topics.command(own) is None
        assert topics.is_ours(own)


@given(ROOTS, DEVICES, DEVICES)
def test_another_devices_topics_are_not_ours(prefix: str, device: str, other: str) -> None:
    """Not even where one device's name begins with another's."""
    assume(device != other)
    ours, theirs = Topics.of(prefix, device), Topics.of(prefix, other)
    for topic in (theirs.root, theirs.state, f"{theirs.root}/stream/set", f"{prefix}/{device}x/stream/set"):
        assert not ours.is_ours(topic)
        assert ours.command(topic) is None


@given(ROOTS, DEVICES, DEVICES)
def test_where_a_device_is_announced_is_its_own(prefix: str, device: str, other: str) -> None:
    """In either form, and in no other device's place, also where one is called like a component or like a platform."""
    assume(device != other)
    ours, theirs = DiscoveryTopics(prefix, device), DiscoveryTopics(prefix, other)
    for places, own in ((ours, True), (theirs, False)):
        for topic in (
            places.camera,
            places.machine,
            places.entity("sensor", "sensor_x"),
            places.entity(device, device),
        ):
            assert ours.is_ours(topic) is own
    assert not ours.is_ours(DiscoveryTopics(f"{prefix}x", device).camera)
    assert not ours.is_ours(f"{prefix}/{device}")
