"""What service manager and kernel are told: ready, alive, stopping, and whom to end first for want of memory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness import AgentProcess, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.process import wait_until
from tests.peers.rtmp import RtmpServer
from yiagent.memory import AGENT_OOM_SCORE, REMUX_OOM_SCORE, offer_to_oom_killer, oom_kills
from yiagent.service import ServiceManager

DEVICE = "service-test"
PATIENCE_S = 30.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's end of the notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(PATIENCE_S)
        yield listening


def test_the_agent_tells_that_it_is_ready_alive_and_stopping(
    tmp_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY once, WATCHDOG for as long as its supervisor turns and not while it hangs, STOPPING at the end."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with AgentProcess(tmp_path) as agent:
        assert {manager.recv(64), manager.recv(64)} == {b"READY=1", b"WATCHDOG=1"}
        assert [manager.recv(64) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        agent.freeze()
        manager.settimeout(1)
        # What was sent before is read away; then there is silence.
        with suppress(TimeoutError):
            for _ in range(100):
                manager.recv(64)
            pytest.fail("a hung agent feeds the watchdog")
        manager.settimeout(PATIENCE_S)
        agent.thaw()
        assert manager.recv(64) == b"WATCHDOG=1"
        os.kill(agent.pid, signal.SIGTERM)
        while (message := manager.recv(64)) == b"WATCHDOG=1":
            pass
        assert message == b"STOPPING=1"


def test_without_a_service_manager_nothing_is_told(manager: socket.socket) -> None:
    """No socket, somebody else's watchdog, nonsense, a socket that is gone: no word, no error."""
    name = manager.getsockname()
    assert ServiceManager({}).watchdog_period_s is None
    assert ServiceManager({"WATCHDOG_USEC": "no"}).watchdog_period_s is None
    assert ServiceManager({"WATCHDOG_USEC": "0"}).watchdog_period_s is None
    assert ServiceManager({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, pid=2).watchdog_period_s is None
    assert ServiceManager({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "2"}, pid=2).watchdog_period_s == 1.0
    ServiceManager({"NOTIFY_SOCKET": f"{name}-gone"}).ready()
    ServiceManager({"NOTIFY_SOCKET": "vsock:2:1234"}).ready()
    ServiceManager({"NOTIFY_SOCKET": name}).alive()
    assert manager.recv(64) == b"WATCHDOG=1"


def test_ffmpeg_is_ended_before_the_agent_and_both_before_others(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """On a camera its own processes must be the last to die."""
    with Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener:
        start = listener.position
        config = {
            "device": {"id": DEVICE},
            "source": {"sd": any_camera.sd_url},
            "destination": {"server": any_server.url(), "key": "oom"},
            "stream": {"autostart": True},
        }
        with AgentProcess(tmp_path, broker_port=any_broker.port, config=config) as agent:
            wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=start)
            (remux,) = agent.ffmpegs()
            assert score_of(agent.pid) == max(AGENT_OOM_SCORE, score_of(os.getpid()))
            wait_until(lambda: score_of(remux.pid) >= REMUX_OOM_SCORE, PATIENCE_S, "the score")


def test_a_score_is_only_ever_raised() -> None:
    """The owner may have had a reason for a higher one; a process that is gone is no error."""
    child = subprocess.Popen(["sleep", "600"])
    try:
        offer_to_oom_killer(child.pid, 500)
        offer_to_oom_killer(child.pid, 400)
        assert score_of(child.pid) == 500
    finally:
        child.kill()
        child.wait()
    offer_to_oom_killer(child.pid, 600)


def test_the_kernel_counts_what_it_ended() -> None:
    """A number on kernels that count (since 4.13)."""
    kills = oom_kills()
    assert kills is None or kills >= 0


def score_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())
