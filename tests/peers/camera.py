"""Cameras as peers of a test."""

import sys
from pathlib import Path
from typing import Literal

from tests.peers.ports import free_port
from tests.peers.process import Peer

Audio = Literal["aac", "pcma", "none"]
Video = Literal["h264", "h265", "none"]
REPOSITORY = Path(__file__).resolve().parents[2]


class LiveCamera(Peer):
    """The camera of `live_camera.py`: its clients join in the middle of a group of pictures.

    `freeze()` and `thaw()` stop the whole camera; `freeze_media()` only what it sends. `swapped`: HD's path shows the
    small picture, SD's the large one. `ahead_s` may be set between two starts: it comes up that long after a keyframe.
    """

    def __init__(
        self,
        folder: Path,
        *,
        audio: Audio = "aac",
        video: Video = "h264",
        login: str = "",
        auth: Literal["digest", "basic"] = "digest",
        sprop: bool = True,
        swapped: bool = False,
        gop_s: float = 2.0,
        hd_kbps: int = 1000,
        sd_kbps: int = 400,
        port: int | None = None,
    ) -> None:
        super().__init__("live_camera", folder)
        self.gop_s = gop_s
        self.ahead_s = 0.0
        self.port = port or free_port()
        self._options = [
            *("--port", f"{self.port}", "--audio", audio, "--video", video, "--login", login, "--auth", auth),
            *("--gop", f"{gop_s}", "--hd-kbps", f"{hd_kbps}", "--sd-kbps", f"{sd_kbps}"),
            *([] if sprop else ["--no-sprop"]),
            *(["--swap"] if swapped else []),
        ]

    @property
    def hd_url(self) -> str:
        """The URL of 1280x720, without a login."""
        return f"rtsp://127.0.0.1:{self.port}/ch0_0.h264"

    @property
    def sd_url(self) -> str:
        """The URL of 640x360, without a login."""
        return f"rtsp://127.0.0.1:{self.port}/ch0_1.h264"

    @property
    def plays(self) -> int:
        """How many times clients have begun to play since the camera's start."""
        return sum(" PLAY " in line and line.endswith(" 200") for line in self.log_text.splitlines())

    @property
    def clock_began_s(self) -> float:
        """The moment, by `time.monotonic()`, of its first keyframe; one follows every `gop_s`, watched or not."""
        line = next(line for line in self.log_text.splitlines() if line.startswith("clock "))
        return float(line.split()[1])

    def freeze_media(self) -> None:
        """Go on answering, but send no more media."""
        self._tell("freeze")

    def thaw_media(self) -> None:
        """Send media again, from wherever the clip is by now."""
        self._tell("thaw")

    def drop_clients(self) -> None:
        """Close every client's connection."""
        self._tell("drop")

    def refuse_clients(self) -> None:
        """Close new connections as soon as they are made."""
        self._tell("refuse")

    def accept_clients(self) -> None:
        """Serve new connections again."""
        self._tell("accept")

    def set_login(self, login: str) -> None:
        """Ask for this USER:PASS from now on; for nothing if it is empty."""
        self._tell(f"login {login}".rstrip())

    def set_audio(self, audio: Audio) -> None:
        """Offer this sound from the next client on."""
        self._tell(f"audio {audio}")

    def lose_packets(self, percent: int) -> None:
        """Send only the others of the media packets that go out by UDP."""
        self._tell(f"lose {percent}")

    def command(self) -> list[str]:
        """Run it with the interpreter of the tests."""
        return [sys.executable, "-m", "tests.peers.live_camera", "--ahead", f"{self.ahead_s}", *self._options]

    def working_folder(self) -> Path:
        """Run it where `tests` can be imported."""
        return REPOSITORY

    def is_ready(self) -> bool:
        """Media flows."""
        return any(line.startswith("ready ") for line in self.log_text.splitlines())

    def _tell(self, command: str) -> None:
        done = self._count_done(command) + 1
        self.write_line(command)
        self.wait_until(lambda: self._count_done(command) >= done, 5.0, f"it to {command.split(maxsplit=1)[0]}")

    def _count_done(self, command: str) -> int:
        return self.log_text.splitlines().count(f"done {command}")


class GstCamera(Peer):
    """The camera of `gst_camera.py`: another RTSP server, whose only login is digest."""

    def __init__(self, folder: Path, *, video: Video = "h264", audio: Audio = "aac", login: str = "") -> None:
        super().__init__("gst_camera", folder)
        self.port = free_port()
        self._options = ["--port", f"{self.port}", "--video", video, "--audio", audio, "--login", login]

    @property
    def hd_url(self) -> str:
        """The URL, without a login."""
        return f"rtsp://127.0.0.1:{self.port}/ch0_0.h264"

    def command(self) -> list[str]:
        """Run it with the interpreter that Debian builds `gi` for."""
        return ["/usr/bin/python3", f"{Path(__file__).with_name('gst_camera.py')}", *self._options]

    def is_ready(self) -> bool:
        """It listens; what it sends is made when a client comes."""
        return self.log_text.startswith("ready ") or "\nready " in self.log_text
