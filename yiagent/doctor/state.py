"""Can the owner's wish be kept, is the kept one readable, and does an agent run? Nothing that stays is written."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from yiagent.doctor.findings import Findings
from yiagent.intent import Intent, IntentFile, IntentUnreadable
from yiagent.lock import is_locked
from yiagent.redact import Secret
from yiagent.settings import Config
from yiagent.threads import in_daemon_thread

PROBE_NAME: Final = "doctor-probe"
PROBE_BYTES: Final = 4096
LEAST_FREE_BYTES: Final = 1 << 20
SLOW_WRITE_S: Final = 2.0
# The agent holds it for as long as it, or an ffmpeg it left behind, runs.


@dataclass(frozen=True, slots=True)
class Aim:
    """What the agent would stream to: the saved wish first, else the configuration. `problem`: the wish is unreadable.

    The origins say, for a person, where server and key come from.
    """

    intent: Intent
    problem: str | None
    server: str | None
    server_origin: str
    key: Secret | None
    key_origin: str


def read_aim(config: Config) -> Aim:
    """The wish on disk and what follows from it; changes nothing there."""
    problem: str | None = None
    try:
        intent = IntentFile(config.state_dir).load()
    except IntentUnreadable as unreadable:
        intent, problem = Intent(), str(unreadable)
    return Aim(
        intent=intent,
        problem=problem,
        server=intent.server or config.destination.server,
        server_origin="set by command" if intent.server else "from destination.server",
        key=intent.key or config.destination.key,
        key_origin="set by command" if intent.key else "from the configuration",
    )


async def examine_state(folder: Path, aim: Aim, findings: Findings) -> None:
    """Look at the state folder and what is in it."""
    # A card that hangs hangs the thread, not the other checks.
    await in_daemon_thread(lambda: _examine(folder, aim, findings))


def _examine(folder: Path, aim: Aim, findings: Findings) -> None:
    try:
        _examine_folder(folder, findings)
    except OSError as error:
        tell = f"{folder} cannot be written ({error.strerror}); what is commanded would not survive a restart"
        findings.fail("state folder", f"{tell}. Give the agent's user this folder, or set state_dir to another")
    if aim.problem is not None:
        consequence = "the agent will put it aside and start idle: send server, key and ON again"
        findings.fail("saved wish", f"{IntentFile(folder).path}: {aim.problem}; {consequence}")
    elif aim.intent == Intent():
        findings.ok("saved wish", "none yet; the configuration's values hold")
    else:
        findings.ok("saved wish", _described(aim.intent))
    _examine_lock(folder, findings)


def _examine_folder(folder: Path, findings: Findings) -> None:
    if not folder.exists():
        _examine_parent(folder, findings)
        return
    began = time.monotonic()
    _write_probe(folder / PROBE_NAME)
    took_s = time.monotonic() - began
    free = shutil.disk_usage(folder).free
    room = f"{folder} is writable, {readable_bytes(free)} free"
    if (owner := _other_owner(folder)) is not None:
        findings.warn("state folder", f"{room}, but it belongs to {owner}: run the doctor as the agent's user")
    elif free < LEAST_FREE_BYTES:
        findings.warn("state folder", f"{room}: that is hardly enough to keep the wish")
    elif took_s > SLOW_WRITE_S:
        findings.warn("state folder", f"{room}, but a small write took {took_s:.1f} s: the card may be failing")
    else:
        findings.ok("state folder", room)


def _examine_parent(folder: Path, findings: Findings) -> None:
    """Look whether the folder can be made. It is not: made by root, the agent's own user could not write to it."""
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    probe = parent / PROBE_NAME
    try:
        probe.mkdir(exist_ok=True)
        probe.rmdir()
    except OSError as error:
        tell = f"{folder} is not there and cannot be made in {parent} ({error.strerror})"
        findings.fail("state folder", f"{tell}. Make it for the agent's user, or set state_dir to another")
    else:
        findings.ok("state folder", f"{folder} is not there yet; the agent will make it")


def _write_probe(probe: Path) -> None:
    """Write, sync and remove a small file. Raises `OSError`."""
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, bytes(PROBE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _other_owner(folder: Path) -> str | None:
    """The folder's owner where that is not us: root writes everywhere, which proves nothing for the agent."""
    uid = folder.stat().st_uid
    if uid == os.geteuid():
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _examine_lock(folder: Path, findings: Findings) -> None:
    locked = is_locked(folder)
    if locked is None:
        findings.skip("agent", "none has run with this state folder, or its lock cannot be seen")
    elif locked:
        findings.ok("agent", "one is running with this state folder")
    else:
        findings.skip("agent", "none is running with this state folder now")


def _described(intent: Intent) -> str:
    """The wish in one line, without server and key: those have lines of their own."""
    parts = []
    if intent.stream is not None:
        parts.append(f"stream {'ON' if intent.stream else 'OFF'}")
    if intent.channel is not None:
        parts.append(f"channel {intent.channel}")
    parts += [name for name, value in (("a server", intent.server), ("a key", intent.key)) if value is not None]
    return f"by command: {', '.join(parts)}"


def readable_bytes(count: float) -> str:
    """A size for a person, such as `1.5 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
