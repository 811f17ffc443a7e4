"""`execute(command)`: the one door through which every front end acts."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from typing import Final

from yiagent.certificates import system_authorities
from yiagent.commands import Change, Command, RefusalCode, Refused, Restart, TakeSnapshot
from yiagent.ffmpeg import Job
from yiagent.intent import Intent, IntentFile
from yiagent.model import Channel, Phase, Reason, ReasonCode, Snapshot
from yiagent.redact import Redactor, Secret
from yiagent.settings import Config
from yiagent.store import Journal, Store
from yiagent.supervisor import Supervisor
from yiagent.threads import in_daemon_thread
from yiagent.urls import parse_server

_NO_SERVER = Reason(
    ReasonCode.NOT_CONFIGURED, "No server is set. Send its URL to server/set, or URL and key to url/set."
)
_NO_KEY = Reason(ReasonCode.NOT_CONFIGURED, "No stream key is set. Send it to key/set; the server's site shows it.")

# A card that hangs keeps one command waiting for so long, and none from being carried out.
SAVE_TIMEOUT_S: Final = 5.0

_NO_PICTURES = "pictures are off: set snapshot.enabled: true in the configuration, and restart the agent"


def empty_snapshot(channel: Channel) -> Snapshot:
    """The snapshot of an agent that has only just begun."""
    return Snapshot(
        stream=False,
        phase=Phase.IDLE,
        since=time.time(),
        channel=channel,
        active_channel=None,
        server=None,
        key_set=False,
        attempt=0,
        retry_at=None,
        reason=None,
    )


class Agent:
    """Holds the owner's intent: changes it by command, keeps it on disk, and has the supervisor carry it out.

    `take_picture` puts one in the store, or raises `Refused`; None where pictures are off.
    """

    def __init__(
        self,
        *,
        config: Config,
        intent: Intent,
        is_saved: bool,
        file: IntentFile,
        supervisor: Supervisor,
        store: Store,
        journal: Journal,
        redactor: Redactor,
        take_picture: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._config = config
        self._intent = intent
        # An intent that stands in for an unreadable file is on no disk yet: an OFF that changes nothing must be saved.
        self._saved: Intent | None = intent if is_saved else None
        self._failed_to_save = False
        self._file = file
        self._supervisor = supervisor
        self._store = store
        self._journal = journal
        self._redactor = redactor
        self._take_picture = take_picture
        self._saving: asyncio.Task[None] | None = None
        self._learn_secrets()

    def begin(self) -> None:
        """Have the intent carried out as it stands: after a start, with no command."""
        file, intent = self._config.destination, self._intent
        if (intent.server and file.server not in (None, intent.server)) or (
            intent.key and file.key not in (None, intent.key)
        ):
            self._journal.info("Server and key set by command win over those under `destination` in the configuration")
        self._carry_out()

    async def execute(self, command: Command) -> None:
        """Carry out one command. When it returns, the wish is in the snapshot, and on disk unless the log says that it
        could not be saved. Raises `Refused`.

        `TakeSnapshot` returns when the picture is in the store; it takes seconds, and keeps no other command waiting.
        """
        if isinstance(command, TakeSnapshot):
            if self._take_picture is None:
                raise Refused(RefusalCode.NOT_AVAILABLE, _NO_PICTURES)
            await self._take_picture()
            return
        if isinstance(command, Restart):
            self._supervisor.press()
        elif command != Change():
            self._change(command)
            await self._saved_or_given_up()

    async def settle(self) -> None:
        """Return when what was wished is on disk, or cannot be brought there."""
        if self._saving is not None:
            await asyncio.wait({self._saving})

    def refresh(self) -> None:
        """Put together the snapshot anew; called whenever the supervisor's part of it may have changed."""
        supervisor = self._supervisor
        state = supervisor.state
        server = self._server
        self._store.put_snapshot(
            Snapshot(
                stream=self._stream,
                phase=state.phase,
                since=supervisor.since,
                channel=self._channel,
                active_channel=supervisor.active_channel,
                server=parse_server(server).masked if server is not None else None,
                key_set=self._key is not None,
                attempt=state.attempt,
                retry_at=supervisor.retry_at,
                reason=state.reason,
            )
        )

    # --- the intent, with the configuration's values where none was ever commanded ---

    @property
    def _stream(self) -> bool:
        return self._config.stream.autostart if self._intent.stream is None else self._intent.stream

    @property
    def _server(self) -> str | None:
        return self._intent.server or self._config.destination.server

    @property
    def _key(self) -> Secret | None:
        return self._intent.key or self._config.destination.key

    @property
    def _channel(self) -> Channel:
        wanted = self._intent.channel or self._config.stream.channel
        # A camera whose configuration lost the channel that was once asked for still has another.
        return wanted if self._has(wanted) else Channel.AUTO

    def _has(self, channel: Channel) -> bool:
        return channel is Channel.AUTO or self._config.source.url(channel) is not None

    def _change(self, change: Change) -> None:
        if change.channel is not None and not self._has(change.channel):
            message = f"this camera has no {change.channel} channel: source.{change.channel} is not configured"
            raise Refused(RefusalCode.NOT_AVAILABLE, message)
        old = self._intent
        self._intent = Intent(
            stream=old.stream if change.stream is None else change.stream,
            server=change.server or old.server,
            key=change.key or old.key,
            channel=change.channel or old.channel,
        )
        self._learn_secrets()
        self._carry_out()

    async def _saved_or_given_up(self) -> None:
        """Wait for the disk, but for one that hangs no longer than a moment: more commands may come."""
        hangs = self._failed_to_save
        if self._saving is None or self._saving.done():
            hangs = False
            self._saving = asyncio.create_task(self._save_all())
        done, _ = await asyncio.wait({self._saving}, timeout=0 if hangs else SAVE_TIMEOUT_S)
        if done:
            self._saving.result()
        elif not self._failed_to_save:
            self._failed_to_save = True
            self._journal.error(
                f"The wish could not be saved in {self._file.path.parent} so far (it does not answer): "
                "it is carried out now, but will not survive a restart of the agent"
            )

    async def _save_all(self) -> None:
        # What is wished while one wish is on its way to the disk follows it there.
        while (intent := self._intent) != self._saved:
            if not await self._save(intent) and intent == self._intent:
                return

    async def _save(self, intent: Intent) -> bool:
        try:
            # A card may take its time to sync; the stream and the other front end do not wait for it.
            await self._save_beside(intent)
        except OSError as error:
            self._saved = None
            self._failed_to_save = True
            self._journal.error(
                f"The wish could not be saved in {self._file.path.parent} ({error.strerror}): "
                "it is carried out now, but will not survive a restart of the agent"
            )
        else:
            if self._failed_to_save:
                self._journal.info("The wish is saved again")
            self._failed_to_save = False
            self._saved = intent
            return True
        return False

    async def _save_beside(self, intent: Intent) -> None:
        try:
            await in_daemon_thread(lambda: self._file.save(intent))
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            # No room for a thread: then everyone waits.
            self._file.save(intent)

    def _carry_out(self) -> None:
        """Tell the supervisor what is to run. Also where nothing changed: in `failed`, any command is worth a try."""
        if not self._stream:
            self._supervisor.want(None)
        elif self._server is None:
            self._supervisor.want(None, _NO_SERVER)
        elif self._key is None:
            self._supervisor.want(None, _NO_KEY)
        else:
            better, lesser = self._channels
            self._supervisor.want(
                self._job(better, self._server, self._key),
                lesser=self._job(lesser, self._server, self._key) if lesser is not None else None,
            )
        self.refresh()

    @property
    def _channels(self) -> tuple[Channel, Channel | None]:
        """What is to be streamed, and what instead where that is not carried."""
        if self._channel is not Channel.AUTO:
            return self._channel, None
        if not self._has(Channel.HD):
            return Channel.SD, None
        return Channel.HD, Channel.SD if self._has(Channel.SD) else None

    def _job(self, channel: Channel, server: str, key: Secret) -> Job:
        config = self._config
        source = config.source.url(channel)
        assert source is not None
        return Job(
            channel=channel,
            source=source,
            username=config.source.username,
            password=config.source.password,
            transport=config.source.transport,
            audio=config.stream.audio,
            server=server,
            key=key,
            stall_timeout_s=config.stream.stall_timeout_s,
            ca_file=system_authorities(),
        )

    def _learn_secrets(self) -> None:
        self._redactor.learn(self._key)
        if self._server is not None:
            url = parse_server(self._server)
            for secret in url.secrets:
                self._redactor.learn(secret, user=url.username)
