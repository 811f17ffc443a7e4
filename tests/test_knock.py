"""Who does not answer, and whether it is far. What an absent peer costs is stated by rows of `tests/faults`."""

from __future__ import annotations

import socket

import pytest

from tests.peers.ports import free_port
from yiagent.knock import knock
from yiagent.model import ReasonCode
from yiagent.network import is_far
from yiagent.urls import parse_server, parse_source


def test_who_does_not_answer_is_named() -> None:
    """The camera is asked first; each has the reason that ffmpeg's own failure to connect would have."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there, gone = listening.getsockname()[1], free_port()
        cases = {
            (there, there): None,
            (gone, there): ReasonCode.SOURCE_UNREACHABLE,
            (there, gone): ReasonCode.SINK_UNREACHABLE,
            (gone, gone): ReasonCode.SOURCE_UNREACHABLE,
        }
        for (camera, server), code in cases.items():
            result = knock(
                parse_source(f"rtsp://127.0.0.1:{camera}/x"), parse_server(f"rtmp://127.0.0.1:{server}/live")
            )
            assert (result.failure.reason.code if result.failure is not None else None) is code
            assert not result.far
        unknown = knock(parse_source(f"rtsp://127.0.0.1:{there}/x"), parse_server("rtmp://no-such-host.invalid/live"))
        assert unknown.failure is not None
        assert unknown.failure.reason.code is ReasonCode.SINK_DNS


@pytest.mark.parametrize(
    ("address", "far"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("172.31.255.255", False),
        ("172.32.0.1", True),
        ("192.168.1.1", False),
        ("8.8.8.8", True),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("2001:db8::1", True),
    ],
)
def test_far_is_beyond_the_local_network(address: str, far: bool) -> None:
    """Somebody else's server is knocked at less often."""
    assert is_far(address) is far
