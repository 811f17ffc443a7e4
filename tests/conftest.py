"""Peers that many tests share; those that a test breaks or stops it makes for itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.peers.broker import Broker
from tests.peers.camera import LiveCamera
from tests.peers.certificates import Certificates
from tests.peers.rtmp import RtmpServer

# The machine may be busy with other things; what takes its time there is no fault.
settings.register_profile("yiagent", deadline=None)
settings.load_profile("yiagent")

# The only key that the application `checked` takes; with a query, as Facebook and nginx's own users have them.
RIGHT_KEY = "made-up-right-key?psk=made-up-token"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the shared peers."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def any_certificates(shared: Path) -> Certificates:
    """Good, expired and strange certificates."""
    return Certificates(shared / "certificates")


@pytest.fixture(scope="session")
def any_camera(shared: Path) -> Iterator[LiveCamera]:
    """H.264 and AAC without a login; a keyframe every second, so that no test waits long for one."""
    with LiveCamera(shared / "camera", gop_s=1) as camera:
        yield camera


@pytest.fixture(scope="session")
def any_server(shared: Path, any_certificates: Certificates) -> Iterator[RtmpServer]:
    """nginx-rtmp that nobody stops; RTMPS ports: good, wrong name, expired, untrusted."""
    tls = [
        any_certificates.server,
        any_certificates.other_host,
        any_certificates.expired,
        any_certificates.stranger,
    ]
    with RtmpServer(shared / "server", key=RIGHT_KEY, tls=tls) as server:
        yield server


@pytest.fixture(scope="session")
def any_broker(shared: Path) -> Iterator[Broker]:
    """A broker that takes anyone and that nobody stops; each test uses a device of its own."""
    with Broker(shared / "broker") as broker:
        yield broker
