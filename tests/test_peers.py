"""The peers of the other tests are real: what they show of a camera, a server or a broker is what those do."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from tests.peers.broken_servers import GarbageServer, HangUpServer, PlaintextServer, SilentServer
from tests.peers.broker import Broker, Listener, OldBrokerProxy
from tests.peers.camera import REPOSITORY, Audio, GstCamera, LiveCamera, Video
from tests.peers.certificates import Certificates
from tests.peers.ports import accepts
from tests.peers.process import Peer, PeerError, wait_until
from tests.peers.proxy import Proxy
from tests.peers.rtmp import RtmpServer

FFMPEG = ("ffmpeg", "-nostdin", "-hide_banner", "-v", "warning")
HASTY = ("-probesize", "32768", "-analyzeduration", "500000", "-fpsprobesize", "0")
RUN_TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the peers that several tests share."""
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Certificates:
    """The certificates of all."""
    return Certificates(folder / "certificates")


@pytest.fixture(scope="module")
def camera(folder: Path) -> Iterator[LiveCamera]:
    """A camera that no test changes for good; its keyframes are close together, since copies wait for them."""
    with LiveCamera(folder / "camera", gop_s=1) as camera:
        yield camera


@pytest.fixture(scope="module")
def server(folder: Path, certificates: Certificates) -> Iterator[RtmpServer]:
    """An RTMP server with all kinds of certificates."""
    tls = [certificates.server, certificates.other_host, certificates.expired, certificates.stranger]
    with RtmpServer(folder / "server", key="name?psk=secret", tls=tls) as server:
        yield server


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[Broker]:
    """A broker that takes anyone."""
    with Broker(folder / "broker") as broker:
        yield broker


class Push(Peer):
    """An ffmpeg that copies a camera's media to a server."""

    def __init__(self, folder: Path, source: str, target: str, *options: str) -> None:
        super().__init__("push", folder)
        # -copyinkf:a: ffmpeg 7 takes no RTSP audio packet for a keyframe and would drop them all.
        copy = ("-c", "copy", "-copyinkf:a", "-f", "flv", *options, target)
        self._command = [*FFMPEG, "-rtsp_transport", "tcp", *HASTY, "-i", source, *copy]

    def command(self) -> list[str]:
        return self._command

    def wait_for_end(self, timeout_s: float = RUN_TIMEOUT_S) -> str:
        """Return what it said, when it has ended by itself."""
        self.wait_until(lambda: not self.alive, timeout_s, "it to end")
        return self.log_text


def expect_all_to_end(folder: Path, source: str, targets: list[str], *options: str) -> list[str]:
    """Push to all targets at once, and return what each ffmpeg said when all have ended by themselves."""
    with ExitStack() as stack:
        numbered = enumerate(targets)
        pushes = [stack.enter_context(Push(folder / f"{n}", source, target, *options)) for n, target in numbered]
        return [push.wait_for_end() for push in pushes]


def probe(url: str, *options: str) -> dict[str, Any]:
    """What ffprobe finds out about a source, as its JSON; `error` is what it said on failure."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", *HASTY, *options, url]
    run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    return {**json.loads(run.stdout or "{}"), "error": run.stderr}


def codecs(url: str, *options: str) -> list[str]:
    """The codecs ffprobe finds in a source."""
    return [stream["codec_name"] for stream in probe(url, *options).get("streams", [])]


def with_login(url: str, login: str) -> str:
    """The URL with a login in it."""
    return url.replace("rtsp://", f"rtsp://{login}@")


@contextmanager
def rtsp_connection(camera: LiveCamera) -> Iterator[socket.socket]:
    """A connection that plays the camera's SD picture, by hand."""
    with socket.create_connection(("127.0.0.1", camera.port), timeout=5) as connection:
        transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        ask(connection, "SETUP", f"{camera.sd_url}/trackID=0", transport)
        ask(connection, "PLAY", camera.sd_url)
        yield connection


def ask(connection: socket.socket, method: str, url: str, headers: str = "") -> None:
    """Send a request and read up to the end of its reply's headers, past media."""
    connection.sendall(f"{method} {url} RTSP/1.0\r\nCSeq: 7\r\n{headers}\r\n".encode())
    seen = b""
    while b"RTSP/1.0 200 OK\r\nCSeq: 7\r\n" not in seen:
        received = connection.recv(65536)
        assert received, "the camera closed the connection"
        seen = seen[-100:] + received


# The live camera


def test_a_copy_of_the_camera_reaches_the_server(camera: LiveCamera, server: RtmpServer, tmp_path: Path) -> None:
    """The server sees H.264 and AAC of the size and bit rate the camera was told, with timestamps that go on and on."""
    with Push(tmp_path, camera.hd_url, server.url() + "/hd") as push:
        first = server.wait_for_stream("hd", more_than_bytes=30_000)
        started = time.monotonic()
        assert sorted(codecs(server.play_url("live", "hd"), "-analyzeduration", "5000000")) == ["aac", "h264"]
        # More than the clip's eight seconds, so that its end and beginning are crossed.
        last = server.wait_for_stream("hd", more_than_bytes=first.bytes_in + 1_150_000)
        kbps = (last.bytes_in - first.bytes_in) * 8 / 1000 / (time.monotonic() - started)
        assert (last.video_codec, last.width, last.height, last.audio_codec) == ("H264", 1280, 720, "AAC")
        assert kbps == pytest.approx(1080, rel=0.2)
        assert "DTS" not in push.log_text
        assert "missed" not in push.log_text
    server.wait_for_no_stream("hd")


def test_clients_join_in_the_middle_of_a_group_of_pictures(tmp_path: Path) -> None:
    """With ten seconds between keyframes a client gets pictures at once, but no keyframe for long."""
    with LiveCamera(tmp_path, gop_s=10) as camera:
        packets = probe(camera.sd_url, "-select_streams", "v", "-read_intervals", "%+#10", "-show_packets")["packets"]
        assert all("K" not in packet["flags"] for packet in packets[:10])


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_camera_speaks_both_transports(camera: LiveCamera, transport: str) -> None:
    """The same two streams come inside the connection and beside it."""
    assert codecs(camera.sd_url, "-rtsp_transport", transport) == ["h264", "aac"]


@pytest.mark.parametrize(
    ("video", "audio", "expected"),
    [("h264", "pcma", ["h264", "pcm_alaw"]), ("h265", "none", ["hevc"]), ("none", "aac", ["aac"])],
)
def test_the_camera_has_the_codecs_it_is_told(tmp_path: Path, video: Video, audio: Audio, expected: list[str]) -> None:
    """Other codecs, and the lack of one, are what a client finds; the picture is decodable without the SDP's help."""
    with LiveCamera(tmp_path, video=video, audio=audio, sprop=False) as camera:
        assert codecs(camera.sd_url) == expected


def test_other_paths_do_not_exist(camera: LiveCamera) -> None:
    """A path the camera does not have is answered 404."""
    assert "404" in probe(camera.hd_url.replace("ch0_0", "ch0_7"))["error"]


@pytest.mark.parametrize("auth", ["digest", "basic"])
def test_the_camera_asks_for_its_login(tmp_path: Path, auth: Any) -> None:
    """No login and a wrong one are refused, the right one is accepted, and it can change."""
    with LiveCamera(tmp_path, login="viewer:s3cret", auth=auth) as camera:
        assert "401" in probe(camera.sd_url)["error"]
        assert "401" in probe(with_login(camera.sd_url, "viewer:wrong"))["error"]
        assert codecs(with_login(camera.sd_url, "viewer:s3cret")) == ["h264", "aac"]
        camera.set_login("")
        camera.set_audio("none")
        assert codecs(camera.sd_url) == ["h264"]


def test_a_frozen_camera_keeps_its_connections(camera: LiveCamera) -> None:
    """Frozen, it sends no media but answers; thawed, media comes again; dropped, the connection ends."""
    with rtsp_connection(camera) as connection:
        camera.freeze_media()
        try:
            ask(connection, "GET_PARAMETER", camera.sd_url)
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        finally:
            camera.thaw_media()
        connection.settimeout(5)
        assert connection.recv(1) == b"$"
        camera.drop_clients()
        while connection.recv(65536):
            pass


def test_a_camera_can_refuse_and_accept(camera: LiveCamera) -> None:
    """Refusing, it closes connections before a word is said."""
    camera.refuse_clients()
    try:
        assert accepts(camera.port)
        assert codecs(camera.sd_url) == []
    finally:
        camera.accept_clients()
    assert codecs(camera.sd_url) == ["h264", "aac"]


def test_a_client_that_does_not_read_costs_no_memory(tmp_path: Path) -> None:
    """The camera drops what a slow client does not take, and goes on answering the others."""
    with LiveCamera(tmp_path, sd_kbps=40_000) as camera, rtsp_connection(camera):
        process = psutil.Process(camera.pid)
        before = process.memory_info().rss
        # Twelve megabytes at the rate of this picture: what is kept would show.
        assert codecs(camera.sd_url, "-read_intervals", "%+2.5", "-show_packets") == ["h264", "aac"]
        assert process.memory_info().rss - before < 4_000_000


def test_a_camera_comes_back_on_its_port_and_ends_clean(tmp_path: Path) -> None:
    """Restarted it has the same URL; ended, even while it still encodes, it leaves neither process nor traceback."""
    camera = LiveCamera(tmp_path)
    with camera:
        camera.kill()
        camera.start()
        assert codecs(camera.sd_url) == ["h264", "aac"]
        camera.stop()
        assert not accepts(camera.port)
        assert "Traceback" not in camera.log_text

    command = [sys.executable, "-m", "tests.peers.live_camera", "--port", f"{camera.port}", "--video", "h265"]
    encoding = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        # Nothing is kept there, so it has to encode.
        env={**os.environ, "YIAGENT_TEST_CLIPS": f"{tmp_path / 'clips'}"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    parent = psutil.Process(encoding.pid)
    wait_until(lambda: bool(parent.children(recursive=True)), 5, "the encoders")
    children = parent.children(recursive=True)
    encoding.terminate()
    _, said = encoding.communicate(timeout=3)
    assert said == ""
    psutil.wait_procs(children, timeout=2)
    assert not any(child.is_running() for child in children)


# The other camera


def test_the_other_camera_takes_digest_only(tmp_path: Path) -> None:
    """gst-rtsp-server challenges with Digest and nothing else, and takes it."""
    with GstCamera(tmp_path, login="viewer:s3cret") as camera:
        with socket.create_connection(("127.0.0.1", camera.port), timeout=5) as connection:
            connection.sendall(f"DESCRIBE {camera.hd_url} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
            challenge = connection.recv(4096).decode()
        assert "WWW-Authenticate: Digest" in challenge
        assert "Basic" not in challenge
        assert "401" in probe(with_login(camera.hd_url, "viewer:wrong"))["error"]
        assert codecs(with_login(camera.hd_url, "viewer:s3cret"), "-rtsp_transport", "tcp") == ["h264", "aac"]


@pytest.mark.parametrize(("video", "audio", "expected"), [("h265", "pcma", ["hevc", "pcm_alaw"])])
def test_the_other_camera_has_the_codecs_it_is_told(
    tmp_path: Path, video: Video, audio: Audio, expected: list[str]
) -> None:
    """Other codecs are what a client finds."""
    with GstCamera(tmp_path, video=video, audio=audio) as camera:
        assert codecs(camera.hd_url, "-rtsp_transport", "tcp") == expected


# The RTMP server


def test_the_server_takes_the_right_key_only(camera: LiveCamera, server: RtmpServer, tmp_path: Path) -> None:
    """`checked` compares the key with its query, and can be closed; `denied` takes nothing."""
    with Push(tmp_path, camera.sd_url, server.url("checked") + "/name?psk=secret"):
        server.wait_for_stream("name", "checked")
    server.wait_for_no_stream("name", "checked")
    wrong = ("checked/name", "checked/name?psk=secre", "checked/nam?psk=secret", "denied/any", "unknown/any")
    expect_all_to_end(tmp_path, camera.sd_url, [server.url(target) for target in wrong])
    server.refuse_key()
    try:
        expect_all_to_end(tmp_path, camera.sd_url, [server.url("checked") + "/name?psk=secret"])
    finally:
        server.accept_key()


def test_the_server_can_drop_a_publisher_and_come_back(camera: LiveCamera, server: RtmpServer, tmp_path: Path) -> None:
    """A dropped publisher is gone; a restarted server has its ports again and knows no streams."""
    with Push(tmp_path, camera.sd_url, server.url("live/instance") + "/key") as push:
        server.wait_for_stream("key", "live/instance")
        server.drop_publisher("key", "live/instance")
        push.wait_for_end()
    server.restart()
    assert server.streams() == []


def test_rtmps_is_verified(camera: LiveCamera, server: RtmpServer, certificates: Certificates, tmp_path: Path) -> None:
    """ffmpeg takes the good certificate, and none that is for another host, too old or a stranger's."""
    verify = ("-tls_verify", "1", "-ca_file", f"{certificates.ca_file}")
    good, *bad = server.rtmps_ports
    with Push(tmp_path, camera.sd_url, f"rtmps://127.0.0.1:{good}/live/tls", *verify):
        server.wait_for_stream("tls")
    targets = [f"rtmps://127.0.0.1:{port}/live/tls" for port in bad]
    for said in expect_all_to_end(tmp_path, camera.sd_url, targets, *verify):
        assert "[tls" in said


def test_the_server_listens_on_ipv6(camera: LiveCamera, server: RtmpServer, tmp_path: Path) -> None:
    """Where the machine has ::1, so has the server."""
    if not server.has_ipv6:
        pytest.skip("this machine has no ::1")
    with Push(tmp_path, camera.sd_url, server.url(host="::1") + "/six"):
        assert server.wait_for_stream("six").publisher_address == "::1"


def test_servers_can_be_broken(camera: LiveCamera, tmp_path: Path) -> None:
    """Some end ffmpeg, others hold it for ever."""
    for ending, scheme in ((HangUpServer, "rtmp"), (GarbageServer, "rtmps"), (PlaintextServer, "rtmps")):
        with ending() as broken, Push(tmp_path, camera.sd_url, f"{scheme}://127.0.0.1:{broken.port}/live/x") as push:
            push.wait_for_end()
            assert broken.accepted == 1
    with SilentServer() as silent, Push(tmp_path, camera.sd_url, f"rtmp://127.0.0.1:{silent.port}/live/x") as push:
        push.wait_until(lambda: silent.accepted == 1, 10, "ffmpeg to connect")
        with pytest.raises(PeerError):
            push.wait_for_end(timeout_s=1)


# The broker


def test_the_broker_keeps_what_is_retained_until_it_restarts(tmp_path: Path) -> None:
    """A listener hears everything with its properties; a restarted broker is on the same port, and empty."""
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        listener.publish("a/b", "hello", retain=True, response_topic="reply", correlation_data=b"1")
        heard = listener.wait_for_topic("a/b")
        assert (heard.text, heard.qos, heard.retain) == ("hello", 1, False)
        assert heard.properties == {"ResponseTopic": "reply", "CorrelationData": b"1"}
        with Listener(broker.port) as late:
            assert late.wait_for_topic("a/b").retain
        broker.restart()
        listener.wait_until_subscribed()
        listener.publish("a/c")
        with Listener(broker.port) as late:
            late.publish("a/d")
            late.wait_for_topic("a/d")
            assert [message.topic for message in late.messages] == ["a/d"]


def test_the_broker_knows_its_users(tmp_path: Path) -> None:
    """Passwords are checked, and the ACL keeps users to their own topics."""
    with Broker(tmp_path, users={"cam": "päss:word"}, acl_text="pattern readwrite yiagent/%u/#\n") as broker:
        for name, password in (("", ""), ("cam", "wrong")):
            with pytest.raises(PeerError):
                Listener(broker.port, username=name, password=password).start()
        with Listener(broker.port, username="cam", password="päss:word") as listener:
            listener.publish("yiagent/other/x")
            listener.publish("yiagent/cam/x")
            listener.wait_for_topic("yiagent/cam/x")
            assert len(listener.messages) == 1


def test_the_broker_knows_its_clients_certificates(tmp_path: Path, certificates: Certificates) -> None:
    """Only a certificate of the broker's own authority is let in."""
    with Broker(tmp_path, tls=certificates, require_client_certificate=True) as broker:
        for pair in (None, certificates.stranger_client):
            with pytest.raises((PeerError, OSError)):
                Listener(broker.port, tls=certificates, client_certificate=pair).start()
        with Listener(broker.port, tls=certificates, client_certificate=certificates.client) as listener:
            listener.publish("a")
            listener.wait_for_topic("a")


@pytest.mark.parametrize("silent", [False, True])
def test_an_old_broker_refuses_mqtt_5_and_speaks_3_1_1(broker: Broker, silent: bool) -> None:
    """Level 5 is refused, with return code 1 or without a word; level 4 works."""
    with OldBrokerProxy(broker.port, silent=silent) as old:
        with socket.create_connection(("127.0.0.1", old.port), timeout=5) as connection:
            # One byte at a time, as TCP may deliver it: CONNECT, MQTT 5, clean start, no properties, no client id.
            for byte in bytes.fromhex("100d 0004 4d515454 05 02 003c 00 0000"):
                connection.sendall(bytes([byte]))
            assert connection.recv(100) == (b"" if silent else OldBrokerProxy.REFUSAL)
        with Listener(old.port, protocol=MQTTProtocolVersion.MQTTv311) as listener:
            listener.publish("old", "fine")
            assert listener.wait_for_topic("old").text == "fine"
        assert old.levels == [5, 4]


def test_a_proxy_freezes_cuts_and_limits(broker: Broker) -> None:
    """What a frozen proxy holds back arrives later; a limited one takes its time; a cut one comes back."""
    with Proxy(broker.port) as proxy, Listener(proxy.port) as listener, Listener(broker.port) as beyond:
        proxy.freeze()
        beyond.publish("held")
        with pytest.raises(PeerError):
            listener.wait_for_topic("held", timeout_s=0.5)
        proxy.thaw()
        listener.wait_for_topic("held")
        proxy.limit(10_000)
        started = time.monotonic()
        beyond.publish("slow", bytes(10_000))
        listener.wait_for_topic("slow")
        assert time.monotonic() - started > 0.8
        proxy.limit(0)
        proxy.refuse()
        proxy.cut()
        with pytest.raises((PeerError, ConnectionError)):
            Listener(proxy.port).start()
        proxy.accept()
        listener.wait_until_subscribed()


def test_peers_die_with_the_tests(tmp_path: Path) -> None:
    """A test run that is killed leaves no peer behind."""
    script = (
        "import sys, pathlib; from tests.peers.broker import Broker\n"
        "print(Broker(pathlib.Path(sys.argv[1])).start().pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, f"{tmp_path}"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        broker = psutil.Process(int(runner.stdout.readline()))
        runner.kill()
    wait_until(lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE, 5, "the broker to die")
