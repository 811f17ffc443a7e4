"""`yiagent doctor`: looks at everything the stream depends on, and says what to mend. One line for each check."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from yiagent.brokerfile import chosen_broker
from yiagent.doctor.broker import examine_broker
from yiagent.doctor.camera import examine_camera
from yiagent.doctor.ffmpeg import Ffmpeg, examine_ffmpeg
from yiagent.doctor.findings import Finding, Findings, Mark
from yiagent.doctor.machine import examine_clock, examine_file, examine_memory
from yiagent.doctor.server import examine_server
from yiagent.doctor.state import examine_state, read_aim
from yiagent.redact import Redactor, Secret
from yiagent.settings import Config
from yiagent.urls import parse_server

# Behind each check's own limits: what hangs beyond them (a resolver, a card) must not hang the doctor.
CHECK_TIMEOUT_S: Final = 15.0
# Two channels, of which each may need a second, patient look.
CAMERA_TIMEOUT_S: Final = 40.0

T = TypeVar("T")
Checked = tuple[Findings, T | None]


def examine(config: Config, file: Path | None = None) -> int:
    """Look at everything and print it; 0 when nothing failed, else 1. `file`: where the configuration was read."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return asyncio.run(_Examination(config, file).run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 1


class _Examination:
    """One run: the checks side by side, their lines in a fixed order."""

    def __init__(self, config: Config, file: Path | None) -> None:
        # The broker is the one that the agent would take: one that was set on the page wins.
        self._config = replace(config, mqtt=chosen_broker(config.mqtt, config.state_dir))
        self._file = file
        self._aim = read_aim(config)
        self._server = parse_server(self._aim.server) if self._aim.server is not None else None
        self._redactor = Redactor()
        for secret, user in self._secrets():
            self._redactor.learn(secret, user=user)

    async def run(self) -> int:
        """The exit status."""
        task = asyncio.current_task()
        assert task is not None
        # A check that is cancelled takes its ffmpeg with it.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        config, server, aim = self._config, self._server, self._aim
        failed = False
        async with asyncio.TaskGroup() as group:
            ffmpeg = group.create_task(_check("ffmpeg", lambda found: examine_ffmpeg(config, server, found)))
            camera = group.create_task(self._camera(ffmpeg))
            ordered: list[Awaitable[Checked[object]]] = [
                group.create_task(_check("configuration", self._examine_file)),
                ffmpeg,
                camera,
                group.create_task(_check("server", self._examine_server)),
                group.create_task(_check("broker", lambda found: examine_broker(config, found))),
                group.create_task(_check("state folder", lambda found: examine_state(config.state_dir, aim, found))),
                group.create_task(self._memory(ffmpeg, camera)),
                group.create_task(_check("clock", self._examine_clock)),
            ]
            for check in ordered:
                findings, _ = await check
                for finding in findings.lines:
                    failed = failed or finding.mark is Mark.FAIL
                    self._say(finding)
        return 1 if failed else 0

    def _secrets(self) -> list[tuple[Secret | None, str | None]]:
        urls = [url for url in (self._config.source.hd, self._config.source.sd, self._server) if url is not None]
        return [*self._config.secrets, (self._aim.key, None), *((url.password, url.username) for url in urls)]

    def _say(self, finding: Finding) -> None:
        line = self._redactor.redact(str(finding))
        # What a camera or a broker says of itself must not reach the terminal as a control sequence.
        line = "".join(character if character.isprintable() else " " for character in line)
        try:
            print(line, flush=True)  # noqa: T201 - the doctor's lines are what it is for
        except BrokenPipeError:
            # Nobody reads any more (`| head`): the exit status still counts, and Python's own last flush must not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    async def _camera(self, ffmpeg: asyncio.Task[Checked[Ffmpeg]]) -> Checked[None]:
        _, found = await ffmpeg
        return await _check("camera", lambda findings: examine_camera(self._config, found, findings), CAMERA_TIMEOUT_S)

    async def _memory(
        self, ffmpeg: asyncio.Task[Checked[Ffmpeg]], camera: asyncio.Task[Checked[None]]
    ) -> Checked[None]:
        """Last: ffmpeg's own need is known when it has run."""
        _, found = await ffmpeg
        await camera

        async def look(findings: Findings) -> None:
            examine_memory(ffmpeg_ran=found is not None, findings=findings)

        return await _check("memory", look)

    async def _examine_file(self, findings: Findings) -> None:
        if self._file is not None:
            secrets = [secret for secret, _ in self._secrets() if secret is not None]
            examine_file(self._file, secrets, findings)

    async def _examine_server(self, findings: Findings) -> None:
        aim = self._aim
        if self._server is None:
            findings.skip("server", "none is set yet: set destination.server, or send its URL to server/set")
        else:
            await examine_server(self._server, aim.server_origin, findings)
        if aim.key is not None:
            findings.ok("stream key", f"set ({aim.key_origin})")
        elif self._server is None:
            findings.skip("stream key", "none is set yet")
        else:
            findings.warn("stream key", "none is set: set destination.key, or send it to key/set")

    async def _examine_clock(self, findings: Findings) -> None:
        encrypted = self._config.mqtt.tls is not None or (self._server is not None and self._server.scheme == "rtmps")
        examine_clock(certificates_matter=encrypted, findings=findings)


async def _check(what: str, look: Callable[[Findings], Awaitable[T]], timeout_s: float = CHECK_TIMEOUT_S) -> Checked[T]:
    """Run one check; whatever goes wrong in it becomes a line of its own."""
    findings = Findings()
    try:
        async with asyncio.timeout(timeout_s):
            return findings, await look(findings)
    except TimeoutError:
        findings.fail(what, f"no result within {timeout_s:g} s")
    except Exception as error:
        findings.fail(what, f"the check itself failed ({type(error).__name__}); please report this")
    return findings, None
