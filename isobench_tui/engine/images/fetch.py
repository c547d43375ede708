"""Layers over HTTP into the cache of blobs: several connections, each with a span of one blob."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import ExitStack

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


class Fetch:
    """One fetch of an image's layers. `got` may be asked at any time."""

    def __init__(self, registries: Registries, blobs: Blobs, remote: Remote, *, backoff: float) -> None:
        self._registries = registries
        self._blobs = blobs
        self._remote = remote
        self._backoff = backoff
        self._parts: dict[str, Part] = {}

    def got(self, layer: ImageLayer) -> int:
        """Bytes of the layer that are here."""
        part = self._parts.get(layer.digest)
        return layer.size if part is None else part.got

    async def run(self, layers: Iterable[ImageLayer], tell: Callable[[], None]) -> None:
        """Return when all of them are in the cache. `tell` is called whenever bytes came.

        Raises ImageMissing, PullFailed, DiskFull. What came stays, also when the task is cancelled.
        """
        wanted = {layer.digest: layer for layer in layers if not self._blobs.has(layer.digest)}
        self._parts = {}
        with ExitStack() as stack:
            for layer in wanted.values():
                self._parts[layer.digest] = part = self._blobs.part(layer.digest, layer.size)
                stack.callback(part.close)
            await self._all(list(self._parts.values()), tell)

    async def _all(self, left: Sequence[Part], tell: Callable[[], None]) -> None:
        for _ in range(_ROUNDS):
            spans = deque((part, span) for part in left for span in part.missing(SPAN))
            await _together(self._work(spans, tell) for _ in range(min(CONNECTIONS, len(spans))))
            wrong = []
            for part in left:
                if not await asyncio.to_thread(part.finish):
                    wrong.append(part)
            if not wrong:
                return
            left = wrong
        raise PullFailed(f"{self._remote.name.path}: {left[0].digest} came with another sha256 {_ROUNDS} times")

    async def _work(self, spans: deque[tuple[Part, tuple[int, int]]], tell: Callable[[], None]) -> None:
        while spans:
            part, (first, last) = spans.popleft()
            await tried(
                lambda part=part, first=first, last=last: self._span(part, first, last, tell),  # type: ignore[misc]
                backoff=self._backoff,
                progressed=lambda part=part: part.got,  # type: ignore[misc]
            )

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


async def _together(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Do them all; the first that fails ends the others, and is raised as it is."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        for done in asyncio.as_completed(tasks):
            await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
