"""Pull progress into the live row: at most twice a second, with rate, ETA and the time since it stalled."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

from isobench_tui.engine.base import PullProgress
from isobench_tui.runner.meter import Meter
from isobench_tui.runner.writer import Writer
from isobench_tui.store import events, live

EVERY_S = 0.5


class PullReporter:
    """Turns the engine's callbacks into writes; the callbacks themselves never wait."""

    def __init__(self, writer: Writer, attempt: str, ref: str) -> None:
        self._writer = writer
        self._attempt = attempt
        self._ref = ref
        self._latest: PullProgress | None = None
        self._meter = Meter()
        self._task: asyncio.Task[None] | None = None

    def update(self, progress: PullProgress) -> None:
        self._meter.saw(progress.done)
        self._latest = progress

    async def __aenter__(self) -> PullReporter:
        await self._writer.run(events.add, "pull", f"pulling {self._ref}", attempt=self._attempt)
        self._task = asyncio.create_task(self._report())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if kind is None:
            size = f", {self._latest.done / 1024**2:.0f} MiB fetched" if self._latest else ""
            await self._writer.run(events.add, "pull", f"pulled {self._ref}{size}", attempt=self._attempt)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._latest is not None:
                await self._writer.run(live.put, f"pull/{self._attempt}", self._row(self._latest), self._attempt)

    def _row(self, progress: PullProgress) -> live.LivePull:
        pace = self._meter.pace(progress.done, progress.total)
        return live.LivePull(
            layers=tuple(live.LiveLayer(x.id, x.state, x.done, x.total) for x in progress.layers),
            done=progress.done,
            total=progress.total,
            rate=pace.rate,
            eta=pace.eta,
            stalled_since=pace.stalled_since,
        )
