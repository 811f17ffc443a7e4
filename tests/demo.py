"""The whole line on one machine, to be looked at: synthetic camera, broker, streaming server, agent.

`scripts/demo` installs what is missing and runs this. Everything listens on loopback alone and is ended with it.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, get_args

from tests.peers.broker import Broker, Listener
from tests.peers.camera import Audio, LiveCamera
from tests.peers.ports import accepts, free_port
from tests.peers.process import Peer, PeerError, dying_with_parent, find_program
from tests.peers.rtmp import RtmpServer, StreamStat

DEVICE = "demo"
KEY = "demo-key"
MQTT_PORT = 1883
RTMP_PORT = 1935
STAT_PORT = 8088
WEB_PORT = 8080
ONLINE_TIMEOUT_S = 20.0
LIVE_TIMEOUT_S = 45.0
# The agent promises to end itself and its ffmpeg within ten.
AGENT_STOP_TIMEOUT_S = 12.0
LOG_POLL_S = 0.1
LOG_TAIL_LINES = 20


class Ended(Exception):
    """Someone pressed Ctrl-C, or told this process to end."""


class Agent(Peer):
    """`yiagent run`, which is given the time to end its ffmpeg itself."""

    def __init__(self, folder: Path, configuration: Path) -> None:
        super().__init__("yiagent", folder)
        self._configuration = configuration

    def command(self) -> list[str]:
        """Run the program as it is installed."""
        return [str(Path(sys.executable).with_name("yiagent")), "run", "-c", str(self._configuration)]

    def stop(self) -> None:
        """Ask the agent alone, and wait as long as it may take."""
        if self.alive:
            os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + AGENT_STOP_TIMEOUT_S
            while self.alive and time.monotonic() < deadline:
                time.sleep(LOG_POLL_S)
        super().stop()


class Demo:
    """The parts, their addresses, and what is said about them."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.login: str = options.login
        self.folder = folder
        self.camera = LiveCamera(folder / "camera", audio=options.audio, login=self.login)
        self.server = RtmpServer(folder / "server")
        self.broker = Broker(folder / "broker")
        # The ports that people know, where nothing has them; the demo says which it took.
        self.server.port = _free_or_any(RTMP_PORT)
        self.server.http_port = _free_or_any(STAT_PORT)
        self.broker.port = _free_or_any(MQTT_PORT)
        self.web_port = _free_or_any(WEB_PORT)
        self.agent = Agent(folder / "agent", folder / "yiagent.yaml")

    def run(self, stack: ExitStack, seconds: float | None) -> None:
        """Go live, say what to try, and show the agent's log until told to end."""
        _say(self._guide(self.go_live(stack)))
        self._follow_log(seconds)

    def go_live(self, stack: ExitStack) -> str:
        """Start everything, and return the address of the agent's page when media arrives at the server."""
        with _step("the camera"):
            stack.enter_context(self.camera)
            _say(f"camera   {self.camera.hd_url}  (H.264 1280x720; 640x360 at /ch0_1.h264)")
        with _step("the streaming server"):
            stack.enter_context(self.server)
            _say(f"server   {self.server.url()}  (nginx with its RTMP module)")
        with _step("the broker"):
            stack.enter_context(self.broker)
            _say(f"broker   127.0.0.1:{self.broker.port}  (mosquitto; takes anyone on this machine, unlike a real one)")
        with _step("the agent"):
            self.configure()
            listener = stack.enter_context(Listener(self.broker.port, f"yiagent/{DEVICE}/+"))
            stack.enter_context(self.agent)
            self._wait_until_online(listener)
            _say(f"agent    online as yiagent/{DEVICE}")
        with _step("the commands"):
            self._publish("server/set", self.server.url())
            self._publish("key/set", KEY)
            self._publish("stream/set", "ON")
        with _step("going live"):
            stream = self._wait_until_live(listener)
        listener.stop()
        _say(f"live     {stream.video_codec} {stream.width}x{stream.height} and {stream.audio_codec} at the server")
        return self._page_of(listener)

    def configure(self, changes: Mapping[str, Mapping[str, object]] | None = None) -> None:
        """Write the agent's configuration, for its next start; `changes` by section."""
        user, _, password = self.login.partition(":")
        source = {"hd": self.camera.hd_url, "sd": self.camera.sd_url}
        if self.login:
            source |= {"username": user, "password": password}
        sections: dict[str, Any] = {
            "device": {"id": DEVICE, "name": "Demo camera"},
            "source": source,
            "mqtt": {"host": "127.0.0.1", "port": self.broker.port},
            "web": {"host": "127.0.0.1", "port": self.web_port},
            "snapshot": {"enabled": True},
            "state_dir": str(self.folder / "state"),
        }
        for name, section in (changes or {}).items():
            sections[name] = {**sections.get(name, {}), **section}
        # JSON is YAML, and quotes whatever a password may hold.
        lines = [f"{name}: {json.dumps(section)}\n" for name, section in sections.items()]
        path = self.folder / "yiagent.yaml"
        path.write_text("".join(lines))
        path.chmod(0o600)

    def _wait_until_online(self, listener: Listener) -> None:
        deadline = time.monotonic() + ONLINE_TIMEOUT_S
        while not any(message.payload == b"online" for message in listener.on(f"yiagent/{DEVICE}/availability")):
            self._expect_agent()
            if time.monotonic() > deadline:
                raise PeerError(f"it did not say online within {ONLINE_TIMEOUT_S:g} s\n{self._log_tail()}")
            time.sleep(LOG_POLL_S)

    def _publish(self, topic: str, payload: str) -> None:
        """Say it as anyone would: with mosquitto_pub."""
        command = [find_program("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(self.broker.port), "-q", "1"]
        command += ["-t", f"yiagent/{DEVICE}/{topic}", "-m", payload]
        done = subprocess.run(dying_with_parent(command), capture_output=True, text=True, timeout=10)
        if done.returncode != 0:
            raise PeerError(f"mosquitto_pub ended with status {done.returncode}: {done.stderr.strip()}")
        _say(f"         {_pub(self.broker.port, topic, payload)}")

    def _wait_until_live(self, listener: Listener) -> StreamStat:
        """Return when the server has both codecs and its bytes grow from one look to the next."""
        deadline = time.monotonic() + LIVE_TIMEOUT_S
        bytes_before = None
        while time.monotonic() < deadline:
            self._expect_agent()
            stream = self.server.stream(KEY)
            if (
                stream is not None
                and stream.publishing
                and stream.video_codec == "H264"
                and stream.audio_codec == "AAC"
            ):
                if bytes_before is not None and stream.bytes_in > bytes_before:
                    return stream
                bytes_before = stream.bytes_in
            time.sleep(0.25)
        states = listener.on(f"yiagent/{DEVICE}/state")
        state = states[-1].text if states else "none"
        raise PeerError(f"no media within {LIVE_TIMEOUT_S:g} s; the agent's last state: {state}\n{self._log_tail()}")

    def _expect_agent(self) -> None:
        if not self.agent.alive:
            raise PeerError(f"the agent has ended\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return "\n".join(self.agent.log_text.splitlines()[-LOG_TAIL_LINES:])

    def _page_of(self, listener: Listener) -> str:
        """The address of the agent's page, as it tells it itself."""
        infos = listener.on(f"yiagent/{DEVICE}/info")
        page: str | None = json.loads(infos[-1].payload).get("web") if infos else None
        if page is None or not accepts(self.web_port):
            raise PeerError(f"the agent's page does not answer\n{self._log_tail()}")
        return page

    def _page_password(self) -> str:
        """What the agent made at its first start, as it showed it then on its console."""
        return (self.folder / "state" / "web-password").read_text().strip()

    def _guide(self, page: str) -> str:
        port = self.broker.port
        looks = [
            ("watch", f"ffplay {self.server.play_url('live', KEY)}    (VLC: Media, Open Network Stream)"),
            ("statistics", f"http://127.0.0.1:{self.server.http_port}/stat"),
            ("page", f"{page}    (user yiagent, password {self._page_password()})"),
            ("listen", f"mosquitto_sub -p {port} -t 'yiagent/#' -v"),
        ]
        tries = [
            ("stop", _pub(port, "stream/set", "OFF")),
            ("start", _pub(port, "stream/set", "ON")),
            ("small picture", _pub(port, "channel/set", "sd")),
            ("large picture", _pub(port, "channel/set", "hd")),
            ("another key", _pub(port, "key/set", "other-key")),
            ("", f"ffplay {self.server.play_url('live', 'other-key')}"),
            ("restart", _pub(port, "restart/set", "PRESS")),
            ("all at once", _pub(port, "request", json.dumps({"transaction": "1", "key": KEY, "channel": "auto"}))),
            ("a refusal", f"mosquitto_sub -p {port} -t 'yiagent/{DEVICE}/response' -v &"),
            ("", _pub(port, "channel/set", "4k")),
            ("freeze camera", f"kill -STOP {self.camera.pid}    (and after a while: kill -CONT {self.camera.pid})"),
            ("freeze server", f"kill -STOP {self.server.pid}    (and after a while: kill -CONT {self.server.pid})"),
        ]
        return "\n".join(
            [
                "",
                _bold("Look at it:"),
                *(f"  {name:<14} {what}" for name, what in looks),
                "",
                _bold("Try, in another terminal:"),
                *(f"  {name:<14} {what}" for name, what in tries),
                "",
                _bold("The agent's log; Ctrl-C ends everything:"),
            ]
        )

    def _follow_log(self, seconds: float | None) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        told: set[str] = set()
        with self.agent.log_file.open("rb") as log:
            while deadline is None or time.monotonic() < deadline:
                text = log.read().decode(errors="replace")
                if text:
                    _say(text, end="")
                    continue
                with _step("the agent"):
                    self._expect_agent()
                for peer in (self.camera, self.server, self.broker):
                    if not peer.alive and peer.name not in told:
                        told.add(peer.name)
                        _say(f"({peer.name} has ended; the agent goes on trying)")
                time.sleep(LOG_POLL_S)


def _free_or_any(port: int) -> int:
    return free_port() if accepts(port) or accepts(port, "::1") else port


def _pub(port: int, topic: str, payload: str) -> str:
    quoted = f"'{payload}'" if payload.startswith("{") else payload
    return f"mosquitto_pub -p {port} -t yiagent/{DEVICE}/{topic} -m {quoted}"


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() else text


def _say(text: str, *, end: str = "\n") -> None:
    try:
        print(text, end=end, flush=True)
    except OSError:
        # Nobody reads any more: the terminal is gone, or `| head` has seen enough. What follows is said to no one.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Ended from None


@contextmanager
def _step(name: str) -> Iterator[None]:
    """Name the step in whatever goes wrong in it."""
    try:
        yield
    except (PeerError, OSError, subprocess.SubprocessError) as error:
        raise PeerError(f"{name}: {error}") from error


def _end(_number: int, _frame: FrameType | None) -> None:
    # Once is enough: nothing may interrupt the cleaning up, which has its own deadlines.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise Ended


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="A synthetic camera goes live on this machine: camera, broker, streaming server and agent.",
    )
    parser.add_argument("--audio", choices=get_args(Audio), default="aac", help="the camera's sound (aac)")
    parser.add_argument("--login", default="", metavar="USER:PASS", help="what the camera asks for (nothing)")
    parser.add_argument("--seconds", type=float, metavar="N", help="end by itself so long after going live")
    return parser.parse_args()


def main() -> int:
    """Run until Ctrl-C, SIGTERM or the given time; 0 then, 1 if a step failed."""
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    status = 0
    with ExitStack() as stack:
        try:
            folder = Path(tempfile.mkdtemp(prefix="yiagent-demo-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            Demo(options, folder).run(stack, options.seconds)
        except Ended:
            pass
        except PeerError as error:
            print(f"scripts/demo failed at {error}", file=sys.stderr)
            status = 1
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        with suppress(Ended):
            _say("\nEnding the agent, broker, server and camera …")
    with suppress(Ended):
        _say("All ended, nothing left behind.")
    return status


if __name__ == "__main__":
    sys.exit(main())
