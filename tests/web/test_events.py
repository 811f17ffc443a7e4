"""Server-sent events: what is so first, then what is new, from the line on that a listener has, and never a backlog."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness import WAIT_TIMEOUT_S
from tests.peers.broker import Broker
from tests.peers.process import wait_until
from tests.test_mqtt import LOG_KEYS
from tests.web.here import Here, here, off_loop
from tests.web.samples import sample
from tests.web.visitor import Event, Events, PageStand, Reply, served
from yiagent.model import BrokerStatus, Picture
from yiagent.store import CAPACITY
from yiagent.web import live
from yiagent.web.live import Live
from yiagent.web.routes import MOST_LISTENERS


@pytest.fixture(scope="module")
def page(any_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageStand]:
    """An agent that is OFF, with a page."""
    with served(tmp_path_factory.mktemp("events"), any_broker.port) as page:
        yield page


# The real agent


def test_what_is_so_comes_first(page: PageStand) -> None:
    """State, broker, the last sample, then the log; each is the JSON that the other ways carry."""
    wait_until(lambda: page.visitor.get("/api/telemetry").json is not None, WAIT_TIMEOUT_S, "a sample")
    with page.visitor.listen() as events:
        first = [events.next() for _ in range(4)]
        assert [event.name for event in first] == ["state", "broker", "telemetry", "log"]
        assert events.retry_ms == 2000
        assert first[0].data.encode() == page.visitor.get("/api/state").body
        assert first[1].json == {"connected": True, "message": None}
        assert set(first[2].json) == set(page.visitor.get("/api/telemetry").json)
        assert set(first[3].json) == LOG_KEYS
        assert first[3].json == page.visitor.get("/api/log").json[0]
        boot = page.visitor.get("/api/about").json["boot"]
        assert [event.id for event in first] == ["", "", "", f"{boot}-1"]


def test_its_head_keeps_proxies_and_browsers_from_holding_it_back(page: PageStand) -> None:
    """No length, no compression, nothing kept."""
    events = page.visitor.listen()
    reply = events.begin()
    events.close()
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-store", "no")
    assert not {"content-length", "content-encoding", "transfer-encoding"} & reply.headers.keys()
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_what_is_new_comes_at_once(page: PageStand) -> None:
    """A command over MQTT is seen on the page, and one from the page by everyone who has it open."""
    with page.visitor.listen() as one, page.visitor.listen() as other:
        for number, send in enumerate((page.stand.request, page.visitor.request)):
            server = f"rtmp://127.0.0.1/events{number}"
            send(server=server)
            for events in (one, other):
                while (event := events.next()).name != "state" or event.json["server"] != server:
                    pass
        samples = [one.until(lambda event: event.name == "telemetry") for _ in range(3)]
        assert len({sample.data for sample in samples}) == 3


def test_the_log_goes_on_where_a_listener_was(page: PageStand) -> None:
    """By the id of the last line that it has, with the agent's mark or as a plain number."""
    lines = page.visitor.get("/api/log").json
    boot = page.visitor.get("/api/about").json["boot"]
    for mark in (f"{boot}-2", "2"):
        with page.visitor.listen(mark) as events:
            heard = events.log_until(lines[-1]["message"])
            assert [event.json for event in heard] == lines[2:][: len(heard)]
            assert heard[0].json["seq"] == 3


@pytest.mark.parametrize("mark", ["deadbeef-2", "999999", "{boot}-999999", "x", "{boot}-", "{boot}--1", "²", ""])
def test_a_strange_mark_gets_the_whole_log(page: PageStand, mark: str) -> None:
    """Of another agent, from the future, or none at all: rather a line twice than one never."""
    mark = mark.format(boot=page.visitor.get("/api/about").json["boot"])
    with page.visitor.listen(mark.encode().decode("latin-1")) as events:
        assert events.until(lambda event: event.name == "log").json["seq"] == 1


def test_a_restarted_agent_tells_all_of_its_log(any_broker: Broker, tmp_path: Path) -> None:
    """A page that was open goes on with the new agent's first line, though it has later ones of the old agent's."""
    with served(tmp_path, any_broker.port) as page:
        with page.visitor.listen() as events:
            last = events.log_until("Connected to the MQTT broker")[-1]
        assert last.json["seq"] > 1
        page.stand.agent.restart()
        page.visitor.wait_until_served()
        with page.visitor.listen(last.id) as events:
            again = events.log_until("Connected to the MQTT broker")
        assert [event.json["seq"] for event in again] == list(range(1, len(again) + 1))
        assert again[0].id.partition("-")[0] != last.id.partition("-")[0]


# The same in this process, with constants that nobody waits for


def test_each_kind_comes_when_it_is_news(tmp_path: Path) -> None:
    """Once each, the latest, and a picture by its time alone."""

    async def play() -> None:
        async with here(tmp_path) as page:
            page.store.put_picture(Picture(b"jpeg", 1_800_000_001.0))
            page.store.put_telemetry(sample(sent_bytes=1))
            with closing(Events(page.port)) as events:
                await off_loop(events.begin)
                first: list[Event] = []
                await off_loop(lambda: first.extend(events.next() for _ in range(5)))
                assert [event.name for event in first] == ["state", "broker", "telemetry", "snapshot", "log"]
                assert first[3].json == {"ts": "2027-01-15T08:00:01Z"}
                page.store.put_broker(BrokerStatus(connected=False, message="it hung up"))
                page.store.put_broker(BrokerStatus(connected=False, message="it refuses"))
                page.journal.warning("line\nwith a break")
                second: list[Event] = []
                await off_loop(lambda: second.extend(events.next() for _ in range(2)))
                assert [(event.name, event.json.get("message")) for event in second] == [
                    ("broker", "it refuses"),
                    ("log", "line with a break"),
                ]

    asyncio.run(play())


def test_a_quiet_page_is_told_that_the_agent_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word now and then, which browsers pass over, and which finds out who has gone."""
    assert live.HEARTBEAT_S == 15.0
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.02)

    async def play() -> None:
        async with here(tmp_path) as page:
            with closing(Events(page.port)) as events:
                await off_loop(events.begin)
                beats: list[Event] = []
                await off_loop(lambda: beats.extend(events.until(lambda event: event.name == ":") for _ in range(3)))
                assert len(beats) == 3
                assert [event.name for event in events.heard] == ["state", "broker", "log"]

    asyncio.run(play())


@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_goes_away_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """With the next word at the latest; store and journal then call nobody any more, and the place is free."""
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.05)

    async def play() -> None:
        async with here(tmp_path) as page:
            before = page.listeners
            for _ in range(3):
                visitors = [Events(page.port) for _ in range(MOST_LISTENERS)]
                for events in visitors:
                    await off_loop(events.begin)
                await page.until(lambda: page.listeners[0] == before[0] + MOST_LISTENERS)
                for events in visitors:
                    if how == "reset":
                        events._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    events.close()
                await page.until(lambda: page.listeners == before)

    asyncio.run(play())


def test_the_thirteenth_listener_is_told_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgotten tabs must not keep out who comes with a command; when one is closed, the next gets in."""
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.05)

    async def play() -> None:
        async with here(tmp_path) as page:
            visitors = [Events(page.port) for _ in range(MOST_LISTENERS)]
            for events in visitors:
                await off_loop(events.begin)
            await page.until(lambda: page.listeners[0] == MOST_LISTENERS)
            late = Events(page.port)
            await off_loop(lambda: replies.append(late.begin()))
            late.close()
            reply = replies.pop()
            assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "not_available", "10")
            visitors.pop().close()
            await page.until(lambda: page.listeners[0] == MOST_LISTENERS - 1)
            with closing(Events(page.port)) as events:
                await off_loop(events.begin)
                await page.until(lambda: page.listeners[0] == MOST_LISTENERS)
            for events in visitors:
                events.close()

    replies: list[Reply] = []
    asyncio.run(play())


def test_who_stopped_reading_gets_the_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of states and samples later it hears few of them, the last one, and what the journal still holds."""
    monkeypatch.setattr(live, "LEAST_PAUSE_S", 0.0)
    states = 4000

    async def play() -> None:
        async with here(tmp_path) as page:
            events = Events(page.port, receive_bytes=2048)
            await page.until(lambda: page.listeners[0] == 1)
            for number in range(1, states + 1):
                page.store.put_snapshot(replace(page.store.snapshot, attempt=number))
                page.store.put_telemetry(sample(sent_bytes=number))
                page.journal.info(f"line {number}")
                await asyncio.sleep(0)
            heard: list[Event] = []

            def read() -> None:
                assert events.begin().status == 200
                while not heard or not (heard[-1].name == "log" and heard[-1].json["seq"] == page.journal.last_seq):
                    heard.append(events.next())

            await off_loop(read)
            events.close()
            by_name = {name: [event.json for event in heard if event.name == name] for name in ("state", "telemetry")}
            assert by_name["state"][-1]["attempt"] == by_name["telemetry"][-1]["sent_bytes"] == states
            assert len(by_name["state"]) < states / 4
            lines = [event.json["seq"] for event in heard if event.name == "log"]
            assert lines == sorted(set(lines)), "none twice"
            assert lines[-CAPACITY:] == list(range(page.journal.last_seq - CAPACITY + 1, page.journal.last_seq + 1))
            # What lay in the kernel's buffers, the journal, and the latest of each: no queue besides.
            assert sum(len(event.data) for event in heard) < 400_000

    asyncio.run(play())


def test_an_event_is_one_line_of_json(tmp_path: Path) -> None:
    """Whatever is logged cannot be read as another event."""

    async def play() -> list[bytes]:
        page = Here(tmp_path)
        for message in ("a\n\nevent: state\ndata: {}", "a\r\rid: 5", "\u2028\u2029\x85", '"\\'):
            page.journal.info(message)
        listening = Live(page.store, page.journal).listen(None)
        pieces = [await anext(listening), await anext(listening)]
        await listening.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert page.listeners == (0, 0)
        return pieces

    retry, piece = asyncio.run(play())
    assert retry == b"retry: 2000\n\n"
    blocks = piece.decode().removesuffix("\n\n").split("\n\n")
    assert [block.partition("\n")[0] for block in blocks] == ["event: state", "event: broker", *["event: log"] * 4]
    for block in blocks:
        lines = re.split(r"\r\n|\r|\n", block)
        assert len(lines) == (3 if lines[0] == "event: log" else 2)
        json.loads(lines[-1].removeprefix("data: "))
