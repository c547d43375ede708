"""Layers over HTTP into the cache of blobs: several connections, each with a span of one blob."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from dataclasses import dataclass

from isobench_tui.engine.base import ImageLayer, PullFailed
from isobench_tui.engine.images.again import tried
from isobench_tui.engine.images.blobs import Blobs, Part
from isobench_tui.engine.images.registry import Registries, Remote

CONNECTIONS = 6
SPAN = 8 * (4 << 20)
"""Bytes that one request asks for."""
_CHUNK = 1 << 20
_ROUNDS = 3
"""How often a blob may come with another sha256 than it should."""


Span = tuple[int, int]
"""First and last byte of what one request asks for; a last one before the first: nothing, but look at the blob."""


@dataclass(slots=True)
class _Coming:
    """A blob of which spans are on their way, or wait for a connection."""

    part: Part
    left: int = 0
    """Number of those spans."""
    wrong: int = 0
    """How often all of it came and was something else."""

    def begin(self) -> list[Span]:
        """What to fetch of it now."""
        spans = self.part.missing(SPAN) or [(0, -1)]
        self.left = len(spans)
        return spans


class Fetch:
    """One fetch of an image's layers, the top one first: that is the order in which they are merged."""

    def __init__(self, registries: Registries, blobs: Blobs, remote: Remote, *, backoff: float) -> None:
        self._registries = registries
        self._blobs = blobs
        self._remote = remote
        self._backoff = backoff
        self._parts: dict[str, Part] = {}
        self._there: dict[str, Future[None]] = {layer.digest: Future() for layer in remote.layers}

    def got(self, layer: ImageLayer) -> int:
        """Bytes of the layer that are here. It may be asked at any time."""
        part = self._parts.get(layer.digest)
        if part is not None:
            return part.got
        return layer.size if self._there[layer.digest].done() else 0

    def wait(self, layer: ImageLayer) -> None:
        """Return when the layer is in the cache. Blocks; raises PullFailed where `run` ended before it was."""
        try:
            self._there[layer.digest].result()
        except CancelledError:
            raise PullFailed(f"{self._remote.name.path}: {layer.digest} did not come") from None

    async def run(self, tell: Callable[[], None]) -> None:
        """Return when all layers are in the cache. `tell` is called whenever bytes came.

        Raises ImageMissing, PullFailed, DiskFull. What came stays, also when the task is cancelled.
        """
        try:
            with ExitStack() as stack:
                for layer in reversed(self._remote.layers):
                    if self._blobs.has(layer.digest):
                        self._came(layer.digest)
                    elif layer.digest not in self._parts:
                        self._parts[layer.digest] = part = self._blobs.part(layer.digest, layer.size)
                        stack.callback(part.close)
                coming = [_Coming(part) for part in self._parts.values()]
                spans = deque((one, span) for one in coming for span in one.begin())
                await together(*(self._work(spans, tell) for _ in range(min(CONNECTIONS, len(spans)))))
        finally:
            for there in self._there.values():
                there.cancel()

    def _came(self, digest: str) -> None:
        if not self._there[digest].done():
            self._there[digest].set_result(None)

    async def _work(self, spans: deque[tuple[_Coming, Span]], tell: Callable[[], None]) -> None:
        while spans:
            one, (first, last) = spans.popleft()
            await tried(
                lambda part=one.part, first=first, last=last: self._span(part, first, last, tell),  # type: ignore[misc]
                backoff=self._backoff,
                progressed=lambda part=one.part: part.got,  # type: ignore[misc]
            )
            one.left -= 1
            if one.left:
                continue
            if await asyncio.to_thread(one.part.finish):
                self._came(one.part.digest)
                continue
            one.wrong += 1
            if one.wrong == _ROUNDS:
                name = self._remote.name.path
                raise PullFailed(f"{name}: {one.part.digest} came with another sha256 {_ROUNDS} times")
            spans.extendleft((one, span) for span in one.begin())

    async def _span(self, part: Part, first: int, last: int, tell: Callable[[], None]) -> None:
        at = part.first_missing(first, last)
        if at is None:
            return
        async with self._registries.blob(self._remote, part.digest, at, last) as response:
            if response.status == 200:  # ranges are not known there: all of the blob comes
                at = 0
            buffer = bytearray()
            async for chunk in response.content.iter_any():
                buffer += chunk
                if len(buffer) >= _CHUNK:
                    at = await _written(part, at, buffer)
                    tell()
            await _written(part, at, buffer)
            tell()


async def _written(part: Part, at: int, buffer: bytearray) -> int:
    """Write and empty the buffer; where to go on."""
    if buffer:
        await asyncio.to_thread(part.write, at, bytes(buffer))
        at += len(buffer)
        buffer.clear()
    return at


async def together(*works: Coroutine[None, None, None]) -> None:
    """Do them all; the first that fails ends the others, and is raised as it is."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        for done in asyncio.as_completed(tasks):
            await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
