"""go2rtc beside the others, where it is installed: as its documentation has it publish a camera.

Read at https://github.com/AlexxIT/go2rtc: internal/streams/README.md ("Publish stream": `streams`, `publish`, and the
API's `POST /api/streams?src=…&dst=…`), and internal/{api,rtsp,webrtc}/README.md for what listens where. It publishes
from wherever it joins the camera (pkg/flv/consumer.go), so what counts as its first picture may have no keyframe yet:
an error in its favour.
"""

from __future__ import annotations

import http.client
import shutil
import sys
import urllib.parse
from pathlib import Path

import psutil
import yaml

from tests.peers.ports import accepts, free_port
from tests.peers.process import Peer, PeerError

TITLE = "go2rtc"
CAMERA = "camera"
TIMEOUT_S = 10.0


def go2rtc_program() -> str | None:
    """Where it is; None, said on stderr, where it is not: the rows then lack it."""
    program = shutil.which("go2rtc")
    if program is None:
        print("go2rtc is not installed here: measured without it", file=sys.stderr, flush=True)
    return program


class Go2rtc(Peer):
    """go2rtc with one camera. `publish_url`: published from its start on; None: only when it is told to."""

    def __init__(self, folder: Path, program: str, camera_url: str, publish_url: str | None = None) -> None:
        super().__init__(TITLE, folder)
        self._program = program
        self._camera_url = camera_url
        self._publish_url = publish_url
        self._api_port = free_port()

    def command(self) -> list[str]:
        """Write the configuration, and run it."""
        file = self.folder / "go2rtc.yaml"
        file.write_text(configuration(self._camera_url, self._publish_url, self._api_port))
        return [self._program, "-config", f"{file}"]

    def is_ready(self) -> bool:
        """Its API answers."""
        return accepts(self._api_port)

    def senders(self) -> list[psutil.Process]:
        """Itself, while it runs."""
        return [psutil.Process(self.pid)] if self.alive else []

    def publish(self, url: str) -> None:
        """Have it publish the camera there; returns when it has said that it does."""
        query = urllib.parse.urlencode({"src": CAMERA, "dst": url})
        connection = http.client.HTTPConnection("127.0.0.1", self._api_port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", f"/api/streams?{query}")
            status = connection.getresponse().status
        finally:
            connection.close()
        if status != http.client.OK:
            raise PeerError(f"go2rtc answered {status} to a publication")


def configuration(camera_url: str, publish_url: str | None, api_port: int) -> str:
    """Its configuration file. Nothing listens but the API, on loopback."""
    settings: dict[str, object] = {
        "api": {"listen": f"127.0.0.1:{api_port}"},
        "rtsp": {"listen": ""},
        "webrtc": {"listen": ""},
        "srtp": {"listen": ""},
        "streams": {CAMERA: [camera_url]},
    }
    if publish_url is not None:
        settings["publish"] = {CAMERA: [publish_url]}
    return yaml.safe_dump(settings, sort_keys=False)
