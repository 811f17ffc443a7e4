"""The guard in front of the page: every connection is bounded in time, in bytes and in number, whoever opens it.

Measured under attack, this is what stays small and goes on answering: when all places are taken, the oldest connection
that has not yet sent its request is ended, not the newest turned away. One request for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Final

from yiagent.web.head import END, BadRequest, Head, check_piece, parse_head

if TYPE_CHECKING:
    from ssl import SSLContext

MOST_CONNECTIONS: Final = 24
HEAD_TIMEOUT_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 10.0
# So long a reader may take nothing at all of an answer.
STALL_TIMEOUT_S: Final = 10.0
# What is still being sent when it was refused is read and dropped, or the sender would never see the refusal: its
# kernel discards an answer that is followed by a reset.
LINGER_S: Final = 1.0
MOST_LINGERING_BYTES: Final = 1 << 20
PIECE_BYTES: Final = 4096
WRITE_BUFFER_BYTES: Final = 16384
# The kernel's own buffer, of which it grants the double: with what it takes otherwise, a page that stopped reading
# would be told minutes of the past.
SEND_BUFFER_BYTES: Final = 16384
BACKLOG: Final = 64
COLLECT_S: Final = 1.0
GOODBYE_S: Final = 2.0
# A visitor whose network went away is found out by what it does not acknowledge.
USER_TIMEOUT_MS: Final = 30_000

Answer = Callable[[Head, bytes, str, "Outgoing"], Awaitable[None]]
Refuse = Callable[[BadRequest, "Outgoing"], Awaitable[None]]


class _Visitor:
    """One connection and what it is at."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.task: asyncio.Task[None] | None = None
        self.is_expendable = True
        """Whether it has not sent a request that is worth an answer (yet)."""
        self.stalled_since: float | None = None

    def end(self) -> None:
        _abort(self.writer)
        if self.task is not None:
            self.task.cancel()


class Outgoing:
    """What an answer is written to; the names are those that microdot calls."""

    def __init__(self, visitor: _Visitor, reader: asyncio.StreamReader) -> None:
        self._visitor = visitor
        self._reader = reader
        self._head: bytearray | None = bytearray()

    async def awrite(self, data: bytes) -> None:
        """Send `data`, as fast as its reader takes it. Raises `OSError` when that is not at all."""
        if self._head is not None:
            # microdot writes line by line; each would be a packet of its own.
            self._head += data
            if data != b"\r\n":
                return
            data, self._head = bytes(self._head), None
            if not self._visitor.writer.is_closing():
                self._visitor.writer.write(data)
            return
        for at in range(0, len(data), WRITE_BUFFER_BYTES):
            self._visitor.writer.write(data[at : at + WRITE_BUFFER_BYTES])
            await self._drain()

    async def while_read(self, writing: Coroutine[None, None, None]) -> None:
        """Carry out `writing`, which has no end of its own, until its reader hangs up."""
        write = asyncio.ensure_future(writing)
        hang_up = asyncio.ensure_future(self._hung_up())
        try:
            await asyncio.wait({write, hang_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            write.cancel()
            hang_up.cancel()
            await asyncio.gather(write, hang_up, return_exceptions=True)
        if not write.cancelled():
            write.result()

    async def _hung_up(self) -> None:
        with contextlib.suppress(OSError):
            while await self._reader.read(PIECE_BYTES):
                pass

    async def finish(self) -> None:
        """Return when all has left this process, or will not."""
        self._visitor.writer.transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(OSError):
            await self._drain()

    async def _drain(self) -> None:
        visitor = self._visitor
        visitor.stalled_since = time.monotonic()
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await visitor.writer.drain()
        except TimeoutError:
            _abort(visitor.writer)
            raise ConnectionResetError(errno.ECONNRESET, "the reader takes nothing") from None
        finally:
            visitor.stalled_since = None


class Connections:
    """Takes connections and hands each whole request to `answer`, each unusable one to `refuse`.

    `on_bug`: an error of ours, which cost one answer.
    """

    def __init__(
        self, answer: Answer, refuse: Refuse, tls: SSLContext | None, on_bug: Callable[[Exception], None]
    ) -> None:
        self._answer = answer
        self._refuse = refuse
        self._tls = tls
        self._on_bug = on_bug
        # In the order in which they came.
        self._visitors: dict[_Visitor, None] = {}
        self._collected_at = 0.0

    async def serve(self, host: str, port: int, *, listening: Callable[[], None]) -> None:
        """Listen until cancelled; `listening` is called once it does. Raises `OSError` where that is not possible."""
        server = await asyncio.start_server(self._met, host, port, limit=PIECE_BYTES, backlog=BACKLOG)
        for listener in server.sockets:
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listening()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            tasks = [visitor.task for visitor in self._visitors if visitor.task is not None]
            for visitor in list(self._visitors):
                visitor.end()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: asyncio's own task for one complains in the log when it is cancelled (Python 3.11).
        if not self._make_room():
            _abort(writer)
            return
        visitor = _Visitor(writer)
        self._visitors[visitor] = None
        visitor.task = asyncio.create_task(self._serve(visitor, reader))

    async def _serve(self, visitor: _Visitor, reader: asyncio.StreamReader) -> None:
        writer = visitor.writer
        try:
            await self._attend(visitor, reader)
        except (OSError, TimeoutError, EOFError):
            # It went away, or was too slow to be waited for: nobody is left to tell.
            pass
        except Exception as error:
            self._on_bug(error)
        finally:
            self._visitors.pop(visitor, None)
            # What is written by now is written; anything else would keep the place for as long as it likes.
            _abort(writer) if writer.transport.get_write_buffer_size() else self._close(writer)

    def _close(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        if self._tls is not None:
            # TLS says good-bye, and would wait half a minute for the answer.
            asyncio.get_running_loop().call_later(GOODBYE_S, _abort, writer)

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
        if self._tls is not None and time.monotonic() - self._collected_at > COLLECT_S:
            # asyncio's TLS holds itself in circles, which wait for the collector: 70 kB for each handshake.
            self._collected_at = time.monotonic()
            gc.collect()
        return True

    async def _attend(self, visitor: _Visitor, reader: asyncio.StreamReader) -> None:
        began = asyncio.get_running_loop().time()
        writer = visitor.writer
        if self._tls is not None:
            async with asyncio.timeout_at(began + HEAD_TIMEOUT_S):
                await _begin_tls(writer, self._tls)
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        _find_out_the_dead(writer)
        outgoing = Outgoing(visitor, reader)
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


def _abort(writer: asyncio.StreamWriter) -> None:
    # A TLS transport that is closed already has nothing to abort, and fails for it (Python before 3.11.4).
    with contextlib.suppress(AttributeError):
        writer.transport.abort()


async def _begin_tls(writer: asyncio.StreamWriter, tls: SSLContext) -> None:
    """Have the connection encrypted, once its visitor says something.

    Before, TLS would take memory for nothing.
    """
    # First of all, and nothing may be awaited before: what comes now would be taken for plain text.
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    sock = writer.get_extra_info("socket")
    loop = asyncio.get_running_loop()
    spoken = loop.create_future()
    # A descriptor of its own: the transport's is the transport's.
    descriptor = os.dup(sock.fileno())

    def heard() -> None:
        # It may be called once more in the turn in which the visitor is given up.
        if not spoken.done():
            loop.remove_reader(descriptor)
            spoken.set_result(None)

    loop.add_reader(descriptor, heard)
    try:
        await spoken
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    await writer.start_tls(tls, ssl_handshake_timeout=HEAD_TIMEOUT_S)


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


def _find_out_the_dead(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
