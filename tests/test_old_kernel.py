"""On a kernel of 2011, without IPv6, and where there is no network when the agent starts: as on a camera."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness import AgentProcess, wait_for_state
from tests.peers import old_kernel
from tests.peers.broker import Broker, Listener
from tests.peers.camera import LiveCamera
from tests.peers.namespace import run_in_namespace, why_not
from tests.peers.old_kernel import on_an_old_kernel
from tests.peers.ports import accepts, free_port
from tests.peers.process import PeerError, find_program, wait_until
from tests.peers.rtmp import RtmpServer
from tests.test_memory import OLD_KERNEL
from tests.web.browser import PASSWORD
from tests.web.client import ask
from yiagent import hardware
from yiagent.sendqueue import SendQueue

DEVICE = "old-kernel-test"
PATIENCE_S = 40.0
ROUTER, CAMERA = "10.77.0.1", "10.77.0.2"


class OldAgent(AgentProcess):
    """The agent on an old kernel; `before` is put before its command."""

    before: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """As ever, but there."""
        return [*self.before, *on_an_old_kernel(super().command())]


@pytest.fixture(autouse=True)
def _can_be_old() -> None:
    if reason := old_kernel.why_not():
        pytest.skip(reason)


def _page(host: str) -> dict[str, Any]:
    return {"enabled": True, "host": host, "port": free_port(), "password": PASSWORD}


def _is_clean(agent: AgentProcess) -> bool:
    text = agent.full_log_text
    return "in yiagent itself" not in text and "asyncio" not in text and "Traceback" not in text


def test_the_kernel_is_old() -> None:
    """What a camera's kernel lacks fails as it does there; else the tests below would show nothing."""
    script = (
        "import errno, os, socket\n"
        "def number(call):\n"
        "    try: call()\n"
        "    except OSError as error: return error.errno\n"
        "print(number(lambda: os.getrandom(1)), number(lambda: os.pidfd_open(os.getpid())),"
        " number(lambda: os.memfd_create('x')), number(lambda: socket.socket(socket.AF_INET6)),"
        " number(lambda: socket.socket()))"
    )
    done = subprocess.run(on_an_old_kernel([sys.executable, "-c", script]), capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*[f"{errno.ENOSYS}"] * 3, f"{errno.EAFNOSUPPORT}", "None"]


def test_it_streams_there(tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer) -> None:
    """MQTT, the page, figures, a stream and its end, a killed ffmpeg: nothing of it needs a newer kernel."""
    config = {
        "device": {"id": DEVICE},
        "source": {"sd": any_camera.sd_url},
        "destination": {"server": any_server.url(), "key": "old"},
        "web": _page("0.0.0.0"),
    }
    with ExitStack() as stack:
        listener = stack.enter_context(Listener(any_broker.port, f"yiagent/{DEVICE}/#"))
        agent = stack.enter_context(OldAgent(tmp_path, broker_port=any_broker.port, config=config))
        agent.wait_until_online(listener)
        for _ in range(2):
            after = listener.position
            listener.publish(agent.topic("stream/set"), "ON")
            wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=after)
            assert ask(agent, "/api/state").json["phase"] == "streaming"
            telemetry = listener.wait_for(
                lambda message: (
                    message.topic == agent.topic("telemetry") and b'"remux_rss_kb": null' not in message.payload
                ),
                PATIENCE_S,
                "figures",
                after=after,
            )
            assert json.loads(telemetry.payload)["memory_available_kb"] > 0
            (remux,) = agent.ffmpegs()
            remux.kill()
            after = listener.position
            wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=after)
            listener.publish(agent.topic("stream/set"), "OFF")
            wait_for_state(listener, lambda state: bool(state["phase"] == "idle"), PATIENCE_S, after=after)
        assert _is_clean(agent)
        assert agent.end() == 0


def test_a_page_for_ipv6_alone_is_told_where_there_is_none(tmp_path: Path) -> None:
    """It is no page that nobody can open: the log says what to set, once, and the agent goes on."""
    with OldAgent(tmp_path, config={"web": _page("::")}) as agent:
        wait_until(lambda: "set web.host to 0.0.0.0" in agent.full_log_text, PATIENCE_S, "the reason")
        assert "The page is at" not in agent.full_log_text
        assert agent.end() == 0


def test_no_network_when_it_starts(tmp_path: Path) -> None:
    """No address, the loopback interface down, an empty /etc: it waits, and is online when there is a network."""
    if reason := why_not():
        pytest.skip(f"no namespace on this machine: {reason}")
    run_in_namespace(_boots_without_network, tmp_path)


def _boots_without_network(folder: Path) -> None:
    _tool("ip", "link", "add", "router", "type", "veth", "peer", "name", "ra0")
    _tool("ip", "address", "add", f"{ROUTER}/24", "dev", "router")
    _tool("ip", "link", "set", "router", "up")
    port = free_port()
    with (
        Broker(folder / "broker", extra_lines=[f"listener {port} {ROUTER}"]) as broker,
        Listener(broker.port, f"yiagent/{DEVICE}/#") as listener,
    ):
        config = {
            "device": {"id": DEVICE, "mac": "none"},
            "mqtt": {"host": ROUTER, "port": port, "discovery": {"enabled": True}},
            "web": _page("0.0.0.0"),
            "destination": {"server": f"rtmp://{ROUTER}/live", "key": "made-up"},
        }
        agent = OldAgent(folder / "agent", config=config)
        agent.before = (find_program("unshare"), "--net")
        nsenter, ip = find_program("nsenter"), find_program("ip")
        meminfo = folder / "meminfo"
        meminfo.write_text(OLD_KERNEL)
        _tool("mount", "--bind", f"{meminfo}", "/proc/meminfo")
        # No resolv.conf, hosts, machine-id or passwd.
        _tool("mount", "-t", "tmpfs", "nothing", "/etc")
        with agent:
            wait_until(lambda: "Cannot connect to the MQTT broker" in agent.full_log_text, PATIENCE_S, "no broker")
            inside = [nsenter, "-t", f"{agent.pid}", "-n", ip]
            _tool(ip, "link", "set", "ra0", "netns", f"{agent.pid}")
            _tool(*inside, "address", "add", f"{CAMERA}/24", "dev", "ra0")
            _tool(*inside, "link", "set", "ra0", "up")
            agent.wait_until_online(listener, PATIENCE_S)
            wait_until(lambda: accepts(agent.config["web"]["port"], CAMERA), PATIENCE_S, "the page")
            sample = listener.wait_for_topic(agent.topic("telemetry"), PATIENCE_S)
            assert json.loads(sample.payload)["memory_available_kb"] == 4820 + 312 + 11904 - 4100
            # The camera's own RTSP server is behind the interface that nobody brought up.
            listener.publish(agent.topic("stream/set"), "ON")
            wait_for_state(listener, lambda state: bool(state["reason"]), PATIENCE_S)
            assert "DOWN" in _tool(*inside, "-o", "link", "show", "lo")
            assert _is_clean(agent), agent.full_log_text
            assert agent.end() == 0


def _tool(*command: str) -> str:
    done = subprocess.run(
        [find_program(command[0]) if "/" not in command[0] else command[0], *command[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PeerError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def test_a_send_queue_without_ipv6(tmp_path: Path) -> None:
    """A kernel without IPv6 has no /proc/net/tcp6: the queue of the one connection is found all the same."""
    (tmp_path / "fd").mkdir()
    (tmp_path / "fd" / "5").symlink_to("socket:[4711]")
    (tmp_path / "net").mkdir()
    row = "0: 0100007F:9C40 0100007F:078F 01 00001F40:00000000 01:00000014 00000000 0 0 4711 1 0000000000000000"
    (tmp_path / "net" / "tcp").write_text(f"  sl  local_address rem_address   st tx_queue rx_queue\n{row}\n")
    queue = SendQueue(1, 1935)
    queue._folder = tmp_path
    assert queue.read() == 0x1F40
    (tmp_path / "net" / "tcp").unlink()
    assert queue.read() is None


def test_addresses_where_nothing_tells_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hardware address to announce and no question about the camera's host: no error."""

    def refuse() -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(psutil, "net_if_addrs", refuse)
    assert hardware.own_macs() == []
    assert not hardware.is_this_machine("192.0.2.1")
