"""Pictures, with a real camera, broker, server and ffmpeg: one arrives as a JPEG, and the stream never notices."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness import (
    WAIT_TIMEOUT_S,
    AgentProcess,
    State,
    latest_state,
    wait_for_answer,
    wait_for_log_line,
    wait_for_state,
)
from tests.peers.broker import Broker, Listener, Message
from tests.peers.camera import LiveCamera
from tests.peers.ports import free_port
from tests.peers.process import find_program, wait_until
from tests.peers.rtmp import RtmpServer

DEVICE = "picture-test"
PATIENCE_S = 30.0
HD, SD = (1280, 720), (640, 360)


def is_streaming(state: State) -> bool:
    return bool(state["phase"] == "streaming")


@contextmanager
def picture_agent(
    folder: Path, broker: Broker, *, hd: str | None = None, sd: str | None = None, **sections: Any
) -> Iterator[tuple[AgentProcess, Listener]]:
    """An agent with pictures on that is online and idle, and a listener to its topics."""
    config = {"device": {"id": DEVICE}, "source": {"hd": hd, "sd": sd}, "snapshot": {"enabled": True}, **sections}
    with Listener(broker.port, f"yiagent/{DEVICE}/#") as listener:
        start = listener.position
        with AgentProcess(folder, broker_port=broker.port, config=config) as agent:
            try:
                agent.wait_until_online(listener, after=start)
                yield agent, listener
            finally:
                # No picture of one test is another's. By another client: this one may not have come back to its broker.
                with Listener(broker.port, agent.topic("snapshot")) as other:
                    other.publish(agent.topic("snapshot"), "", retain=True)


def go_live(agent: AgentProcess, listener: Listener, server: RtmpServer, key: str) -> None:
    listener.publish(agent.topic("url/set"), f"{server.url()}/{key}")
    listener.publish(agent.topic("stream/set"), "ON")
    wait_for_state(listener, is_streaming, PATIENCE_S)


def press(agent: AgentProcess, listener: Listener) -> None:
    listener.publish(agent.topic("snapshot/set"), "PRESS")


def wait_for_picture(agent: AgentProcess, listener: Listener, *, after: int = 0) -> Message:
    topic = agent.topic("snapshot")
    return listener.wait_for(
        lambda message: message.topic == topic and bool(message.payload), PATIENCE_S, "a picture", after=after
    )


def wait_for_refusal(agent: AgentProcess, listener: Listener, *, after: int = 0) -> str:
    answer = wait_for_answer(
        listener,
        agent.topic("response"),
        lambda answer: answer.get("command") == "snapshot/set",
        PATIENCE_S,
        after=after,
    )
    assert (answer["status"], answer["error"]["code"]) == ("error", "not_available")
    return str(answer["error"]["message"])


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Width and height of a whole JPEG, as ffmpeg decodes it without a complaint."""
    assert (jpeg[:2], jpeg[-2:]) == (b"\xff\xd8", b"\xff\xd9")
    whole = [find_program("ffmpeg"), "-v", "error", "-xerror", "-f", "mjpeg", "-i", "pipe:0", "-f", "null", "-"]
    assert subprocess.run(whole, input=jpeg, capture_output=True, check=True).stderr == b""
    probe = [find_program("ffprobe"), "-v", "error", "-show_entries", "stream=width,height", "-of", "csv=p=0"]
    seen = subprocess.run([*probe, "-f", "mjpeg", "-i", "pipe:0"], input=jpeg, capture_output=True, check=True)
    width, height = seen.stdout.decode().strip().split(",")
    return int(width), int(height)


def picture_processes(agent: AgentProcess) -> list[psutil.Process]:
    """Those of the agent's ffmpegs that are taking a picture."""
    return [process for process in agent.ffmpegs() if is_picture(process)]


def remuxes(agent: AgentProcess) -> list[int]:
    return [process.pid for process in agent.ffmpegs() if not is_picture(process)]


def is_picture(process: psutil.Process) -> bool:
    try:
        return "image2pipe" in process.cmdline()
    except psutil.Error:
        return False


def wait_until_one_is_taken(agent: AgentProcess) -> psutil.Process:
    wait_until(lambda: bool(picture_processes(agent)), PATIENCE_S, "ffmpeg to take a picture")
    (process,) = picture_processes(agent)
    return process


def test_a_picture_of_the_stream_needs_no_second_session(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """One comes by itself when media flows and one at each press, of the channel that streams, from its keyframes."""
    with picture_agent(tmp_path, any_broker, hd=any_camera.hd_url, sd=any_camera.sd_url) as (agent, listener):
        go_live(agent, listener, any_server, "pictured")
        sessions, running = any_camera.plays, remuxes(agent)
        assert size_of(wait_for_picture(agent, listener).payload) == HD
        for _ in range(2):
            after = listener.position
            press(agent, listener)
            assert size_of(wait_for_picture(agent, listener, after=after).payload) == HD
        # Kept by the broker for whoever comes later.
        with Listener(any_broker.port, agent.topic("snapshot")) as late:
            kept = wait_for_picture(agent, late)
            assert kept.retain
            assert size_of(kept.payload) == HD
        assert any_camera.plays == sessions
        assert remuxes(agent) == running
        assert latest_state(listener)["attempt"] == 0  # type: ignore[index]
        stat = any_server.wait_for_stream("pictured", more_than_bytes=40_000)
        assert (stat.video_codec, stat.audio_codec, stat.width) == ("H264", "AAC", 1280)

        listener.publish(agent.topic("channel/set"), "sd")
        after = listener.position
        wait_for_state(listener, lambda state: is_streaming(state) and state["active_channel"] == "sd", after=after)
        topic = agent.topic("snapshot")
        press(agent, listener)
        listener.wait_for(lambda m: m.topic == topic and size_of(m.payload) == SD, PATIENCE_S, "SD", after=after)


@pytest.mark.parametrize("sound", ["pcma", "none"])
def test_pictures_with_any_sound(tmp_path: Path, any_broker: Broker, any_server: RtmpServer, sound: Any) -> None:
    """Beside sound that is made anew, and beside generated silence that ends with the camera's stream."""
    with (
        LiveCamera(tmp_path / "camera", audio=sound, gop_s=1) as camera,
        picture_agent(tmp_path, any_broker, sd=camera.sd_url) as (agent, listener),
    ):
        go_live(agent, listener, any_server, f"pictured-{sound}")
        assert size_of(wait_for_picture(agent, listener).payload) == SD
        assert any_server.wait_for_stream(f"pictured-{sound}", more_than_bytes=40_000).audio_codec == "AAC"
        after = listener.position
        camera.drop_clients()
        wait_for_state(listener, lambda state: not is_streaming(state), after=after)


def test_a_picture_of_an_idle_camera(tmp_path: Path, any_broker: Broker, any_camera: LiveCamera) -> None:
    """By one short session, of SD, and then the camera is left alone; nothing is taken while nobody asks."""
    with picture_agent(tmp_path, any_broker, hd=any_camera.hd_url, sd=any_camera.sd_url) as (agent, listener):
        sessions = any_camera.plays
        press(agent, listener)
        assert size_of(wait_for_picture(agent, listener).payload) == SD
        assert any_camera.plays == sessions + 1
        wait_until(lambda: agent.ffmpegs() == [], PATIENCE_S, "the session's end")
        assert listener.on(agent.topic("response")) == []


def test_a_camera_that_is_away_is_told_in_words(tmp_path: Path, any_broker: Broker) -> None:
    """The refusal says of the camera what the stream's reason would say."""
    with picture_agent(tmp_path, any_broker, sd=f"rtsp://127.0.0.1:{free_port()}/ch0_1.h264") as (agent, listener):
        press(agent, listener)
        message = wait_for_refusal(agent, listener)
        assert message.startswith("no picture could be taken: Nothing answers at the camera's RTSP address.")
        assert listener.on(agent.topic("snapshot")) == []


def test_without_ffmpeg(tmp_path: Path, any_broker: Broker, any_camera: LiveCamera) -> None:
    """What is missing is told, and what to do."""
    config = {"ffmpeg": "no-such-ffmpeg"}
    with picture_agent(tmp_path, any_broker, sd=any_camera.sd_url, **config) as (agent, listener):
        press(agent, listener)
        message = wait_for_refusal(agent, listener)
        assert message.startswith("no picture could be taken: There is no program “no-such-ffmpeg” on this machine.")


def test_no_secret_is_told(tmp_path: Path, any_broker: Broker, any_camera: LiveCamera) -> None:
    """A wrong password is named as the fault, and stands nowhere, at log.level debug either; nor does a right one."""
    wrong, right = "made-up-wrong-word", "made-up-right-word"
    with LiveCamera(tmp_path / "camera", login=f"viewer:{right}", gop_s=1) as camera:
        for word in (wrong, right):
            source = {"sd": camera.sd_url, "username": "viewer", "password": word}
            folder = tmp_path / word
            with picture_agent(folder, any_broker, source=source, log={"level": "debug"}) as (agent, listener):
                press(agent, listener)
                if word == wrong:
                    assert "password" in wait_for_refusal(agent, listener)
                    wait_for_log_line(listener, "The last line of a picture's: ")
                else:
                    assert size_of(wait_for_picture(agent, listener).payload) == SD
                assert word not in agent.full_log_text
                assert not [message for message in listener.messages if word.encode() in message.payload]


def test_a_picture_holds_nothing_up(tmp_path: Path, any_broker: Broker) -> None:
    """While the camera lets a picture wait, other commands are carried out, and whoever asks too gets the same one."""
    with (
        LiveCamera(tmp_path / "camera", gop_s=1) as camera,
        picture_agent(tmp_path, any_broker, sd=camera.sd_url) as (agent, listener),
    ):
        camera.freeze_media()
        press(agent, listener)
        taking = wait_until_one_is_taken(agent)
        assert taking.nice() > 0
        press(agent, listener)
        listener.publish(agent.topic("request"), '{"transaction":"meanwhile","channel":"sd"}')
        wait_for_answer(listener, agent.topic("response"), lambda answer: answer["transaction"] == "meanwhile")
        assert [process.pid for process in picture_processes(agent)] == [taking.pid]
        assert listener.on(agent.topic("snapshot")) == []
        camera.thaw_media()
        assert size_of(wait_for_picture(agent, listener).payload) == SD
        assert camera.plays == 1


def test_a_picture_makes_way_for_the_stream(tmp_path: Path, any_broker: Broker, any_server: RtmpServer) -> None:
    """A camera may serve one viewer alone: the picture's session ends when the stream starts, which brings it then."""
    with (
        LiveCamera(tmp_path / "camera", gop_s=1) as camera,
        picture_agent(tmp_path, any_broker, sd=camera.sd_url, stream={"audio": "copy"}) as (agent, listener),
    ):
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/first")
        camera.freeze_media()
        press(agent, listener)
        taking = wait_until_one_is_taken(agent)
        wait_until(lambda: camera.plays == 1, PATIENCE_S, "its session")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_until(lambda: not taking.is_running() and bool(remuxes(agent)), PATIENCE_S, "the remux alone")
        camera.thaw_media()
        assert size_of(wait_for_picture(agent, listener).payload) == SD
        wait_for_state(listener, is_streaming, PATIENCE_S)
        assert camera.plays == 2
        assert listener.on(agent.topic("response")) == []


@pytest.mark.parametrize("how", [AgentProcess.end, AgentProcess.kill9])
def test_nothing_is_left_of_a_picture(
    tmp_path: Path, any_broker: Broker, how: Callable[[AgentProcess], object]
) -> None:
    """Not when the agent stops, and not when it is killed, while one is being taken."""
    with (
        LiveCamera(tmp_path / "camera", gop_s=1) as camera,
        picture_agent(tmp_path, any_broker, sd=camera.sd_url) as (agent, listener),
    ):
        camera.freeze_media()
        press(agent, listener)
        taking = wait_until_one_is_taken(agent)
        how(agent)
        wait_until(lambda: not taking.is_running(), PATIENCE_S, "the end of the picture's ffmpeg")
        if how is AgentProcess.end:
            assert wait_for_refusal(agent, listener) == "no picture could be taken: the agent is stopping"


# --- with another ffmpeg ---


def ffmpeg_that(folder: Path, case: str) -> str:
    """ffmpeg, but for one case of a shell's `case "$*"`."""
    program = folder / "another-ffmpeg"
    real = find_program(os.environ.get("YIAGENT_TEST_FFMPEG", "ffmpeg"))
    program.write_text(f'#!/bin/sh\ncase "$*" in {case} esac\nexec {real} "$@"\n')
    program.chmod(0o755)
    return f"{program}"


def test_an_ffmpeg_that_cannot_pick_keyframes(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """The remux is the plain one; a picture that is asked for takes a second session, and none is taken unasked."""
    program = ffmpeg_that(tmp_path, "*bsf=noise) echo '  -amount <int>'; exit 0;;")
    with picture_agent(tmp_path, any_broker, sd=any_camera.sd_url, ffmpeg=program) as (agent, listener):
        go_live(agent, listener, any_server, "old-ffmpeg")
        sessions, running = any_camera.plays, remuxes(agent)
        assert not any("noise" in argument for argument in psutil.Process(running[0]).cmdline())
        press(agent, listener)
        assert size_of(wait_for_picture(agent, listener).payload) == SD
        assert any_camera.plays == sessions + 1
        assert remuxes(agent) == running
        assert len(listener.on(agent.topic("snapshot"))) == 1


def test_a_picture_that_fails_never_touches_the_stream(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """One that was to be taken by itself is told in the log, one that was asked for is refused; media goes on."""
    program = ffmpeg_that(tmp_path, "*image2pipe*) echo 'it broke' >&2; exit 1;;")
    with picture_agent(tmp_path, any_broker, sd=any_camera.sd_url, ffmpeg=program) as (agent, listener):
        go_live(agent, listener, any_server, "no-decoder")
        line = wait_for_log_line(listener, "While streaming, no picture could be taken: ffmpeg cannot make one")
        assert line["level"] == "warning"
        running, after = remuxes(agent), listener.position
        press(agent, listener)
        assert "ffmpeg cannot make one of what the camera sends" in wait_for_refusal(agent, listener, after=after)
        sent = any_server.wait_for_stream("no-decoder").bytes_in
        any_server.wait_for_stream("no-decoder", more_than_bytes=sent + 40_000)
        assert remuxes(agent) == running
        assert is_streaming(latest_state(listener) or {"phase": ""})


def test_a_picture_that_is_too_long(tmp_path: Path, any_broker: Broker, any_camera: LiveCamera) -> None:
    """It is never held, and its ffmpeg is ended."""
    program = ffmpeg_that(tmp_path, "*image2pipe*) exec cat /dev/zero;;")
    with picture_agent(tmp_path, any_broker, sd=any_camera.sd_url, ffmpeg=program) as (agent, listener):
        press(agent, listener)
        assert wait_for_refusal(agent, listener) == "no picture could be taken: it is longer than 2 MB"
        assert not [child for child in agent.children() if child.name() == "cat"]


def test_without_pictures_the_remux_is_the_plain_one(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """Off, as it comes: no second output, no question to ffmpeg about it, no picture, nothing imported for it."""
    program = ffmpeg_that(tmp_path, f"*noise*) touch {tmp_path}/asked;;")
    off = {"snapshot": None, "ffmpeg": program}
    with picture_agent(tmp_path, any_broker, sd=any_camera.sd_url, **off) as (agent, listener):
        go_live(agent, listener, any_server, "plain")
        press(agent, listener)
        assert "snapshot.enabled: true" in wait_for_refusal(agent, listener)
        assert listener.on(agent.topic("snapshot")) == []
        assert not (tmp_path / "asked").exists()
        descriptors = {path.readlink().name for path in Path(f"/proc/{remuxes(agent)[0]}/fd").iterdir()}
        assert len([target for target in descriptors if target.startswith("pipe:")]) == 2


# --- to the broker ---


def test_a_broker_that_forgot_gets_the_picture_again(tmp_path: Path, any_camera: LiveCamera) -> None:
    """After each connection it is published anew, and it is the same one."""
    with (
        Broker(tmp_path / "broker") as broker,
        picture_agent(tmp_path, broker, sd=any_camera.sd_url) as (agent, listener),
    ):
        press(agent, listener)
        first = wait_for_picture(agent, listener)
        broker.restart()
        with Listener(broker.port, agent.topic("snapshot")) as late:
            assert wait_for_picture(agent, late).payload == first.payload


def test_a_broker_that_takes_no_long_messages(tmp_path: Path, any_camera: LiveCamera) -> None:
    """The picture is left out, which is told, and the connection stands."""
    with (
        Broker(tmp_path / "broker", extra_lines=["max_packet_size 5000"]) as broker,
        picture_agent(tmp_path, broker, sd=any_camera.sd_url) as (agent, listener),
    ):
        press(agent, listener)
        wait_for_log_line(listener, "is longer than the MQTT broker takes", WAIT_TIMEOUT_S)
        listener.publish(agent.topic("request"), json.dumps({"transaction": "still there"}))
        wait_for_answer(listener, agent.topic("response"), lambda answer: answer["transaction"] == "still there")
        assert agent.full_log_text.count("Connected to the MQTT broker") == 1
        # So it is with the announcement to Home Assistant, which is longer still.
        assert agent.full_log_text.count("set mqtt.discovery.format to entity") == 1
