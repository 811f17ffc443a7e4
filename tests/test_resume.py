"""The wish survives a restart, a crash, `kill -9` and a power cut while it is written; and no ffmpeg is orphaned."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.harness import AgentProcess, latest_state, wait_for_log_line, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.camera import REPOSITORY, LiveCamera
from tests.peers.process import wait_until
from tests.peers.rtmp import RtmpServer
from yiagent.intent import FILE_NAME, Intent, IntentFile, IntentUnreadable, parse_intent, render_intent
from yiagent.model import Channel
from yiagent.redact import Secret

DEVICE = "resume-test"
PATIENCE_S = 40.0
CHILDREN = Path(__file__).parent / "children"
OTHER = Intent(stream=False, server="rtmp://127.0.0.1/other", key=Secret("another"), channel=Channel.HD)
FULL = Intent(stream=True, server="rtmp://127.0.0.1/live", key=Secret("made-up-kéy"), channel=Channel.SD)


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_streaming_resumes_with_no_command(
    end: str, tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """However the agent ended, the next one streams again; and what it streamed with is gone.

    Within ten seconds: scripts/faults measures them, on a machine that does nothing else.
    """
    config = {"device": {"id": DEVICE}, "source": {"sd": any_camera.sd_url}}
    with ExitStack() as stack:
        listener = stack.enter_context(Listener(any_broker.port, f"yiagent/{DEVICE}/#"))
        start = listener.position
        agent = stack.enter_context(AgentProcess(tmp_path, broker_port=any_broker.port, config=config))
        agent.wait_until_online(listener, after=start)
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/resumed-{end}")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S)
        remux, *others = agent.ffmpegs()
        assert others == []
        agent.end(signal.Signals[end])
        wait_until(lambda: is_gone(remux), PATIENCE_S, "the end of ffmpeg")
        after = listener.position
        agent.start()
        state = wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=after)
        assert state["stream"] == "ON"
        any_server.wait_for_stream(f"resumed-{end}")


def test_a_stubborn_ffmpeg_does_not_outlive_a_killed_agent(tmp_path: Path, any_broker: Broker) -> None:
    """An ffmpeg that ignores TERM is killed by the guard (scripts/faults: in 10 s); the next agent waits for that."""
    config = {
        "device": {"id": DEVICE},
        "destination": {"server": "rtmp://127.0.0.1/live", "key": "made-up"},
        "stream": {"autostart": True, "audio": "copy"},
        "ffmpeg": f"{CHILDREN / 'ignores_term.py'}",
    }
    with (
        Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener,
        AgentProcess(tmp_path, broker_port=any_broker.port, config=config) as agent,
    ):
        after = listener.position
        wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=after)
        group = next(os.getpgid(child.pid) for child in agent.children() if "ignores_term.py" in str(child.cmdline()))
        remux = psutil.Process(group)
        agent.kill9()
        after = listener.position
        agent.start()
        wait_until(lambda: is_gone(remux), PATIENCE_S, "the end of ffmpeg")
        wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=after)


def test_a_power_cut_at_any_byte_leaves_a_whole_wish_or_is_noticed() -> None:
    """No prefix of the file but the whole of it is taken for a wish."""
    whole = render_intent(FULL)
    assert parse_intent(whole) == FULL
    for length in range(len(whole) - 1):
        with pytest.raises(IntentUnreadable):
            parse_intent(whole[:length])


@pytest.mark.parametrize("step", ["open", "write", "flush", "fsync", "replace"])
def test_a_failure_at_any_step_of_saving_leaves_the_old_wish(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails while the new wish is written, the old one is still there, whole, and no litter beside it."""
    file = IntentFile(tmp_path)
    file.save(FULL)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "open":
        monkeypatch.setattr("yiagent.files.os.open", fail)
    elif step in ("write", "flush"):
        monkeypatch.setattr("yiagent.intent.render_intent", fail)
    elif step == "fsync":
        monkeypatch.setattr("yiagent.files.os.fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        file.save(Intent(stream=False))
    monkeypatch.undo()
    assert file.load() == FULL
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


SAVE_FOR_EVER = """
import sys
from pathlib import Path
from tests.test_resume import FULL, OTHER
from yiagent.intent import IntentFile
file = IntentFile(Path(sys.argv[1]))
while True:
    file.save(FULL)
    file.save(OTHER)
"""


def test_a_killed_writer_leaves_old_or_new(tmp_path: Path) -> None:
    """A process killed while it saves over and over leaves one of its two wishes, whole, every time."""
    file = IntentFile(tmp_path)
    for turn in range(12):
        file.path.unlink(missing_ok=True)
        writer = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, f"{tmp_path}"], cwd=REPOSITORY)
        wait_until(file.path.exists, PATIENCE_S, "a first save")
        # Not waiting for anything: another moment to be killed at, in every turn.
        time.sleep(turn * 0.0013)
        writer.kill()
        writer.wait()
        assert file.load() in (FULL, OTHER)


def test_the_file_is_private_and_its_folder_may_be_anything(tmp_path: Path) -> None:
    """The wish holds the stream key: only its owner may read it."""
    IntentFile(tmp_path).save(FULL)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert IntentFile(tmp_path / "not-there").load() == Intent()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"version": 2}',
        b'{"version": 1, "stream": "MAYBE"}',
        b'{"version": 1, "server": "file:///etc/passwd"}',
        b'{"version": 1, "key": 5}',
        b'{"version": 1, "channel": "uhd"}',
        b"[" * 20_000,
        b"x" * 70_000,
    ],
)
def test_an_unusable_file_is_kept_aside_and_the_agent_starts_idle(
    content: bytes, tmp_path: Path, any_broker: Broker
) -> None:
    """Unreadable, or from a newer version: kept under another name, told plainly, and nothing is streamed."""
    config = {
        "device": {"id": DEVICE},
        "destination": {"server": "rtmp://127.0.0.1/live", "key": "made-up"},
        "stream": {"autostart": True},
    }
    with Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener:
        agent = AgentProcess(tmp_path, broker_port=any_broker.port, config=config)
        agent.state_dir.mkdir()
        agent.intent_file.write_bytes(content)
        start = listener.position
        with agent:
            state = agent.wait_until_online(listener, after=start)
            assert (state["stream"], state["phase"]) == ("OFF", "idle")
            line = wait_for_log_line(listener, "cannot be used", after=start)
            assert line["level"] == "error"
            assert agent.intent_file.with_name("intent.json.unreadable-1").read_bytes() == content
            # And it is as good as new: the next wish is kept.
            listener.publish(agent.topic("stream/set"), "ON")
            wait_until(lambda: agent.intent_bytes() is not None, PATIENCE_S, "a saved wish")
            assert json.loads(agent.intent_bytes() or b"")["stream"] == "ON"


def test_an_off_after_an_unreadable_wish_is_kept(tmp_path: Path, any_broker: Broker) -> None:
    """Idle in place of a lost wish is no wish: an OFF that changes nothing must still outlive a restart."""
    config = {
        "device": {"id": DEVICE},
        "destination": {"server": "rtmp://127.0.0.1/live", "key": "made-up"},
        "stream": {"autostart": True},
    }
    with Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener:
        agent = AgentProcess(tmp_path, broker_port=any_broker.port, config=config)
        agent.state_dir.mkdir()
        agent.intent_file.write_bytes(b"damaged")
        start = listener.position
        with agent:
            agent.wait_until_online(listener, after=start)
            listener.publish(agent.topic("stream/set"), "OFF")
            wait_until(lambda: agent.intent_bytes() is not None, PATIENCE_S, "a saved wish")
            after = listener.position
            agent.restart()
            state = agent.wait_until_online(listener, after=after)
            assert (state["stream"], state["phase"]) == ("OFF", "idle")


def test_a_folder_that_cannot_be_written_is_told_and_the_stream_goes_on(
    tmp_path: Path, any_broker: Broker, any_camera: LiveCamera, any_server: RtmpServer
) -> None:
    """Without a place for the wish the agent still obeys, and says that the wish will not survive."""
    (tmp_path / "file").write_text("not a folder")
    config = {
        "device": {"id": DEVICE},
        "source": {"sd": any_camera.sd_url},
        "state_dir": tmp_path / "file" / "state",
    }
    with ExitStack() as stack:
        listener = stack.enter_context(Listener(any_broker.port, f"yiagent/{DEVICE}/#"))
        start = listener.position
        agent = stack.enter_context(AgentProcess(tmp_path, broker_port=any_broker.port, config=config))
        agent.wait_until_online(listener, after=start)
        listener.publish(agent.topic("url/set"), f"{any_server.url()}/unsaved")
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_log_line(listener, "will not survive a restart", after=start)
        wait_for_state(listener, lambda state: bool(state["phase"] == "streaming"), PATIENCE_S, after=start)
        assert (latest_state(listener) or {})["stream"] == "ON"
