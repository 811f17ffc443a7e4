"""Blocking work beside the asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
# A thread that has done its work waits for more for so long: somebody who knocks twice a second would else start as
# many, which costs the kernel more than the knocks.
IDLE_S: Final = 5.0

_lock = threading.Lock()
_waiting = 0
_tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()


async def in_daemon_thread(function: Callable[[], T]) -> T:
    """Run blocking `function` beside the loop. Unlike the loop's executor, it never keeps the process from ending.

    Raises what `function` does, and `OSError` (EAGAIN) where this machine has no room for another thread.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result: T | None = None
        failure: Exception | None = None
        try:
            result = function()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    _hand_over(work)
    return await future


def _hand_over(work: Callable[[], None]) -> None:
    """To a thread that waits, else to a new one."""
    global _waiting
    with _lock:
        if _waiting:
            _waiting -= 1
            _tasks.put(work)
            return
    try:
        threading.Thread(target=_serve, args=(work,), daemon=True).start()
    except RuntimeError:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None


def _serve(work: Callable[[], None]) -> None:
    global _waiting
    while True:
        work()
        with _lock:
            _waiting += 1
        try:
            work = _tasks.get(timeout=IDLE_S)
        except queue.Empty:
            with _lock:
                if _tasks.empty():
                    _waiting -= 1
                    return
            # Handed over in the very moment, by someone who counted on this one.
            work = _tasks.get()
