"""A real RTMP server, and what it says of the streams it gets."""

import re
import subprocess
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.peers.certificates import KeyPair
from tests.peers.ports import accepts, free_port, has_ipv6_loopback
from tests.peers.process import Peer, PeerError, find_program

HTTP_TIMEOUT_S = 5.0
# What ffmpeg sends before any media: metadata and the codecs' headers.
HEADERS_BYTES = 1000
MODULE_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
PLAIN_KEY = re.compile(r"[A-Za-z0-9_.~-]+(\?[A-Za-z0-9_.~-]+=[A-Za-z0-9_.~-]+(&[A-Za-z0-9_.~-]+=[A-Za-z0-9_.~-]+)*)?")


@dataclass(frozen=True)
class StreamStat:
    """What nginx knows of one stream; codecs are as it names them (`H264`, `AAC`), empty while unknown.

    `kbps_in` is an average that stays zero for the first 10 s: measure shorter runs by `bytes_in`.
    """

    app: str
    name: str
    publishing: bool
    active: bool
    bytes_in: int
    kbps_in: float
    publishing_s: float
    video_codec: str
    width: int
    height: int
    audio_codec: str
    publisher_address: str


class RtmpServer(Peer):
    """nginx with the RTMP module, on 127.0.0.1 and, where the machine has it, on ::1.

    Applications: `live` and `live/instance` take anything, `checked` takes exactly `key` and asks for it by
    `on_publish`, `denied` takes nothing, and says so only after the first write. The name of a stream is a key without
    its query. `idle_s`: a publisher that sends nothing for so long is dropped; None: it is kept for ever, and whoever
    else wants to publish the same stream is refused.
    """

    def __init__(
        self, folder: Path, *, key: str = "right-key", tls: Sequence[KeyPair] = (), idle_s: int | None = None
    ) -> None:
        super().__init__("nginx", folder)
        if not PLAIN_KEY.fullmatch(key):
            raise ValueError(f"a key that nginx would compare in escaped form: {key!r}")
        self.key = key
        self.port = free_port()
        self.http_port = free_port()
        self.rtmps_ports = [free_port() for _ in tls]
        self.has_ipv6 = has_ipv6_loopback()
        self._tls = list(tls)
        self._idle_s = idle_s
        self._closed_file = folder / "checked-is-closed"

    @property
    def rtmps_port(self) -> int:
        """The port with the first of the certificates."""
        return self.rtmps_ports[0]

    def url(self, app: str = "live", *, host: str = "127.0.0.1", tls: bool = False) -> str:
        """Give the URL to publish to, without a key."""
        scheme, port = ("rtmps", self.rtmps_port) if tls else ("rtmp", self.port)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/{app}"

    def play_url(self, app: str, name: str) -> str:
        """Give the URL that plays a stream."""
        return f"{self.url(app)}/{name}"

    def refuse_key(self) -> None:
        """Let `checked` refuse even the right key, without touching streams that run."""
        self._closed_file.touch()

    def accept_key(self) -> None:
        """Let `checked` take the right key again."""
        self._closed_file.unlink(missing_ok=True)

    def streams(self) -> list[StreamStat]:
        """Give all streams that have a publisher or a player."""
        root = ElementTree.fromstring(self._get("/stat"))
        return [
            _stream_stat(_text(application, "name"), stream)
            for application in root.iterfind("server/application")
            for stream in application.iterfind("live/stream")
        ]

    def stream(self, name: str, app: str = "live") -> StreamStat | None:
        """Give one stream, or None if it has neither publisher nor player."""
        found = (stream for stream in self.streams() if (stream.app, stream.name) == (app, name))
        return next(found, None)

    def wait_for_stream(
        self, name: str, app: str = "live", *, more_than_bytes: int = HEADERS_BYTES, timeout_s: float = 15.0
    ) -> StreamStat:
        """Return the stream as soon as it has a publisher and more than that many bytes have come."""
        found: StreamStat | None = None

        def flows() -> bool:
            nonlocal found
            found = self.stream(name, app)
            return found is not None and found.publishing and found.bytes_in > more_than_bytes

        self.wait_until(flows, timeout_s, f"media of {app}/{name}")
        assert found is not None
        return found

    def wait_for_no_stream(self, name: str, app: str = "live", *, timeout_s: float = 15.0) -> None:
        """Return as soon as the stream has no publisher."""

        def is_gone() -> bool:
            stream = self.stream(name, app)
            return stream is None or not stream.publishing

        self.wait_until(is_gone, timeout_s, f"the end of {app}/{name}")

    def drop_publisher(self, name: str, app: str = "live") -> None:
        """Close the publisher's connection."""
        # The module compares arguments as they come: escaping them would make them other names.
        dropped = int(self._get(f"/control/drop/publisher?app={app}&name={name}"))
        if dropped != 1:
            raise PeerError(f"nginx dropped {dropped} publishers of {app}/{name}")

    def command(self) -> list[str]:
        """Write the configuration anew, and run nginx as one process that stays in the foreground."""
        nginx = find_program("nginx")
        build = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True).stderr
        configuration = self.folder / "nginx.conf"
        configuration.write_text(self._configuration(build))
        version = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", build)
        # Without -e, nginx opens the log of the machine's own nginx first.
        can_choose_log = version is not None and tuple(map(int, version.groups())) >= (1, 19, 5)
        return [nginx, "-p", f"{self.folder}", "-c", f"{configuration}", *(["-e", "stderr"] if can_choose_log else [])]

    def is_ready(self) -> bool:
        """All ports accept connections."""
        return all(map(accepts, [self.port, self.http_port, *self.rtmps_ports]))

    def _get(self, path: str) -> bytes:
        url = f"http://127.0.0.1:{self.http_port}{path}"
        # No proxy that the environment may name.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=HTTP_TIMEOUT_S) as response:
            body: bytes = response.read()
        return body

    def _configuration(self, build: str) -> str:
        modules = ["ngx_rtmp_module", *(["ngx_stream_module"] if self._tls else [])]
        load = "\n".join(f"load_module {path};" for name in modules if (path := _module(name, build)))
        listen = [f"listen 127.0.0.1:{self.port};"]
        if self.has_ipv6:
            listen.append(f"listen [::1]:{self.port} ipv6only=on;")
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {self.folder / kind};" for kind in kinds)
        drop_idle = f"drop_idle_publisher {self._idle_s}s;" if self._idle_s is not None else ""
        on_publish = f"on_publish http://127.0.0.1:{self.http_port}/may-publish; notify_method get;"
        return f"""
{load}
daemon off;
# One process: were there a master, its workers would outlive it when it is killed.
master_process off;
pid {self.folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}

rtmp {{
    server {{
        {" ".join(listen)}
        access_log off;
        chunk_size 4096;
        {drop_idle}
        application live {{ live on; }}
        application live/instance {{ live on; }}
        application checked {{ live on; {on_publish} }}
        application denied {{ live on; deny publish all; }}
    }}
}}

http {{
    access_log off;
    {temporary}
    server {{
        listen 127.0.0.1:{self.http_port};
        location /stat {{ rtmp_stat all; }}
        location /control {{ rtmp_control all; }}
        location /may-publish {{
            if (-f {self._closed_file}) {{ return 403; }}
            {self._key_check()}
            return 204;
        }}
    }}
}}
{self._stream_block()}
"""

    def _key_check(self) -> str:
        # nginx-rtmp asks with its own arguments, `&name=NAME&type=live` near their end, and then the key's query.
        name, _, query = self.key.partition("?")
        pattern = f"&name={re.escape(name)}&type=[a-z]*" + (f"&{re.escape(query)}$" if query else "$")
        return f'if ($args !~ "{pattern}") {{ return 403; }}'

    def _stream_block(self) -> str:
        if not self._tls:
            return ""
        servers = "".join(
            f"""
    server {{
        {f"listen [::1]:{port} ssl ipv6only=on;" if self.has_ipv6 else ""}
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {pair.cert_file};
        ssl_certificate_key {pair.key_file};
        proxy_pass 127.0.0.1:{self.port};
    }}"""
            for port, pair in zip(self.rtmps_ports, self._tls, strict=True)
        )
        return f"stream {{{servers}\n}}"


def _module(name: str, build: str) -> Path | None:
    """Find a dynamic module of this nginx; None if it is compiled in."""
    named = re.search(r"--modules-path=(\S+)", build)
    for folder in [*([named[1]] if named else []), *MODULE_FOLDERS]:
        path = Path(folder) / f"{name}.so"
        if path.exists():
            return path
    compiled_in = "--with-stream " in build if name == "ngx_stream_module" else "rtmp" in build
    if not compiled_in:
        raise PeerError(f"nginx has no {name}")
    return None


def _text(element: ElementTree.Element, path: str) -> str:
    return element.findtext(path) or ""


def _number(element: ElementTree.Element, path: str) -> int:
    return int(_text(element, path) or 0)


def _stream_stat(app: str, stream: ElementTree.Element) -> StreamStat:
    publishers = (client for client in stream.iterfind("client") if client.find("publishing") is not None)
    publisher = next(publishers, None)
    return StreamStat(
        app=app,
        name=_text(stream, "name"),
        publishing=stream.find("publishing") is not None,
        active=stream.find("active") is not None,
        bytes_in=_number(stream, "bytes_in"),
        kbps_in=_number(stream, "bw_in") / 1000,
        publishing_s=_number(stream, "time") / 1000,
        video_codec=_text(stream, "meta/video/codec"),
        width=_number(stream, "meta/video/width"),
        height=_number(stream, "meta/video/height"),
        audio_codec=_text(stream, "meta/audio/codec"),
        publisher_address=_text(publisher, "address") if publisher is not None else "",
    )
