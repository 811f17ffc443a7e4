"""A synthetic live camera: clients join in the middle of a group of pictures, and its faults are commanded on stdin.

ffmpeg encodes a short clip at start-up; the clip then plays against the clock for ever, whether or not anyone watches.
Run it with `python -m tests.peers.live_camera --port N`; it prints `clock` and the monotonic second from which its
keyframes are counted, then `ready` and its URLs when media flows. Commands, one a line, each confirmed by
`done COMMAND`:

    freeze | thaw           answer, but send no media | send it again
    drop                    close every client's connection
    refuse | accept         close new connections at once | serve them
    login USER:PASS | login ask new requests for it | for nothing
    audio none|aac|pcma     from the next client on
    lose PERCENT            of the media packets that go out by UDP
    quit
"""

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.peers.media import Clip, make_audio, make_video
from tests.peers.process import PeerError
from tests.peers.rtsp import Login, Request, read_request, reply
from tests.peers.tracks import Clock, InterleavedSink, Sink, Track, UdpPorts, UdpSink

METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, SET_PARAMETER, TEARDOWN"
SOCKET_BUFFER_BYTES = 128 * 1024
PICTURES = {"/ch0_0.h264": "1280x720", "/ch0_1.h264": "640x360"}


class Channel:
    """One path of the camera: a picture, a sound, or both."""

    def __init__(self, path: str, video: Track | None) -> None:
        self.path = path
        self.video = video
        self.audio: Track | None = None

    @property
    def tracks(self) -> list[Track]:
        """The tracks a new client is offered."""
        return [track for track in (self.video, self.audio) if track is not None]


@dataclass(frozen=True)
class Clips:
    """All the media of a camera."""

    videos: list[Clip | None]
    audios: dict[str, Clip]

    @classmethod
    def make(cls, options: argparse.Namespace) -> Self:
        """Encode them, side by side."""
        sizes, rates = [*PICTURES.values()], [options.hd_kbps, options.sd_kbps]
        if options.swap:
            sizes.reverse()
            rates.reverse()
        with ThreadPoolExecutor() as pool:

            def encode(size: str, kbps: int) -> Future[Clip]:
                sets = not options.no_sprop
                return pool.submit(make_video, options.video, size, kbps, options.gop, with_parameter_sets=sets)

            audios = {codec: pool.submit(make_audio, codec) for codec in ("aac", "pcma")}
            if options.video == "none":
                videos: list[Clip | None] = [None for _ in PICTURES]
            else:
                encoding = [encode(size, kbps) for size, kbps in zip(sizes, rates, strict=True)]
                videos = [clip.result() for clip in encoding]
            return cls(videos, {codec: clip.result() for codec, clip in audios.items()})


class Camera:
    """All that clients have in common, and what the commands on stdin change."""

    def __init__(self, options: argparse.Namespace, clips: Clips) -> None:
        self.options = options
        self.clients: set[Client] = set()
        self.udp = UdpPorts()
        self.login: Login | None = None
        self.refuses = False
        self.done = asyncio.Event()
        self._clips = clips
        self._clock = Clock(options.ahead)
        # Every process of a Linux machine has the same monotonic clock.
        print(f"clock {self._clock.began_s!r}", flush=True)
        self._tracks: list[Track] = []
        self._playing: set[asyncio.Task[None]] = set()
        self.channels = {
            path: Channel(path, None if clip is None else self._play(clip))
            for path, clip in zip(PICTURES, clips.videos, strict=True)
        }
        self.set_audio(options.audio)
        self.set_login(options.login)

    async def until_media_flows(self) -> None:
        """Return when every track has begun."""
        await asyncio.gather(*(track.flows.wait() for track in self._tracks))

    def set_login(self, login: str) -> None:
        """Ask for this USER:PASS from now on; for nothing if it is empty."""
        user, _, password = login.partition(":")
        self.login = Login(user, password, self.options.auth) if login else None

    def set_audio(self, codec: str) -> None:
        """Offer this sound to the clients that come."""
        for channel in self.channels.values():
            channel.audio = None if codec == "none" else self._play(self._clips.audios[codec])

    def obey(self, line: str) -> None:
        """Carry out one command line."""
        match line.split():
            case ["freeze" | "thaw" as verb]:
                for track in self._tracks:
                    track.frozen = verb == "freeze"
            case ["drop"]:
                for client in list(self.clients):
                    client.drop()
            case ["refuse" | "accept" as verb]:
                self.refuses = verb == "refuse"
            case ["login", *login]:
                self.set_login(" ".join(login))
            case ["audio", "none" | "aac" | "pcma" as codec]:
                self.set_audio(codec)
            case ["lose", percent] if percent.isdigit():
                self.udp.lost_share = int(percent) / 100
            case ["quit"]:
                self.done.set()
            case _:
                print(f"unknown command {line!r}", flush=True)
                return
        print(f"done {line}", flush=True)

    def _play(self, clip: Clip) -> Track:
        track = Track(clip, self._clock)
        track.frozen = any(other.frozen for other in self._tracks)
        self._tracks.append(track)
        self._playing.add(asyncio.create_task(track.play()))
        return track


class Client:
    """One RTSP connection."""

    def __init__(self, camera: Camera, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._camera = camera
        self._reader = reader
        self._writer = writer
        self._peer: str = writer.get_extra_info("peername")[0]
        # The kernel would let it grow to megabytes, and hide a slow client for as many seconds.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        self._channel: Channel | None = None
        self._tracks: list[Track] = []
        self._sinks: dict[int, Sink] = {}
        self._session = secrets.token_hex(4)

    async def serve(self) -> None:
        """Answer requests until the client goes or is dropped."""
        self._camera.clients.add(self)
        try:
            while request := await read_request(self._reader):
                status, headers, body = self._answer(request)
                print(f"{self._peer} {request.method} {request.path} {status}", file=sys.stderr, flush=True)
                self._writer.write(reply(request, status, headers, body))
                if status == 200 and request.method == "PLAY":
                    self._begin()
                if status == 200 and request.method == "TEARDOWN":
                    break
        except (ValueError, UnicodeDecodeError) as error:
            print(f"{self._peer} spoke no RTSP: {error}", file=sys.stderr, flush=True)
        finally:
            self._camera.clients.discard(self)
            self._end()
            self._writer.close()

    def drop(self) -> None:
        """Close the connection without a word."""
        self._end()
        self._writer.transport.abort()

    def _answer(self, request: Request) -> tuple[int, dict[str, str], str]:
        login = self._camera.login
        if request.method == "OPTIONS":
            return 200, {"Public": METHODS}, ""
        if login is not None and not login.accepts(request):
            return 401, {"WWW-Authenticate": login.challenge}, ""
        match request.method:
            case "DESCRIBE":
                return self._describe(request)
            case "SETUP":
                return self._set_up(request)
            case "PLAY":
                if not self._sinks:
                    return 455, {}, ""
                return 200, {"Session": self._session, "Range": "npt=0.000-", "RTP-Info": self._rtp_info(request)}, ""
            case "GET_PARAMETER" | "SET_PARAMETER" | "TEARDOWN":
                return 200, {"Session": self._session}, ""
            case _:
                return 405, {"Allow": METHODS}, ""

    def _describe(self, request: Request) -> tuple[int, dict[str, str], str]:
        if not self._choose(request.path):
            return 404, {}, ""
        host = self._camera.options.host
        address = f"IN {'IP6' if ':' in host else 'IP4'} {host}"
        lines = ["v=0", f"o=- 1 1 {address}", "s=camera", f"c={address}", "t=0 0", "a=control:*", "a=range:npt=0-"]
        for number, track in enumerate(self._tracks):
            clip = track.clip
            lines += [f"m={clip.kind} 0 RTP/AVP {clip.payload_type}", f"a=rtpmap:{clip.payload_type} {clip.rtpmap}"]
            if clip.fmtp:
                lines.append(f"a=fmtp:{clip.payload_type} {clip.fmtp}")
            lines.append(f"a=control:trackID={number}")
        base = request.url.partition("?")[0].rstrip("/") + "/"
        return 200, {"Content-Base": base}, "\r\n".join(lines) + "\r\n"

    def _set_up(self, request: Request) -> tuple[int, dict[str, str], str]:
        path, _, track_id = request.path.rpartition("/trackID=")
        if self._channel is None and not self._choose(path):
            return 404, {}, ""
        if not track_id.isdigit() or int(track_id) >= len(self._tracks):
            return 404, {}, ""
        for wanted in request.headers.get("transport", "").split(","):
            sink, transport = self._sink(wanted)
            if sink is not None:
                self._sinks[int(track_id)] = sink
                return 200, {"Session": f"{self._session};timeout=60", "Transport": transport}, ""
        return 461, {}, ""

    def _sink(self, wanted: str) -> tuple[Sink | None, str]:
        """Give the sink for one alternative of a Transport header, with the reply's header; None if it will not do."""
        fields = dict(field.strip().partition("=")[::2] for field in wanted.split(";"))
        if "RTP/AVP/TCP" in fields:
            rtp, rtcp = _pair(fields.get("interleaved", "0-1"))
            return InterleavedSink(self._writer.transport, rtp, rtcp), f"RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}"
        if "client_port" in fields and "multicast" not in fields:
            rtp, rtcp = _pair(fields["client_port"])
            server = "-".join(map(str, self._camera.udp.numbers))
            transport = f"RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={server}"
            return UdpSink(self._camera.udp, self._peer, rtp, rtcp), transport
        return None, ""

    def _choose(self, path: str) -> bool:
        self._channel = self._camera.channels.get(path.rstrip("/"))
        self._tracks = [] if self._channel is None else self._channel.tracks
        return bool(self._tracks)

    def _rtp_info(self, request: Request) -> str:
        base = request.url.rstrip("/")
        infos = ((number, self._tracks[number]) for number in self._sinks)
        return ",".join(
            f"url={base}/trackID={number};seq={track.sequence};rtptime={track.timestamp}" for number, track in infos
        )

    def _begin(self) -> None:
        for number, sink in self._sinks.items():
            sink.send_rtcp(self._tracks[number].sender_report())
            self._tracks[number].sinks.add(sink)

    def _end(self) -> None:
        for number, sink in self._sinks.items():
            self._tracks[number].sinks.discard(sink)
        self._sinks.clear()


def _pair(ports: str) -> tuple[int, int]:
    first, _, second = ports.partition("-")
    return int(first), int(second or int(first) + 1)


def _read_commands(deliver: Callable[[str], object]) -> None:
    """Deliver stdin's lines until its end, which means nothing."""
    # os.read holds no lock of Python's: a thread blocked in sys.stdin would make the interpreter abort at its end.
    rest = b""
    try:
        while data := os.read(0, 4096):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.strip():
                    deliver(line.decode(errors="replace").strip())
    except OSError:
        pass


async def _obey_commands(camera: Camera) -> None:
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def deliver(line: str) -> None:
        with suppress(RuntimeError):  # the loop may have ended meanwhile
            loop.call_soon_threadsafe(lines.put_nowait, line)

    threading.Thread(target=_read_commands, args=(deliver,), daemon=True).start()
    while True:
        camera.obey(await lines.get())


async def _run(options: argparse.Namespace, clips: Clips) -> None:
    camera = Camera(options, clips)
    current = asyncio.current_task()
    assert current is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, current.cancel)

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if camera.refuses:
            writer.transport.abort()
        else:
            await Client(camera, reader, writer).serve()

    await camera.udp.open(options.host)
    await camera.until_media_flows()
    server = await asyncio.start_server(on_connection, options.host, options.port)
    host = f"[{options.host}]" if ":" in options.host else options.host
    port = server.sockets[0].getsockname()[1]
    ready = " ".join(["ready", *(f"rtsp://{host}:{port}{path}" for path in camera.channels)])
    print(ready, flush=True)
    if options.ready_file is not None:
        options.ready_file.write_text(ready + "\n")
    commands = asyncio.create_task(_obey_commands(camera))
    try:
        await camera.done.wait()
    finally:
        commands.cancel()
        server.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.peers.live_camera", description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", choices=["127.0.0.1", "::1"])
    parser.add_argument("--port", type=int, required=True, help="0 for any")
    parser.add_argument("--audio", choices=["aac", "pcma", "none"], default="aac")
    parser.add_argument("--video", choices=["h264", "h265", "none"], default="h264")
    parser.add_argument("--login", default="", metavar="USER:PASS")
    parser.add_argument("--auth", choices=["basic", "digest"], default="digest")
    parser.add_argument("--no-sprop", action="store_true", help="leave the parameter sets out of the SDP")
    parser.add_argument("--swap", action="store_true", help="the small picture on HD's path, the large on SD's")
    parser.add_argument("--gop", type=float, default=2.0, metavar="SECONDS")
    parser.add_argument("--ahead", type=float, default=0.0, metavar="SECONDS", help="what its clock shows at first")
    parser.add_argument("--hd-kbps", type=int, default=1000)
    parser.add_argument("--sd-kbps", type=int, default=400)
    parser.add_argument("--ready-file", type=Path)
    options = parser.parse_args()
    if options.audio == options.video == "none":
        parser.error("a camera with neither picture nor sound")
    return options


def main() -> int:
    """Run until told to stop; 0 then, 1 if it could not start."""
    try:
        options = _options()
        # While it encodes, a signal ends the process as it is: nothing is to be cleaned up, encoders die with it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        asyncio.run(_run(options, Clips.make(options)))
    except asyncio.CancelledError:
        pass
    except (PeerError, OSError) as error:
        print(f"live camera: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
