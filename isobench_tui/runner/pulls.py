"""Pull progress into the live row: at most twice a second, with rate, ETA and the time since it stalled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType

from isobench_tui.engine.base import Engine, ImageInfo, PullProgress
from isobench_tui.runner.meter import Meter
from isobench_tui.runner.writer import Writer
from isobench_tui.store import events, live

EVERY_S = 0.5

Progress = Callable[[PullProgress], None]


class SharedPulls:
    """Pulls that are going on, by pinned reference: lanes that need the same image wait for one pull.

    A pull is cancelled when the last lane that waits for it is.
    """

    def __init__(self) -> None:
        self._going: dict[str, _Pull] = {}

    async def fetch(self, engine: Engine, image: ImageInfo, on_progress: Progress) -> tuple[ImageInfo, bool]:
        """The image once it is present, and whether this call began the pull. Raises EngineError."""
        pull = self._going.get(image.pinned)
        first = pull is None
        if pull is None:
            pull = self._going[image.pinned] = _Pull()
            pull.task = asyncio.create_task(engine.fetch(image, pull.tell))
            pull.task.add_done_callback(lambda _: self._forget(image.pinned, pull))
        assert pull.task is not None
        pull.listeners.append(on_progress)
        try:
            return replace(await asyncio.shield(pull.task), ref=image.ref), first
        finally:
            pull.listeners.remove(on_progress)
            if not pull.listeners:
                self._forget(image.pinned, pull)  # who comes now needs a pull that is not on its way out
                pull.task.cancel()

    def _forget(self, key: str, pull: _Pull) -> None:
        if self._going.get(key) is pull:
            del self._going[key]


@dataclass(slots=True)
class _Pull:
    task: asyncio.Task[ImageInfo] | None = None
    listeners: list[Progress] = field(default_factory=list)

    def tell(self, progress: PullProgress) -> None:
        for listener in self.listeners:
            listener(progress)


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
        self._meter.saw(progress.done + progress.moved)
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
