"""A camera in qemu with the agent's card in it, and on this machine all that it speaks to: broker, RTSP, RTMP."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.camera.card import CardImage
from tests.camera.machine import HOST, EmulatedCamera
from tests.peers.broker import Broker, Listener
from tests.peers.camera import REPOSITORY, LiveCamera
from tests.peers.process import PeerError, wait_until
from tests.peers.rtmp import RtmpServer, StreamStat

DEVICE = "yi-camera"
KEY = "the-key"
PAGE = 8080
ONLINE_S = 90.0
PATIENCE_S = 60.0
Json = dict[str, Any]


def built_card() -> Path:
    """What sd/build has made, or what YIAGENT_CARD names instead."""
    folder = Path(os.environ.get("YIAGENT_CARD") or REPOSITORY / "sd" / "out" / "card")
    if not (folder / "yiagent" / "python3").exists():
        raise PeerError(f"there is no card in {folder}: sd/build makes it")
    return folder


@dataclass
class Scene:
    """What the checks are given; `camera_with` makes the camera of each."""

    folder: Path
    broker: Broker
    rtsp: LiveCamera
    rtmp: RtmpServer
    listener: Listener
    measured: dict[str, str] = field(default_factory=dict)
    # What is heard before belongs to an earlier camera.
    since: int = 0
    _cameras: int = 0

    # --- the camera ---

    def make_camera(
        self, files: Mapping[str, str] | None = None, *, settings: Json | None = None, **options: Any
    ) -> EmulatedCamera:
        """A new camera, without power yet: its card made of what was built, configured, with `files` beside it."""
        self._cameras += 1
        folder = self.folder / f"camera-{self._cameras}"
        content = folder / "content"
        shutil.copytree(built_card(), content)
        (content / "yiagent" / "yiagent.yaml").write_text(self.configuration(settings or {}))
        for name, text in (files or {}).items():
            (content / name).write_text(text)
        for topic in ("availability", "info", "state", "snapshot"):
            self.listener.publish(f"yiagent/{DEVICE}/{topic}", b"", retain=True)
        self.listener.publish(f"homeassistant/device/{DEVICE}/config", b"", retain=True)
        self.since = self.listener.position
        return EmulatedCamera(folder, card=content, **options)

    def configuration(self, settings: Json) -> str:
        """The card's own settings with this machine's addresses, as a PC writes them: CRLF, and a mark in front."""
        configuration = yaml.safe_load((built_card() / "yiagent" / "yiagent.yaml").read_text())
        own: Json = {
            "mqtt": {"host": HOST, "port": self.broker.port, "keepalive_s": 10},
            "destination": {"server": self.rtmp.url().replace("127.0.0.1", HOST), "key": KEY},
            "source": {
                "hd": self.rtsp.hd_url.replace("127.0.0.1", HOST),
                "sd": self.rtsp.sd_url.replace("127.0.0.1", HOST),
            },
        }
        for part in (own, settings):
            for name, section in part.items():
                whole = {**(configuration.get(name) or {}), **section} if isinstance(section, dict) else section
                configuration[name] = whole
        return "\ufeff" + yaml.safe_dump(configuration, sort_keys=False).replace("\n", "\r\n")

    # --- what the agent says ---

    def command(self, name: str, payload: str) -> None:
        """Publish a command."""
        self.listener.publish(f"yiagent/{DEVICE}/{name}", payload)

    def said(self, topic: str) -> Json:
        """The last that was heard on one of its topics."""
        whole = f"yiagent/{DEVICE}/{topic}"
        heard = [message for message in self.listener.messages[self.since :] if message.topic == whole]
        return dict(json.loads(heard[-1].payload)) if heard and heard[-1].payload else {}

    def wait_until_online(
        self, camera: EmulatedCamera, *, after: int | None = None, timeout_s: float = ONLINE_S
    ) -> None:
        """Return when the agent in the camera has connected, from this position in what was heard on."""
        topic = f"yiagent/{DEVICE}/availability"
        try:
            self.listener.wait_for(
                lambda message: message.topic == topic and message.payload == b"online",
                *(timeout_s, "the agent to be online"),
                after=self.since if after is None else after,
            )
        except PeerError as error:
            raise PeerError(f"{error}\n{look(camera)}") from None

    def wait_for_state(
        self, camera: EmulatedCamera, condition: Callable[[Json], object], what: str, timeout_s: float = PATIENCE_S
    ) -> float:
        """Return when the agent's state meets the condition: after how many seconds."""
        began = time.monotonic()
        try:
            wait_until(lambda: bool(condition(self.said("state"))), timeout_s, what, poll_s=0.1)
        except PeerError as error:
            raise PeerError(f"{error}\nits last state: {self.said('state')}\n{look(camera)}") from None
        return time.monotonic() - began

    def wait_for_media(
        self, camera: EmulatedCamera, *, width: int | None = None, timeout_s: float = PATIENCE_S
    ) -> float:
        """Return when the server has new media, of this width: after how many seconds."""
        began = time.monotonic()
        first = self.stream()
        before = first.bytes_in if first is not None and first.publishing else 0

        def flows() -> bool:
            stream = self.stream()
            if stream is None or not stream.publishing or (width is not None and stream.width != width):
                return False
            # Less than before: the count of a new connection.
            return stream.bytes_in != before and stream.bytes_in > 0

        try:
            wait_until(flows, timeout_s, f"media at the server{f', {width} wide' if width else ''}", poll_s=0.1)
        except PeerError as error:
            raise PeerError(f"{error}\nits last state: {self.said('state')}\n{look(camera)}") from None
        return time.monotonic() - began

    def stream(self) -> StreamStat | None:
        """What the server has of the stream."""
        return self.rtmp.stream(KEY)


def look(camera: EmulatedCamera) -> str:
    """What somebody would look at in the camera where something is wrong."""
    commands = "cat /tmp/yiagent/console.log; cat /home/hd1/yiagent/yiagent-problems.txt; ps; free; dmesg | tail -n 5"
    try:
        return camera.ask(f"({commands}) 2>&1 | tail -n 60").output
    except PeerError as error:
        return f"(the camera does not answer: {error})"


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Broker, camera's RTSP server and RTMP server, on this machine's 127.0.0.1."""
    with (
        Broker(folder / "broker") as broker,
        LiveCamera(folder / "rtsp") as rtsp,
        RtmpServer(folder / "rtmp") as rtmp,
        Listener(broker.port) as listener,
    ):
        yield Scene(folder, broker, rtsp, rtmp, listener)


def text_on(card: CardImage, name: str) -> str:
    """A text that stands on a card, as a PC would show it; empty where there is none."""
    return card.read(name).decode().replace("\r\n", "\n") if name in card.names() else ""
