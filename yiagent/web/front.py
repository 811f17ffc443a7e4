"""The page as a front end: listens, lets in who may come in, and never gives up."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from microdot import Request, Response
from microdot.microdot import NoCaseDict

from yiagent.interfaces import ANY_ADDRESS, is_own_name, own_address
from yiagent.settings import PAGE_USER, WebConfig
from yiagent.store import Journal
from yiagent.threads import in_daemon_thread
from yiagent.web.answers import refusal
from yiagent.web.connections import Connections, Outgoing
from yiagent.web.head import BadRequest, Head
from yiagent.web.login import REALM, Login, Verdict
from yiagent.web.origin import foreign, own_names, short_name
from yiagent.web.password import PagePassword
from yiagent.web.routes import HEALTH_PATH, Routes

if TYPE_CHECKING:
    from ssl import SSLContext

LISTEN_AGAIN_S: Final = 15.0
RESOLVE_TIMEOUT_S: Final = 3.0
MOST_NAMES: Final = 16
_RESOLVER: Final = Path("/etc/resolv.conf")
_READING: Final = frozenset({"GET", "HEAD"})


class _CertificateUnusable(OSError):
    """The page's certificate or key; the message is for its owner."""


class WebFront:
    """Serves `routes` to who has the password."""

    def __init__(
        self, config: WebConfig, *, routes: Routes, password: PagePassword, hostname: str, journal: Journal
    ) -> None:
        self._config = config
        self._routes = routes
        self._password = password
        self._hostname = hostname
        self._journal = journal
        self._login = Login(password.secret)
        self._known: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Serve until cancelled. Where it cannot listen, it says so once and goes on trying."""
        told: str | None = None
        while True:
            try:
                connections = Connections(self._answer, self._refuse, self._tls(), self._tell_bug)
                await connections.serve(self._config.host, self._config.port, listening=self._listening)
            except (OSError, ValueError) as error:
                reason = _in_words(error)
                if reason != told:
                    told = reason
                    where = f"{self._config.host}:{self._config.port}"
                    self._journal.error(
                        f"The page cannot be served at {where}: {reason}. Streaming goes on; trying again for ever"
                    )
            await asyncio.sleep(LISTEN_AGAIN_S)

    def _listening(self) -> None:
        scheme = "https" if self._config.tls is not None else "http"
        # As a browser finds it, once there is a network; "0.0.0.0" is no address to type.
        host = self._config.host
        if host in ANY_ADDRESS and not (own := own_address()).startswith("127."):
            host = own
        host = f"[{host}]" if ":" in host else host
        where = f", its password is in {self._password.file}" if self._password.file is not None else ""
        self._journal.info(f"The page is at {scheme}://{host}:{self._config.port}/ (user {PAGE_USER}{where})")
        if self._password.fresh:
            self._password.fresh = False
            _show(self._password)

    def _tls(self) -> SSLContext | None:
        tls = self._config.tls
        if tls is None or tls.cert_file is None:
            return None
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        except OSError as error:
            # Its own number would be taken for one of the address: permission is refused to both.
            why = f" ({error.strerror})" if not isinstance(error, ssl.SSLError) and error.strerror else ""
            raise _CertificateUnusable(f"its certificate or key cannot be used{why} (web.tls)") from None
        return context

    def _tell_bug(self, error: BaseException) -> None:
        self._journal.error(f"The page: an error in yiagent itself ({type(error).__name__}: {error})")

    # --- one request ---

    async def _answer(self, head: Head, body: bytes, address: str, to: Outgoing) -> None:
        response = await self._turned_away(head, address)
        if response is None:
            # The length is that of the body; microdot would compare it with a limit of its own.
            headers = NoCaseDict({name: value for name, value in head.headers.items() if name != "content-length"})
            try:
                request = Request(self._routes.app, (address, 0), head.method, head.target, "1.1", headers, body=body)
            except ValueError:
                # Of a query that is not encoded as one.
                response = refusal(400, "bad_request", "the address cannot be decoded")
            else:
                response = await self._routes.app.dispatch_request(request)
        response.is_head = head.method == "HEAD"
        await _write(response, to)

    async def _refuse(self, error: BadRequest, to: Outgoing) -> None:
        await _write(refusal(error.status, "bad_request", error.message), to)

    async def _turned_away(self, head: Head, address: str) -> Response | None:
        """What is answered to who may not come in; None for who may."""
        reads = head.method in _READING
        if reads and head.target.partition("?")[0] == HEALTH_PATH:
            return None
        now = time.monotonic()
        verdict = self._login.judge(address, head.headers.get("authorization"), now)
        if verdict is Verdict.LOCKED:
            return self._locked(address, now)
        if verdict is not Verdict.IN:
            if verdict is Verdict.WRONG:
                self._journal.warning(f"A wrong password for the page, from {address}")
            message = f"the user is {PAGE_USER}; the password is web.password, or was shown at the agent's first start"
            asks = {"WWW-Authenticate": f'Basic realm="{REALM}", charset="UTF-8"'}
            return refusal(401, "unauthorized", message, asks)
        if reads:
            return None
        problem = foreign(head.headers, own_names(self._hostname, _searched()) | await self._known_as(head))
        if problem is not None:
            self._journal.warning(f"Refused a request to the page from {address}: {problem}")
            return refusal(403, "forbidden", problem)
        if head.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return refusal(415, "not_json", "send JSON, with Content-Type: application/json")
        return None

    async def _known_as(self, head: Head) -> frozenset[str]:
        """The names that this machine was found to have in the house besides its own, as a router gives them."""
        name = short_name(head.headers.get("host", ""))
        if name is not None and name not in self._known and len(self._known) < MOST_NAMES:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                    if await in_daemon_thread(lambda: is_own_name(name)):
                        self._known |= {name}
        return self._known

    def _locked(self, address: str, now: float) -> Response:
        wait_s = math.ceil(self._login.locked_s(address, now))
        self._journal.warning(f"Too many wrong passwords for the page from {address}: it is not answered for a minute")
        message = f"too many wrong passwords came from this address: try again in {wait_s} s"
        return refusal(429, "too_many_tries", message, {"Retry-After": str(wait_s)})


async def _write(response: Response, to: Outgoing) -> None:
    # Not by microdot's own `write`: it makes a class for each answer, and of its head a packet.
    response.complete()
    lines = [f"HTTP/1.0 {response.status_code} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    head = "\r\n".join([*lines, "\r\n"]).encode()
    body: Any = response.body
    to.begin(is_endless="Content-Length" not in response.headers)
    if isinstance(body, bytes):
        await to.send(head if response.is_head else head + body)
        return
    try:
        await to.send(head)
        if not response.is_head:
            async for piece in body:
                await to.send(piece)
    finally:
        # An unfinished one would wait for the collector, and with it the listener's place.
        await body.aclose()


def _show(password: PagePassword) -> None:
    """On the console alone, and once: this line goes to no log, no topic and no page."""
    lines = [
        "",
        f"  The page's user is {PAGE_USER}, and its password was made just now: {password.secret.reveal()}",
        f"  It is kept in {password.file}; set web.password to choose your own." if password.file is not None else "",
        "",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)  # noqa: T201 - the one who starts the agent is to read it


def _searched() -> tuple[str, ...]:
    """The domains in which this machine looks for names, and so may be called itself."""
    try:
        lines = _RESOLVER.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(word for line in lines if line.split()[:1] in (["search"], ["domain"]) for word in line.split()[1:])


def _in_words(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the name does not resolve to an address (web.host)"
    if isinstance(error, OSError) and error.errno == errno.EAFNOSUPPORT:
        return "this machine has no IPv6: set web.host to 0.0.0.0"
    if isinstance(error, OSError) and error.errno:
        # asyncio puts the whole address into `strerror`.
        return f"{os.strerror(error.errno)} (web.host, web.port)"
    return str(error)
