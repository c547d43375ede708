"""Calls that may hang, in threads of their own.

The threads are daemons and no executor's: an executor joins its threads when the interpreter ends, and one call that
hangs in the kernel or in a library would keep the process alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(name: str, work: Callable[[], T], limit: float | None) -> T:
    """Run `work` in a thread and return what it returns, or raise what it raises; TimeoutError after `limit` seconds
    (None: never).

    A cancelled or late caller leaves at once; the thread ends when its call does.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = work()
        except BaseException as caught:  # whatever it is, the waiting task must hear of it
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    async with asyncio.timeout(limit):
        return await future
