"""From a command on the broker to media at the RTMP server: real camera, real ffmpeg, real nginx, real mosquitto."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RIGHT_KEY
from tests.harness import AgentProcess, State, latest_state, wait_for_answer, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import Audio, GstCamera, LiveCamera
from tests.peers.certificates import Certificates
from tests.peers.process import wait_until
from tests.peers.rtmp import RtmpServer

DEVICE = "stream-test"
PATIENCE_S = 30.0


def is_streaming(state: State) -> bool:
    return bool(state["phase"] == "streaming")


@contextmanager
def live_agent(
    folder: Path, broker: Broker, *, hd: str | None = None, sd: str | None = None, **sections: Any
) -> Iterator[tuple[AgentProcess, Listener]]:
    """An agent that is online, idle and configured with a camera, and a listener to its topics."""
    config = {"device": {"id": DEVICE}, "source": {"hd": hd, "sd": sd}, **sections}
    with Listener(broker.port, f"yiagent/{DEVICE}/#") as listener:
        start = listener.position
        with AgentProcess(folder, broker_port=broker.port, config=config) as agent:
            agent.wait_until_online(listener, after=start)
            yield agent, listener


def test_a_command_puts_the_camera_live_and_another_ends_it(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """url/set and stream/set ON bring H.264 and AAC to the server; channel/set changes the picture; OFF ends it."""
    with live_agent(tmp_path, any_broker, hd=any_camera.hd_url, sd=any_camera.sd_url) as (agent, listener):
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/one-key")
        listener.publish(agent.topic("stream/set"), "ON")
        state = wait_for_state(listener, is_streaming, PATIENCE_S)
        assert (state["stream"], state["active_channel"], state["reason"]) == ("ON", "hd", None)
        stat = any_server.wait_for_stream("one-key")
        assert (stat.video_codec, stat.audio_codec, stat.width) == ("H264", "AAC", 1280)
        # By this, what makes room for HD on a camera knows when to.
        assert [process.environ()["YIAGENT_CHANNEL"] for process in agent.ffmpegs()] == ["hd"]

        after = listener.position
        listener.publish(agent.topic("channel/set"), "sd")
        wait_for_state(listener, lambda state: is_streaming(state) and state["active_channel"] == "sd", after=after)
        wait_until(lambda: any_server.wait_for_stream("one-key").width == 640, PATIENCE_S, "the SD picture")
        # Idempotent: the same wish again keeps the very same ffmpeg.
        before = [process.pid for process in agent.ffmpegs()]
        assert [process.environ()["YIAGENT_CHANNEL"] for process in agent.ffmpegs()] == ["sd"]
        after = listener.position
        listener.publish(agent.topic("request"), '{"transaction":"again","stream":"ON","channel":"sd"}')
        wait_for_answer(listener, agent.topic("response"), lambda answer: answer["transaction"] == "again", after=after)
        assert [process.pid for process in agent.ffmpegs()] == before

        after = listener.position
        listener.publish(agent.topic("stream/set"), "OFF")
        state = wait_for_state(listener, lambda state: bool(state["phase"] == "idle"), after=after)
        assert (state["stream"], state["active_channel"], state["reason"]) == ("OFF", None, None)
        assert agent.ffmpegs() == []
        any_server.wait_for_no_stream("one-key")


def test_telemetry_tells_the_true_bit_rate(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """What telemetry says left, and at what rate, is within 15 % of what the server received meanwhile."""
    every_second = {"interval_s": 1}
    with live_agent(tmp_path, any_broker, hd=any_camera.hd_url, telemetry=every_second) as (agent, listener):
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/rate-key")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, is_streaming, PATIENCE_S)
        any_server.wait_for_stream("rate-key", more_than_bytes=100_000)
        topic = agent.topic("telemetry")
        first, received, began = listener.position, any_server.wait_for_stream("rate-key").bytes_in, time.monotonic()
        wait_until(lambda: len([m for m in listener.messages[first:] if m.topic == topic]) >= 8, PATIENCE_S, "samples")
        received = any_server.wait_for_stream("rate-key").bytes_in - received
        true_kbps = received * 8 / 1000 / (time.monotonic() - began)
        samples = [json.loads(m.payload) for m in listener.messages[first:] if m.topic == topic][1:]
        mean_kbps = sum(sample["stream_kbps"] for sample in samples) / len(samples)
        assert mean_kbps == pytest.approx(true_kbps, rel=0.15)
        assert samples[-1]["sent_bytes"] - samples[0]["sent_bytes"] == pytest.approx(
            received * (len(samples) - 1) / (len(samples) + 1), rel=0.25
        )
        last = samples[-1]
        assert last["interface"] == "lo"
        assert last["fps"] > 0
        assert last["tx_kbps"] > true_kbps
        assert last["streaming_s"] >= 5
        assert last["agent_rss_kb"] > 1000
        assert last["remux_rss_kb"] > 1000


@pytest.mark.parametrize(
    ("sound", "mode", "arrives"),
    [
        ("aac", "auto", "AAC"),
        ("pcma", "auto", "AAC"),
        ("none", "auto", "AAC"),
        ("aac", "aac", "AAC"),
        ("pcma", "silent", "AAC"),
        ("aac", "copy", "AAC"),
        ("none", "copy", ""),
        ("aac", "none", ""),
    ],
)
def test_sound_arrives_as_aac_whatever_the_camera_sends(
    tmp_path: Path, any_broker: Broker, any_server: RtmpServer, sound: Audio, mode: str, arrives: str
) -> None:
    """`auto` gives AAC from AAC, G.711 and silence; the other modes do what they say."""
    key = f"sound-{sound}-{mode}"
    with (
        LiveCamera(tmp_path / "camera", audio=sound, gop_s=1) as camera,
        live_agent(tmp_path, any_broker, sd=camera.sd_url, stream={"audio": mode}) as (agent, listener),
    ):
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/{key}")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, is_streaming, PATIENCE_S)
        stat = any_server.wait_for_stream(key, more_than_bytes=40_000, timeout_s=PATIENCE_S)
        assert (stat.video_codec, stat.audio_codec) == ("H264", arrives)
        assert latest_state(listener)["attempt"] == 0  # type: ignore[index]


def test_a_camera_that_comes_back_with_other_sound_is_noticed(
    tmp_path: Path, any_broker: Broker, any_server: RtmpServer
) -> None:
    """G.711 after a restart of the camera must not go out as it is: YouTube would play silence."""
    with (
        LiveCamera(tmp_path / "camera", audio="aac", gop_s=1) as camera,
        live_agent(tmp_path, any_broker, sd=camera.sd_url) as (agent, listener),
    ):
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/changing")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, is_streaming, PATIENCE_S)
        after = listener.position
        camera.set_audio("pcma")
        camera.drop_clients()
        wait_for_state(listener, lambda state: state["phase"] != "streaming", PATIENCE_S, after=after)
        after = listener.position
        wait_for_state(listener, is_streaming, PATIENCE_S, after=after)
        wait_until(
            lambda: any_server.wait_for_stream("changing", more_than_bytes=40_000).audio_codec == "AAC",
            PATIENCE_S,
            "AAC made of G.711",
        )


@pytest.mark.parametrize("password", ["plain-made-up", "a/b@c:d%41#e?f g"])
def test_digest_login_with_any_password(
    tmp_path: Path, any_broker: Broker, any_server: RtmpServer, password: str
) -> None:
    """RTSP digest authentication against gst-rtsp-server, with a password of awkward characters too."""
    source = {"username": "viewer", "password": password}
    with (
        GstCamera(tmp_path / "camera", login=f"viewer:{password}") as camera,
        live_agent(tmp_path, any_broker, source={"hd": camera.hd_url, "sd": None, **source}) as (agent, listener),
    ):
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/digest")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, is_streaming, PATIENCE_S)
        assert any_server.wait_for_stream("digest").video_codec == "H264"
        assert password not in agent.log_text


def test_a_camera_without_parameter_sets_gets_a_longer_look(
    tmp_path: Path, any_broker: Broker, any_server: RtmpServer
) -> None:
    """A cheap camera tells its picture size only with a keyframe: the short look fails, the next one waits for it."""
    with (
        LiveCamera(tmp_path / "camera", sprop=False, gop_s=4) as camera,
        live_agent(tmp_path, any_broker, sd=camera.sd_url) as (agent, listener),
    ):
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/no-sprop")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, is_streaming, PATIENCE_S)
        assert any_server.wait_for_stream("no-sprop", more_than_bytes=40_000).width == 640


def test_udp_transport(tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer) -> None:
    """`source.transport: udp` fetches the camera's media beside the RTSP connection."""
    source = {"sd": any_camera.sd_url, "hd": None, "transport": "udp"}
    with live_agent(tmp_path, any_broker, source=source) as (agent, listener):
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/by-udp")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, is_streaming, PATIENCE_S)
        assert any_server.wait_for_stream("by-udp", more_than_bytes=40_000).video_codec == "H264"


def test_rtmps_with_a_verified_certificate(
    tmp_path: Path,
    any_broker: Broker,
    any_camera: LiveCamera,
    any_server: RtmpServer,
    any_certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """rtmps:// arrives where the certificate is good."""
    monkeypatch.setenv("SSL_CERT_FILE", str(any_certificates.ca_file))
    with live_agent(tmp_path, any_broker, sd=any_camera.sd_url) as (agent, listener):
        listener.publish(agent.topic("server/set"), any_server.url(tls=True))
        listener.publish(agent.topic("key/set"), "over-tls")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, is_streaming, PATIENCE_S)
        assert any_server.wait_for_stream("over-tls").video_codec == "H264"


@pytest.mark.parametrize(
    ("app", "host", "query", "key", "name"),
    [
        ("checked", "127.0.0.1", "", RIGHT_KEY, RIGHT_KEY.partition("?")[0]),
        ("live", "127.0.0.1", "?backup=1", "with-server-query", "with-server-query"),
        ("live/instance", "127.0.0.1", "", "two-segments", "two-segments"),
        ("live", "[::1]", "", "over-ipv6", "over-ipv6"),
        ("live", "127.0.0.1", "", "-i", "-i"),
        ("live", "127.0.0.1", "", "a=b:c,d;e'f\"g`h$(i)|j\\k", "a=b:c,d;e'f\"g`h$(i)|j\\k"),
        ("live", "127.0.0.1", "", "percent%41 and space", "percent%41 and space"),
    ],
)
def test_odd_servers_and_keys_work(
    tmp_path: Path,
    any_broker: Broker,
    any_camera: LiveCamera,
    any_server: RtmpServer,
    app: str,
    host: str,
    query: str,
    key: str,
    name: str,
) -> None:
    """Queries, two path segments, IPv6 and keys that look like options, quotes or escapes reach the server as typed."""
    if host == "[::1]" and not any_server.has_ipv6:
        pytest.skip("this machine has no ::1")
    with live_agent(tmp_path, any_broker, sd=any_camera.sd_url) as (agent, listener):
        request = {"server": any_server.url(app, host=host.strip("[]")) + query, "key": key, "stream": "ON"}
        listener.publish(agent.topic("request"), json.dumps(request))
        wait_for_state(listener, is_streaming, PATIENCE_S)
        stat = any_server.wait_for_stream(name, app)
        assert stat.video_codec == "H264"


def test_a_press_restarts_the_remux(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """restart/set gives a new ffmpeg for the same wish."""
    with live_agent(tmp_path, any_broker, sd=any_camera.sd_url) as (agent, listener):
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/pressed")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, is_streaming, PATIENCE_S)
        before, after = [process.pid for process in agent.ffmpegs()], listener.position
        listener.publish(agent.topic("restart/set"), "PRESS")
        wait_for_state(listener, lambda state: bool(state["phase"] == "stopping"), after=after)
        wait_for_state(listener, is_streaming, PATIENCE_S, after=after + 1)
        wait_until(lambda: is_streaming(latest_state(listener) or {"phase": ""}), PATIENCE_S, "streaming again")
        assert [process.pid for process in agent.ffmpegs()] != before
