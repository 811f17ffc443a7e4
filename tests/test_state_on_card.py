"""The state folder on a memory card: FAT, read-only, failing, hanging, pulled. The agent and its stream go on."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.harness import AgentProcess, latest_state, wait_for_log_line, wait_for_state
from tests.peers.broker import Broker, Listener
from tests.peers.namespace import run_in_namespace, why_not
from tests.peers.process import PeerError, find_program, wait_until
from yiagent.announced import Announced, AnnouncedFile
from yiagent.brokerchoice import BrokerChoice, ChoiceUnreadable
from yiagent.brokerfile import BrokerFile
from yiagent.intent import Intent, IntentFile, IntentUnreadable
from yiagent.lock import is_locked, state_folder
from yiagent.model import Level
from yiagent.redact import Redactor, Secret
from yiagent.store import Journal
from yiagent.web.password import PagePassword

DEVICE = "card-test"
PATIENCE_S = 40.0
# ON with a server where nothing listens: obeyed at once, whatever comes of it.
TARGET = {"destination": {"server": "rtmp://127.0.0.1:1/live", "key": "made-up"}}
FIRST = Intent(stream=True, server="rtmp://127.0.0.1/live", key=Secret("made-up"))
SECOND = Intent(stream=False)


def _journal() -> Journal:
    return Journal(Redactor(), level=Level.DEBUG, clock=time.time, monotonic=time.monotonic)


# --- FAT --------------------------------------------------------------------------------------------------------------


def _everything_that_is_kept(folder: Path) -> None:
    """Make, replace, read again, remove and put aside all there is in a state folder, without a warning."""
    journal = _journal()
    with state_folder(folder, journal) as lock:
        assert lock is not None
        assert is_locked(folder)
        intent = IntentFile(folder)
        for wish in (FIRST, SECOND):
            intent.save(wish)
            assert intent.load() == wish
        announced = AnnouncedFile(folder)
        for record in (Announced(root="yiagent/cam"), Announced(root="yiagent/other")):
            announced.save(record)
            assert announced.load() == record
        broker = BrokerFile(folder)
        choice = BrokerChoice(host="192.0.2.1", port=1883, username=None, password=None, tls=False)
        broker.save(choice)
        assert broker.load() == choice
        broker.save(None)
        assert broker.load() is None
        broker.save(None)
        made = PagePassword.load(None, folder, journal)
        assert (made.fresh, made.file) == (True, folder / "web-password")
        again = PagePassword.load(None, folder, journal)
        assert (again.fresh, again.secret) == (False, made.secret)
        for number in (1, 2):
            intent.path.write_bytes(b"damaged")
            with pytest.raises(IntentUnreadable):
                intent.load()
            assert intent.set_aside() == folder / f"intent.json.unreadable-{number}"
        assert intent.load() == Intent()
    assert not is_locked(folder)
    assert journal.since(0) == []
    left = {"announced.json", "intent.json.unreadable-1", "intent.json.unreadable-2", "lock", "web-password"}
    assert {path.name for path in folder.iterdir()} == left


def test_nothing_that_fat_lacks_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No modes, no links, no times; a folder that cannot be synced is no error: what old kernels refuse on FAT."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for name in ("chmod", "fchmod", "chown", "fchown", "link", "symlink", "utime", "mkfifo", "setxattr", "truncate"):
        monkeypatch.setattr(os, name, refuse)
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    _everything_that_is_kept(tmp_path / "state")


def test_no_two_files_differ_in_case_alone(tmp_path: Path) -> None:
    """On FAT they would be one."""
    _everything_that_is_kept(tmp_path)
    names = [path.name for path in tmp_path.iterdir()]
    assert len({name.lower() for name in names}) == len(names)
    # Nor is there any letter that FAT refuses.
    assert not set('"*:<>?\\|') & set("".join(names))


def test_a_file_system_without_locks_is_no_reason_not_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT has them, some mounts of it do not: two agents on one folder then go unnoticed."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with state_folder(tmp_path / "state", _journal()) as lock:
        assert lock is not None
    assert is_locked(tmp_path / "state") is None


def test_on_a_real_fat_card(tmp_path: Path) -> None:
    """The same on FAT32 as the kernel here has it, in a namespace of the test's own."""
    if reason := why_not():
        pytest.skip(f"no namespace on this machine: {reason}")
    try:
        run_in_namespace(_only_mounted, tmp_path)
    except PeerError as error:
        pytest.skip(f"no FAT on this machine: {str(error).splitlines()[-1]}")
    run_in_namespace(_on_fat, tmp_path)


def _only_mounted(folder: Path) -> None:
    _mount_card(folder)


def _on_fat(folder: Path) -> None:
    _everything_that_is_kept(_mount_card(folder) / "yiagent" / "state")


def _mount_card(folder: Path) -> Path:
    image, card = folder / "card.img", folder / "card"
    card.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(40 << 20)
    _tool("mkfs.fat", "-F", "32", f"{image}")
    _tool("mount", "-o", "loop", "-t", "vfat", f"{image}", f"{card}")
    return card


def _tool(name: str, *arguments: str) -> None:
    done = subprocess.run([find_program(name), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(done.stderr.strip())


# --- a card that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ENOENT, errno.ENOSPC, errno.ENODEV, errno.EACCES])
def test_a_card_on_which_everything_fails(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulled, damaged, full, read-only: each file says so in its own way, and none by another exception."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "intent.json").write_bytes(b"damaged")
    journal = _journal()
    with _failing(number, monkeypatch):
        with state_folder(folder, journal) as lock:
            assert lock is None
        intent, broker, announced = IntentFile(folder), BrokerFile(folder), AnnouncedFile(folder)
        try:
            assert intent.load() == Intent()
        except IntentUnreadable:
            assert intent.set_aside() is None
        try:
            assert broker.load() is None
        except ChoiceUnreadable:
            assert broker.set_aside() is None
        assert announced.load() == Announced()
        saves: list[Callable[[], None]] = [
            lambda: intent.save(FIRST),
            lambda: announced.save(Announced()),
            lambda: broker.save(None),
        ]
        for save in saves:
            with pytest.raises(OSError, match=re.escape(os.strerror(number))):
                save()
        password = PagePassword.load(None, folder, journal)
        assert (password.fresh, password.file) == (True, None)
    assert [line.level for line in journal.since(0)] == [Level.ERROR, Level.WARNING]


@contextmanager
def _failing(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as failing:
        for name in ("open", "unlink", "rename", "replace", "mkdir"):
            failing.setattr(os, name, fail)
        for name in ("open", "stat", "exists", "unlink", "replace", "rename", "mkdir"):
            # What Path itself swallows of them it may go on swallowing.
            if name != "exists" or number != errno.ENOENT:
                failing.setattr(Path, name, fail)
        yield


def _wishes(wish: str, state: dict[str, Any]) -> bool:
    return bool(state["stream"] == wish)


def test_a_card_that_is_pulled_and_put_back(tmp_path: Path, any_broker: Broker) -> None:
    """The state folder vanishes while the agent runs: commands are obeyed, it is told, and one day kept again."""
    with (
        Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener,
        AgentProcess(tmp_path, broker_port=any_broker.port, config={"device": {"id": DEVICE}, **TARGET}) as agent,
    ):
        agent.wait_until_online(listener)
        away = tmp_path / "away"
        agent.state_dir.rename(away)
        for payload in ("ON", "OFF", "ON"):
            after = listener.position
            listener.publish(agent.topic("stream/set"), payload)
            wait_for_state(listener, partial(_wishes, payload), PATIENCE_S, after=after)
            wait_for_log_line(listener, "could not be saved", PATIENCE_S, after=after)
        away.rename(agent.state_dir)
        after = listener.position
        listener.publish(agent.topic("stream/set"), "OFF")
        wait_for_log_line(listener, "saved again", PATIENCE_S, after=after)
        assert agent.alive
        assert "an error in yiagent itself" not in agent.full_log_text.lower()


def test_a_card_that_hangs(tmp_path: Path, any_broker: Broker) -> None:
    """A write that never ends keeps no command from being obeyed, nor the agent from ending when it is told to."""
    with (
        Listener(any_broker.port, f"yiagent/{DEVICE}/#") as listener,
        AgentProcess(tmp_path, broker_port=any_broker.port, config={"device": {"id": DEVICE}, **TARGET}) as agent,
    ):
        agent.wait_until_online(listener)
        # To open a pipe that nobody reads waits as one waits for a card that has gone silent.
        pipe = agent.intent_file.with_name("intent.json.new")
        os.mkfifo(pipe)
        after = listener.position
        for payload in ("ON", "OFF", "ON"):
            listener.publish(agent.topic("stream/set"), payload)
        wait_for_log_line(listener, "does not answer", PATIENCE_S, after=after)
        listener.publish(agent.topic("stream/set"), "OFF")
        wait_until(lambda: (latest_state(listener) or {})["phase"] == "idle", PATIENCE_S, "OFF to be obeyed")
        # It answers at last, with an error; then all is well again, and what was wished last is what is kept.
        os.close(os.open(pipe, os.O_RDONLY))
        wait_until(lambda: b'"OFF"' in (agent.intent_bytes() or b""), PATIENCE_S, "the last wish on the disk")
        os.mkfifo(pipe)
        listener.publish(agent.topic("stream/set"), "ON")
        wait_for_state(listener, partial(_wishes, "ON"), PATIENCE_S, after=after)
        began = time.monotonic()
        assert agent.end() == 0
        assert time.monotonic() - began < 11
