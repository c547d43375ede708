"""What works beside the scheduler: started with it, ended with it, and never the end of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from isobench_tui.runner.writer import StoreFull, Writer
from isobench_tui.store import events

AGAIN_S = 60.0
"""How long something that failed rests before it is started again."""


@contextlib.asynccontextmanager
async def beside(writer: Writer, works: Mapping[str, Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    """Run each of `works` (name -> what it does until it is cancelled) while the body runs."""
    tasks = [asyncio.create_task(_keep(writer, name, work)) for name, work in works.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(writer: Writer, name: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except StoreFull:  # the runner is leaving
            return
        except Exception as error:
            text = f"{name} failed ({type(error).__name__}: {error}) and is started again in {AGAIN_S:.0f} s"
            await writer.run(events.add, "fault", text)
        await asyncio.sleep(AGAIN_S)
