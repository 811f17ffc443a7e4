"""An absent peer costs a knock a second, not an ffmpeg; the moment both answer, the stream is launched."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import psutil
import pytest

from tests.harness import AgentProcess, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.ports import free_port
from tests.peers.process import wait_until
from tests.peers.proxy import Proxy
from tests.peers.rtmp import RtmpServer
from yiagent.knock import knock
from yiagent.model import ReasonCode
from yiagent.network import is_far
from yiagent.urls import parse_server, parse_source

DEVICE = "knock-test"
PATIENCE_S = 40.0


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


@pytest.mark.parametrize("absent", ["camera", "server"])
def test_an_absent_peer_costs_one_launch_and_one_line(
    absent: str, tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """While it is away: knocks, no further ffmpeg, one line in the log. When it is back: streaming, with no command."""
    with (
        Proxy(any_camera.port if absent == "camera" else any_server.port) as proxy,
        Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener,
    ):
        camera = f"rtsp://127.0.0.1:{proxy.port if absent == 'camera' else any_camera.port}/ch0_1.h264"
        server = f"rtmp://127.0.0.1:{proxy.port if absent == 'server' else any_server.port}/live"
        proxy.stop()
        config = {
            "device": {"id": DEVICE},
            "source": {"sd": camera},
            "destination": {"server": server, "key": f"absent-{absent}"},
            "stream": {"autostart": True, "audio": "copy"},
        }
        start = listener.position
        with AgentProcess(tmp_path, broker_port=any_broker.port, config=config) as agent:
            state = wait_for_state(
                listener,
                lambda state: bool(state["phase"] == "backing_off" and state["retry_at"] is None),
                PATIENCE_S,
                after=start,
            )
            code = "source_unreachable" if absent == "camera" else "sink_unreachable"
            assert (state["reason"]["code"], state["attempt"]) == (code, 1)
            samples = telemetry(listener, start)
            cpu = psutil.Process(agent.pid).cpu_times()
            wait_until(lambda: telemetry(listener, start) > samples + 12, PATIENCE_S, "some seconds of absence")
            spent = psutil.Process(agent.pid).cpu_times()
            print(f"absent {absent}: {spent.user + spent.system - cpu.user - cpu.system:.2f} s of CPU in about 6 s")
            after = listener.position
            assert [s for s in states(listener, start) if s["phase"] == "starting"][1:] == []
            assert agent.log_text.count(code) == 1
            proxy.start()
            wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=after)


def states(listener: Listener, after: int) -> list[dict[str, object]]:
    return [json.loads(m.payload) for m in listener.messages[after:] if m.topic.endswith("/state")]


def telemetry(listener: Listener, after: int) -> int:
    return len([m for m in listener.messages[after:] if m.topic.endswith("/telemetry")])
