"""What each address of the page's API answers; the table is at the end of the MQTT contract, and in the README."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from microdot import Microdot, Request, Response

from yiagent.brokerchoice import parse_choice
from yiagent.commands import Command, RefusalCode, Refused, Restart, TakeSnapshot, parse_object, parse_request
from yiagent.model import Info
from yiagent.mqttfront import MqttFront
from yiagent.payloads import answer_json, log_json, refused_json, state_json, telemetry_json, timestamp
from yiagent.store import Journal, Store
from yiagent.web.answers import answer, refusal, takes_gzip
from yiagent.web.history import History
from yiagent.web.live import Live
from yiagent.web.metrics import CONTENT_TYPE, health_json, is_healthy, metrics_text
from yiagent.web.page import Page, load_page

# Of the guard's places, what listeners may take at once: the rest is for who comes with a request.
MOST_LISTENERS: Final = 12
HEALTH_PATH: Final = "/healthz"

Execute = Callable[[Command], Awaitable[None]]
Handler = Callable[[Request], Awaitable[Response]]


class Routes:
    """The handlers, and the microdot app that finds the right one."""

    def __init__(
        self,
        *,
        store: Store,
        journal: Journal,
        history: History,
        info: Callable[[], Info],
        execute: Execute,
        mqtt: MqttFront,
        channels: tuple[str, ...],
        takes_pictures: bool,
    ) -> None:
        self._store = store
        self._journal = journal
        self._history = history
        self._info = info
        self._execute = execute
        self._mqtt = mqtt
        self._channels = channels
        self._takes_pictures = takes_pictures
        self._live = Live(store, journal)
        self._listeners = 0
        self._page: Page | None = None
        self.app = Microdot()
        # Its own answer to OPTIONS would come without the strict headers; nobody needs one.
        self.app.options_handler = None  # type: ignore[assignment]  # microdot asks whether there is one
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/", self.page),
            ("GET", HEALTH_PATH, self.health),
            ("GET", "/metrics", self.metrics),
            ("GET", "/snapshot.jpg", self.picture),
            ("GET", "/api/state", self.state),
            ("GET", "/api/telemetry", self.telemetry),
            ("GET", "/api/log", self.log),
            ("GET", "/api/events", self.events),
            ("GET", "/api/history", self.history),
            ("GET", "/api/about", self.about),
            ("GET", "/api/broker", self.broker),
            ("POST", "/api/request", self.request),
            ("POST", "/api/restart", partial(self.press, Restart())),
            ("POST", "/api/snapshot", partial(self.press, TakeSnapshot())),
            ("POST", "/api/broker", self.choose_broker),
            ("POST", "/api/broker/try", self.try_broker),
            ("POST", "/api/broker/reset", self.reset_broker),
        )
        for method, path, handler in table:
            # microdot makes a pattern of it.
            self.app.route(path.replace(".", r"\."), methods=[method])(self._guarded(handler))
        self.app.errorhandler(404)(_not_found)
        self._methods: dict[str, str] = {}
        for method, path, _ in table:
            taken = "GET, HEAD" if method == "GET" else method
            self._methods[path] = f"{self._methods[path]}, {taken}" if path in self._methods else taken
        self.app.errorhandler(405)(self._not_allowed)

    def _guarded(self, handler: Handler) -> Handler:
        """A bug in one answer costs this answer alone, and no traceback shows what it was about."""

        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except Refused as refused:
                return answer(refused_json(self._store.snapshot, refused), status=400)
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                self._journal.error(f"The page: an error in yiagent itself at {request.path} ({what})")
                return refusal(500, "internal_error", "an error in yiagent itself; its log tells more")

        return guarded

    # --- what is so ---

    async def page(self, request: Request) -> Response:
        """The document, with its script and style."""
        if self._page is None:
            self._page = load_page(takes_pictures=self._takes_pictures)
        page = self._page
        headers = {
            "Content-Security-Policy": page.policy,
            "Cache-Control": "private, no-cache",
            "ETag": page.tag,
            "Vary": "Accept-Encoding",
        }
        kind = "text/html; charset=utf-8"
        if page.tag in (request.headers.get("If-None-Match") or ""):
            return answer(b"", status=304, kind=kind, headers=headers)
        if takes_gzip(request.headers.get("Accept-Encoding") or ""):
            return answer(page.compressed, kind=kind, headers={**headers, "Content-Encoding": "gzip"})
        return answer(page.plain, kind=kind, headers=headers)

    async def health(self, request: Request) -> Response:
        """Whether what is wanted is what happens: for watchdogs, without a password."""
        snapshot = self._store.snapshot
        return answer(health_json(snapshot), status=200 if is_healthy(snapshot) else 503)

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        store = self._store
        text = metrics_text(store.snapshot, store.telemetry, store.broker, self._info(), self._journal.last_seq)
        return answer(text, kind=CONTENT_TYPE, accepts=_accepts(request))

    async def state(self, request: Request) -> Response:
        """The snapshot."""
        return answer(state_json(self._store.snapshot))

    async def telemetry(self, request: Request) -> Response:
        """The last sample; null before the first."""
        sample = self._store.telemetry
        return answer(telemetry_json(sample) if sample is not None else "null")

    async def log(self, request: Request) -> Response:
        """The journal's lines after line `since`, oldest first; all that it holds without."""
        since = request.args.get("since", "0")
        if not (since.isascii() and since.isdigit() and len(since) < 16):
            return refusal(400, "invalid_value", "since: must be the number of a line")
        lines = self._journal.since(int(since))
        return answer(f"[{','.join(map(log_json, lines))}]", accepts=_accepts(request))

    async def history(self, request: Request) -> Response:
        """The bandwidth of the last ten minutes."""
        return answer(self._history.render(time.monotonic()), accepts=_accepts(request))

    async def about(self, request: Request) -> Response:
        """What does not change while an agent runs; `boot` tells one run from the next."""
        info = self._info()
        document = {
            "boot": self._live.boot,
            "now": timestamp(time.time()),
            "device": info.device,
            "name": info.name,
            "agent": info.agent,
            "ffmpeg": info.ffmpeg,
            "channels": self._channels,
            "pictures": self._takes_pictures,
        }
        return answer(json.dumps(document, ensure_ascii=False))

    async def events(self, request: Request) -> Response:
        """Server-sent events."""
        if self._listeners >= MOST_LISTENERS:
            return refusal(503, "not_available", "too many pages are open: close one", {"Retry-After": "10"})
        return answer(
            self._listening(request.headers.get("Last-Event-ID")),
            kind="text/event-stream; charset=utf-8",
            # For a proxy in front (nginx), which would keep events back to fill its buffer.
            headers={"X-Accel-Buffering": "no"},
        )

    async def _listening(self, last_event_id: str | None) -> Any:
        self._listeners += 1
        try:
            async for piece in self._live.listen(last_event_id):
                yield piece
        finally:
            self._listeners -= 1

    async def picture(self, request: Request) -> Response:
        """The last picture."""
        if not self._takes_pictures:
            return refusal(404, "not_available", "pictures are off: set snapshot.enabled to true and restart the agent")
        picture = self._store.picture
        if picture is None:
            return refusal(404, "not_available", "no picture has been taken yet")
        return answer(picture.jpeg, kind="image/jpeg")

    # --- what is wanted ---

    async def request(self, request: Request) -> Response:
        """The contract's `request`, answered by its `response`."""
        transaction: str | None = None
        refused: Refused | None = None
        try:
            parsed = parse_request(_body(request))
            transaction = parsed.transaction
            await self._execute(parsed.command)
        except Refused as refusal:
            refused = refusal
            transaction = transaction or refusal.transaction
            self._journal.warning(f"Refused a request from the page: {refusal.message}")
        body = answer_json(self._store.snapshot, transaction=transaction, refused=refused)
        return answer(body, status=200 if refused is None else 400)

    async def press(self, command: Command, request: Request) -> Response:
        """A command without a value."""
        _expect_nothing(request)
        await self._execute(command)
        return answer(answer_json(self._store.snapshot, transaction=None, refused=None))

    # --- the broker ---

    async def broker(self, request: Request) -> Response:
        """Where the broker is, whose word that is, and how it stands with it. Never its password."""
        return answer(self._broker_json())

    async def try_broker(self, request: Request) -> Response:
        """Connect to a broker and hang up: its own answer."""
        trial = await self._mqtt.attempt(parse_choice(_body(request), self._mqtt.current))
        return answer(json.dumps({"accepted": trial.accepted, "message": trial.message}, ensure_ascii=False))

    async def choose_broker(self, request: Request) -> Response:
        """Keep a broker, and connect to it now."""
        await self._mqtt.choose(parse_choice(_body(request), self._mqtt.current))
        return answer(self._broker_json())

    async def reset_broker(self, request: Request) -> Response:
        """Back to the configuration's."""
        _expect_nothing(request)
        await self._mqtt.choose(None)
        return answer(self._broker_json())

    async def _not_allowed(self, request: Request) -> Response:
        allowed = self._methods[request.path]
        return refusal(405, "not_allowed", f"this address takes {allowed}", {"Allow": allowed})

    def _broker_json(self) -> str:
        mqtt, status = self._mqtt, self._store.broker
        current = mqtt.current
        document = {
            "host": current.host,
            "port": current.port,
            "username": current.username,
            "password_set": current.password is not None,
            "tls": current.tls is not None,
            "chosen_here": mqtt.is_chosen,
            "configured_host": mqtt.configured.host,
            "connected": status.connected,
            "message": status.message,
        }
        return json.dumps(document, ensure_ascii=False)


def _expect_nothing(request: Request) -> None:
    if _body(request).strip() and parse_object(_body(request)):
        raise Refused(RefusalCode.UNKNOWN_FIELD, "this takes no fields: send {}")


def _body(request: Request) -> bytes:
    return request.body or b""


def _accepts(request: Request) -> str:
    return request.headers.get("Accept-Encoding") or ""


async def _not_found(request: Request) -> Response:
    return refusal(404, "not_found", "there is nothing at this address")
