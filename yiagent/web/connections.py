"""The guard in front of the page: every connection is bounded in time, in bytes and in number, whoever opens it.

Measured under attack, this is what stays small and goes on answering: when all places are taken, the oldest connection
that has not yet sent its request is ended, not the newest turned away. One request for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from asyncio import sslproto
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from yiagent.web.head import END, BadRequest, Head, check_piece, parse_head

if TYPE_CHECKING:
    from ssl import SSLContext

MOST_CONNECTIONS: Final = 24
HEAD_TIMEOUT_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 10.0
# So long a reader may take nothing at all of an answer.
STALL_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 5.0
# What is still being sent when it was refused is read and dropped, or the sender would never see the refusal: its
# kernel discards an answer that is followed by a reset.
LINGER_S: Final = 1.0
MOST_LINGERING_BYTES: Final = 1 << 20
PIECE_BYTES: Final = 4096
WRITE_BUFFER_BYTES: Final = 16384
# One TLS record is not longer.
TLS_BUFFER_BYTES: Final = 16384
# The kernel's own buffer, of which it grants the double: with what it takes otherwise, a page that stopped reading
# would be told minutes of the past.
SEND_BUFFER_BYTES: Final = 16384
# Of those that came at once, so many are taken in each turn of the loop, and the rest wait in the kernel: whoever is
# taken has some turns to say what it wants, or to speak TLS, before so many others came that it is in the way.
TAKEN_AT_ONCE: Final = 1
MOST_WAITING: Final = 256
# A visitor whose network went away is found out by what it does not acknowledge.
USER_TIMEOUT_MS: Final = 30_000

Answer = Callable[[Head, bytes, str, "Outgoing"], Awaitable[None]]
Refuse = Callable[[BadRequest, "Outgoing"], Awaitable[None]]


class _Visitor:
    """One connection and what it is at."""

    def __init__(self, transport: asyncio.Transport) -> None:
        # The one below TLS, where there is TLS: ending it ends everything, in a handshake too.
        self.transport = transport
        self.task: asyncio.Task[None] | None = None
        self.is_expendable = True
        """Whether it has not sent a request that is worth an answer (yet), or has its answer."""
        self.stalled_since: float | None = None
        self.listens = False
        """Whether its answer has no end but its own going away."""

    def cut(self) -> None:
        """Close it, whatever is still unsent."""
        sock = self.transport.get_extra_info("socket")
        # asyncio stumbles over this where a connection is closed already, and has sent its last while it closed.
        if sock is not None and sock.fileno() >= 0:
            self.transport.abort()

    def end(self) -> None:
        self.cut()
        if self.task is not None:
            self.task.cancel()


class Outgoing:
    """What an answer is written to."""

    def __init__(self, visitor: _Visitor, writer: asyncio.StreamWriter) -> None:
        self._visitor = visitor
        self._writer = writer

    def begin(self, *, is_endless: bool) -> None:
        """An answer follows; an endless one is over when its reader goes away."""
        self._visitor.listens = is_endless

    async def send(self, data: bytes) -> None:
        """Send `data`, as fast as its reader takes it. Raises `OSError` when that is not at all."""
        for at in range(0, len(data), WRITE_BUFFER_BYTES):
            if not self._writer.is_closing():
                self._writer.write(data[at : at + WRITE_BUFFER_BYTES])
            await self._drain()

    async def finish(self) -> None:
        """Return when all has left this process, or will not."""
        # With a limit of 0, TLS waits even for nothing. A last byte is waited for where the connection is closed.
        self._writer.transport.set_write_buffer_limits(high=1, low=0)
        with contextlib.suppress(OSError):
            await self._drain()

    async def _drain(self) -> None:
        transport = self._writer.transport
        if not transport.get_write_buffer_size() and not transport.is_closing():
            # The kernel has it: nothing to wait for, so no timer either.
            return
        visitor = self._visitor
        visitor.stalled_since = time.monotonic()
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await self._writer.drain()
        except TimeoutError:
            visitor.cut()
            raise ConnectionResetError(errno.ECONNRESET, "the reader takes nothing") from None
        finally:
            visitor.stalled_since = None


class Connections:
    """Takes connections and hands each whole request to `answer`, each unusable one to `refuse`.

    `on_bug`: an error of ours, which cost one answer.
    """

    def __init__(
        self, answer: Answer, refuse: Refuse, tls: SSLContext | None, on_bug: Callable[[BaseException], None]
    ) -> None:
        self._answer = answer
        self._refuse = refuse
        self._tls = tls
        self._on_bug = on_bug
        if tls is not None:
            # asyncio sets 256 kB aside for each, were it only knocking: 6 MB for all places, and more as they change.
            sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES
        # In the order in which they came.
        self._visitors: dict[_Visitor, None] = {}

    async def serve(self, host: str, port: int, *, listening: Callable[[], None]) -> None:
        """Listen until cancelled; `listening` is called once it does. Raises `OSError` where that is not possible."""
        loop = asyncio.get_running_loop()
        # asyncio takes as many connections at once as it lets wait; many of them are to wait, and few to be taken.
        server = await loop.create_server(lambda: _Door(self._meet), host, port, backlog=TAKEN_AT_ONCE)
        if not server.sockets:
            # asyncio passes over addresses of a family that the kernel lacks, were they all there are.
            server.close()
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        for listener in server.sockets:
            with contextlib.suppress(OSError), listener.dup() as same:
                same.listen(MOST_WAITING)
                same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listening()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            visitors = list(self._visitors)
            for visitor in visitors:
                visitor.end()
            await asyncio.gather(*(v.task for v in visitors if v.task is not None), return_exceptions=True)

    def _meet(self, transport: asyncio.Transport) -> None:
        if not self._make_room():
            transport.abort()
            return
        visitor = _Visitor(transport)
        self._visitors[visitor] = None
        # A task of our own: before Python 3.12 the one of `asyncio.start_server` logs an error when it is cancelled.
        visitor.task = asyncio.create_task(self._look_after(visitor))
        visitor.task.add_done_callback(lambda task: self._left(visitor, task))

    def _left(self, visitor: _Visitor, task: asyncio.Task[None]) -> None:
        self._visitors.pop(visitor, None)
        # What is written by now is written; anything else would keep a descriptor for as long as it likes.
        visitor.cut()
        # The two refer to each other.
        visitor.task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_bug(error)

    def _make_room(self) -> bool:
        """End whoever is in the way: the oldest that still sends its request, else the one longest stuck reading."""
        if len(self._visitors) < MOST_CONNECTIONS:
            return True
        in_the_way = next((visitor for visitor in self._visitors if visitor.is_expendable), None)
        if in_the_way is None:
            stuck = [visitor for visitor in self._visitors if visitor.stalled_since is not None]
            in_the_way = min(stuck, key=lambda visitor: visitor.stalled_since or 0.0, default=None)
        if in_the_way is None:
            return False
        # It counts no more from here on, though its task still has to hear of it.
        del self._visitors[in_the_way]
        in_the_way.end()
        return True

    async def _look_after(self, visitor: _Visitor) -> None:
        began = asyncio.get_running_loop().time()
        try:
            reader, writer = await _open(visitor, self._tls)
            try:
                await self._attend(visitor, reader, writer, began)
                await _close(visitor, writer)
            finally:
                writer.close()
        except (OSError, TimeoutError, EOFError) as error:
            # It went away, or was too slow to be waited for: nobody is left to tell. In a failed handshake's traceback
            # asyncio refers to the error itself: a circle that would keep all of TLS until the collector comes.
            error.__traceback__ = error.__context__ = None

    async def _attend(
        self, visitor: _Visitor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, began: float
    ) -> None:
        outgoing = Outgoing(visitor, writer)
        try:
            async with asyncio.timeout_at(began + HEAD_TIMEOUT_S):
                head, rest = await _read_head(reader)
            async with asyncio.timeout_at(began + REQUEST_TIMEOUT_S):
                if head.continues and not rest:
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = rest[: head.content_length]
                body += await reader.readexactly(head.content_length - len(body))
        except BadRequest as error:
            visitor.is_expendable = False
            await self._refuse(error, outgoing)
            await outgoing.finish()
            visitor.is_expendable = True
            await _linger(reader, writer)
            return
        except TimeoutError:
            await self._refuse(BadRequest(408, "the request took too long to arrive"), outgoing)
            await outgoing.finish()
            return
        visitor.is_expendable = False
        address = writer.get_extra_info("peername")
        await self._answer(head, body, str(address[0]) if address else "", outgoing)
        await outgoing.finish()


class _Door(asyncio.Protocol):
    """Whom a connection is handed to before anybody knows what it will be."""

    def __init__(self, meet: Callable[[asyncio.Transport], None]) -> None:
        self._meet = meet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._meet(transport)


class _Stream(asyncio.StreamReaderProtocol):
    """What is read, and what is to be done when no more can come."""

    def __init__(self, reader: asyncio.StreamReader, visitor: _Visitor, *, over_tls: bool) -> None:
        super().__init__(reader, loop=asyncio.get_running_loop())
        self._visitor = visitor
        self._over_tls = over_tls

    def eof_received(self) -> bool:
        super().eof_received()
        # A page that is left hangs up. Without this its place would be its own until two more events were written.
        if self._visitor.listens:
            self._visitor.end()
        # TLS does not stay open one way, and asyncio logs a warning where that is asked of it.
        return not self._over_tls

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._visitor.listens:
            self._visitor.end()


async def _open(visitor: _Visitor, tls: SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """What can be read from and written to. Nothing may be awaited before: no protocol listens yet.

    Raises `OSError` and `EOFError` where TLS does not come about.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=PIECE_BYTES, loop=loop)
    protocol = _Stream(reader, visitor, over_tls=tls is not None)
    transport = visitor.transport
    _find_out_the_dead(transport)
    transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
    if tls is None:
        transport.set_protocol(protocol)
    else:
        upper = await loop.start_tls(transport, protocol, tls, server_side=True, ssl_handshake_timeout=HEAD_TIMEOUT_S)
        if upper is None:
            # So asyncio tells that the other end went away in the middle.
            raise EOFError
        upper.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        transport = upper
    protocol.connection_made(transport)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _close(visitor: _Visitor, writer: asyncio.StreamWriter) -> None:
    """Say good-bye. TLS waits for the other end's, and may have something left to send: not for ever."""
    visitor.is_expendable = True
    writer.close()
    async with asyncio.timeout(CLOSE_TIMEOUT_S):
        await writer.wait_closed()


async def _read_head(reader: asyncio.StreamReader) -> tuple[Head, bytes]:
    """The head, and what came with it of the body. Raises `BadRequest`, and `EOFError` where there is none."""
    data = b""
    while True:
        piece = await reader.read(PIECE_BYTES)
        if not piece:
            raise EOFError
        # An empty line before the request is what some old clients send behind the one before.
        data = (data + piece).removeprefix(b"\r\n")
        head, end, rest = data.partition(END)
        if end:
            return parse_head(head), rest
        check_piece(data)


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let the sender of something refused read why."""
    with contextlib.suppress(TimeoutError, OSError):
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(LINGER_S):
            left = MOST_LINGERING_BYTES
            while left > 0 and (piece := await reader.read(PIECE_BYTES)):
                left -= len(piece)


def _find_out_the_dead(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
