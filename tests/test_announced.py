"""The record of what was announced: it comes back as it was, and what is damaged counts as nothing."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yiagent.announced import MAX_FILE_BYTES, Announced, AnnouncedFile, parse_announced, render_announced

RECORD = Announced(
    root="yiagent/cam",
    topics={"homeassistant/device/cam/config": {"switch_stream": "switch", "sensor_phase": "sensor"}},
    dropped={"sensor_wifi": "sensor"},
    macs=("0c:8c:24:00:00:01",),
    has_mac=True,
)
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="+#"), min_size=1, max_size=20).filter(str.isprintable)
_PARTS = st.dictionaries(_TEXT, _TEXT, max_size=3)


@given(
    st.builds(
        Announced,
        root=st.none() | _TEXT,
        topics=st.dictionaries(_TEXT, _PARTS, max_size=3),
        dropped=_PARTS,
        macs=st.lists(_TEXT, max_size=3).map(tuple),
        has_mac=st.none() | st.booleans(),
    )
)
def test_a_record_comes_back_as_it_was(record: Announced) -> None:
    """Whatever topics and components there are."""
    assert parse_announced(render_announced(record)) == record


def test_a_record_is_kept_on_disk(tmp_path: Path) -> None:
    """For this user alone; where there is no file yet, nothing was announced."""
    file = AnnouncedFile(tmp_path)
    assert file.load() == Announced()
    file.save(RECORD)
    assert AnnouncedFile(tmp_path).load() == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["announced.json"]
    assert stat.S_IMODE((tmp_path / "announced.json").stat().st_mode) == 0o600


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """A folder that is gone is told as such."""
    (tmp_path / "announced.json").mkdir()
    file = AnnouncedFile(tmp_path)
    with pytest.raises(OSError, match="directory"):
        file.save(RECORD)
    assert file.load() == Announced()
    with pytest.raises(OSError, match="No such file"):
        AnnouncedFile(tmp_path / "gone").save(RECORD)


def test_the_parts_of_a_record() -> None:
    """All components of all topics; what was dropped is none of them."""
    record = Announced(topics={"a": {"x": "sensor"}, "b": {"y": "switch"}}, dropped={"z": "button"})
    assert record.parts == {"x": "sensor", "y": "switch"}


def _with(**changes: Any) -> bytes:
    return json.dumps({**json.loads(render_announced(RECORD)), **changes}).encode()


DAMAGED: list[bytes] = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[]",
    b"5",
    b"null",
    b'"version"',
    b"[" * 60_000,
    b"9" * 5000,
    render_announced(RECORD)[:-5],
    _with(version=2),
    _with(version="1"),
    _with(version=None),
    *[
        json.dumps({key: value for key, value in json.loads(render_announced(RECORD)).items() if key != gone}).encode()
        for gone in ("version", "root", "topics", "dropped", "macs", "has_mac")
    ],
    _with(root=5),
    _with(root="a/+"),
    _with(topics=[]),
    _with(topics={"a": None}),
    _with(topics={"a": ["switch"]}),
    _with(topics={"a": {"x": 5}}),
    # They become topics at a broker, which ends the connection for one that is none.
    *[_with(topics={topic: {}}) for topic in ("a/#", "+", "a\0", "a\n", "a\ud800", "a\x7f")],
    _with(dropped=None),
    _with(dropped={"x": {}}),
    _with(macs=5),
    _with(macs=[5]),
    _with(dropped={"x": "x" * MAX_FILE_BYTES}),
]


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: repr(data[:40]))
def test_a_damaged_record_is_nothing(data: bytes) -> None:
    """Nothing in it is worth a failed start, and nothing of it is half believed."""
    assert parse_announced(data) == Announced()


def test_who_has_the_address_is_open_where_it_is_not_said() -> None:
    """Anything but yes and no is not decided yet; the rest counts."""
    values: list[Any] = [None, 1, "true", []]
    for value in values:
        assert parse_announced(_with(has_mac=value)) == Announced(
            RECORD.root, RECORD.topics, RECORD.dropped, RECORD.macs
        )


def test_the_longest_record_is_read(tmp_path: Path) -> None:
    """To the byte; a file that is longer is none."""
    data = render_announced(RECORD)
    (tmp_path / "announced.json").write_bytes(data.ljust(MAX_FILE_BYTES))
    assert AnnouncedFile(tmp_path).load() == RECORD
    (tmp_path / "announced.json").write_bytes(data.ljust(MAX_FILE_BYTES + 1))
    assert AnnouncedFile(tmp_path).load() == Announced()


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: json.dumps(text).encode()))
def test_any_bytes_are_a_record_or_none(data: bytes) -> None:
    """Whatever stands there, nothing is raised."""
    parse_announced(data)


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.fixed_dictionaries(dict.fromkeys(("root", "topics", "dropped", "macs", "has_mac"), _ANYTHING)))
def test_any_fields_are_a_record_or_none(fields: dict[str, Any]) -> None:
    """Fields of any kind under the right names; what comes of it can be written and read again."""
    record = parse_announced(json.dumps({"version": 1, **fields}).encode())
    assert parse_announced(render_announced(record)) == record
