"""The way to the server: frozen is told from slow, and both from healthy, by what the kernel still holds."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import psutil

from tests.harness import AgentProcess, latest_state, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.process import wait_until
from tests.peers.proxy import Proxy
from tests.peers.rtmp import RtmpServer
from yiagent.sendqueue import SendQueue

DEVICE = "uplink-test"
PATIENCE_S = 40.0


def config(camera: LiveCamera, server: str) -> dict[str, object]:
    return {
        "device": {"id": DEVICE},
        "source": {"hd": camera.hd_url, "sd": None},
        "destination": {"server": server, "key": "uplink"},
        "stream": {"autostart": True},
    }


def test_a_frozen_server_is_slow_then_stalled_then_left(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera
) -> None:
    """A server that stands still, its connection open: `uplink_slow`, then `stalled`; ffmpeg notices nothing."""
    with (
        RtmpServer(tmp_path / "server") as server,
        Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener,
        AgentProcess(tmp_path, broker_port=any_broker.port, config=config(any_camera, server.url())),
    ):
        start = listener.position
        wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=start)
        server.wait_for_stream("uplink", more_than_bytes=200_000)
        after = listener.position
        server.freeze()
        began = time.monotonic()
        try:
            state = wait_for_state(listener, lambda state: state["reason"] is not None, PATIENCE_S, after=after)
            assert (state["phase"], state["reason"]["code"]) == ("streaming", "uplink_slow")
            slow_s = time.monotonic() - began
            state = wait_for_state(listener, lambda state: bool(state["phase"] == "stalled"), PATIENCE_S, after=after)
            assert state["reason"]["code"] == "stalled"
            assert "server" in state["reason"]["message"]
            print(f"frozen server: slow after {slow_s:.1f} s, stalled after {time.monotonic() - began:.1f} s")
            wait_for_state(listener, lambda state: bool(state["phase"] == "stopping"), PATIENCE_S, after=after)
        finally:
            server.thaw()
        after = listener.position
        wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=after)


def test_a_slow_uplink_is_told_and_kept(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """An uplink that carries a part of the bit rate is `uplink_slow`, and its ffmpeg is never replaced for that."""
    with (
        Proxy(any_server.port, buffer_bytes=16_384) as proxy,
        Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener,
        AgentProcess(
            tmp_path,
            broker_port=any_broker.port,
            config=config(any_camera, f"rtmp://127.0.0.1:{proxy.port}/live"),
        ) as agent,
    ):
        start = listener.position
        wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=start)
        before = [process.pid for process in agent.ffmpegs()]
        after = listener.position
        # The camera's HD is about 1080 kbit/s.
        proxy.limit(1_080_000 // 8 // 2)
        state = wait_for_state(listener, lambda state: state["reason"] is not None, PATIENCE_S, after=after)
        assert (state["phase"], state["reason"]["code"]) == ("streaming", "uplink_slow")
        told = time.monotonic()
        wait_until(lambda: time.monotonic() - told > 20, PATIENCE_S, "twenty seconds of a slow uplink")
        assert [process.pid for process in agent.ffmpegs()] == before
        phases = {
            m.text.partition('"phase":"')[2].partition('"')[0] for m in listener.messages[after:] if "/state" in m.topic
        }
        assert phases <= {"streaming", ""}
        after = listener.position
        proxy.limit(10_000_000)
        wait_for_state(listener, lambda state: state["reason"] is None, PATIENCE_S, after=after)
        assert (latest_state(listener) or {})["phase"] == "streaming"


def test_the_send_queue_of_a_reader_that_stands_still() -> None:
    """What is written and not taken shows as so many bytes; taken, it is zero; gone, it is unknown."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as sender:
            reader, _ = listening.accept()
            with reader:
                queue = SendQueue(psutil.Process().pid, port)
                assert queue.read() == 0
                sender.setblocking(False)
                written = 0
                try:
                    while True:
                        written += sender.send(b"x" * 65536)
                except BlockingIOError:
                    pass
                held = queue.read()
                assert held is not None
                assert 0 < held <= written
                thread = threading.Thread(target=_drain, args=(reader, written))
                thread.start()
                wait_until(lambda: queue.read() == 0, PATIENCE_S, "an empty queue")
                thread.join()
        assert queue.read() is None
        assert SendQueue(psutil.Process().pid, 1).read() is None
        assert SendQueue(2**22 + 1, port).read() is None


def _drain(reader: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(reader.recv(65536))
