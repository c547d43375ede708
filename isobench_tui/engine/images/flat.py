"""Images as one layer: for engines that copy all lower layers for each layer, as the vfs driver does.

Layers come into a cache of blobs, the top one first, are merged as they come, and the merge is imported while it goes
on. The image is named after the digest of what it was made from, so that it is found again; its configuration stays
here, for `launch`, because `import` can set none faithfully (it expands `$` and splits at spaces).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isobench_tui.engine.base import ImageConfig, ImageLayer, Layer, LayerState, PullProgress
from isobench_tui.engine.images.blobs import Blobs, disk_error
from isobench_tui.engine.images.fetch import Fetch, together
from isobench_tui.engine.images.importer import Import
from isobench_tui.engine.images.merge import Merge
from isobench_tui.engine.images.names import flat_name
from isobench_tui.engine.images.pull import INTERVAL, short
from isobench_tui.engine.images.registry import Registries, Remote
from isobench_tui.engine.images.unpack import pieces
from isobench_tui.engine.threads import in_thread

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Progress = Callable[[PullProgress], None]


class Flattener:
    """Makes one-layer images. `root`: its folder; `cap`: bytes that blobs may take there; `engine`: the socket."""

    def __init__(self, root: Path, cap: int, engine: Path, registries: Registries, *, backoff: float) -> None:
        self.blobs = Blobs(root / "blobs", cap)
        self._configs = root / "configs"
        self._engine = engine
        self._registries = registries
        self._backoff = backoff

    def config(self, digest: str) -> ImageConfig | None:
        """The configuration of the image of this digest, if it was flattened here."""
        try:
            return _config().validate_json(self._file(digest).read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def remember(self, digest: str, config: ImageConfig) -> None:
        """Keep a configuration. Raises DiskFull, PullFailed."""
        file = self._file(digest)
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = file.with_suffix(".part")
            part.write_bytes(_config().dump_json(config))
            part.replace(file)
        except OSError as error:
            raise disk_error(file.parent, error) from error

    def forget(self, digest: str) -> None:
        """The image is gone."""
        self._file(digest).unlink(missing_ok=True)

    async def make(self, remote: Remote, on_progress: Progress) -> str:
        """Fetch, merge and import; the id of the engine's image. Cancelled with its task; blobs that came stay.

        Raises Unmergeable, ImageMissing, PullFailed, DiskFull, EngineUnreachable.
        """
        needed = [layer.digest for layer in remote.layers]
        await asyncio.to_thread(self.blobs.trim, needed)
        show = _Show(remote.layers, on_progress)
        for layer in show.layers:
            show.cached[layer.digest] = self.blobs.has(layer.digest)
        await asyncio.to_thread(self.remember, remote.digest, remote.config)
        fetch = Fetch(self._registries, self.blobs, remote, backoff=self._backoff)
        show.got = fetch.got
        made = ""

        async def unpack() -> None:
            nonlocal made
            made = await self._import(remote, fetch, show)

        # The layers that are here are unpacked while those below them come.
        await together(fetch.run(show.tell), unpack())
        show.finish()
        await asyncio.to_thread(self.blobs.trim)
        return made

    def _file(self, digest: str) -> Path:
        return self._configs / f"{digest.partition(':')[2]}.json"

    async def _import(self, remote: Remote, fetch: Fetch, show: _Show) -> str:
        repository, _, tag = flat_name(remote.digest).partition(":")
        importing = await asyncio.to_thread(Import, self._engine, repository, tag)

        def opened(layer: ImageLayer) -> Iterator[bytes]:
            fetch.wait(layer)
            return pieces(self.blobs.path(layer.digest), lambda at: show.read(layer, at))

        def work() -> str:
            try:
                Merge([lambda layer=layer: opened(layer) for layer in remote.layers], importing.send).run()  # type: ignore[misc]
                return importing.finish()
            except OSError as error:
                raise disk_error(self.blobs.root, error) from error
            finally:
                importing.close()

        # Not in the loop's executor: it waits for layers that are written there.
        working = asyncio.create_task(in_thread("merging", work, None))
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=INTERVAL)
                show.tell()
            return working.result()
        finally:
            importing.abort()
            with contextlib.suppress(Exception):
                await asyncio.wait({working})


def _config() -> TypeAdapter[ImageConfig]:
    from pydantic import TypeAdapter

    return TypeAdapter(ImageConfig)


class _Show:
    """The layers of one image on their way, for whoever watches."""

    def __init__(self, layers: Sequence[ImageLayer], on_progress: Progress) -> None:
        self.layers = list({layer.digest: layer for layer in layers}.values())
        self.cached: dict[str, bool] = {}
        self.got: Callable[[ImageLayer], int] = lambda _: 0
        self._on_progress = on_progress
        self._read: dict[str, int] = {}
        self._finished = False
        self._told = float("-inf")

    def read(self, layer: ImageLayer, at: int) -> None:
        """The merge has come so far into the layer's blob. Called in the merge's thread."""
        self._read[layer.digest] = at

    def tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told >= INTERVAL:
            self._told = now
            self._on_progress(self._snapshot())

    def finish(self) -> None:
        self._finished = True
        self._on_progress(self._snapshot())

    def _snapshot(self) -> PullProgress:
        shown = tuple(self._layer(layer) for layer in self.layers)
        fetched = [layer for layer in self.layers if not self.cached[layer.digest]]
        done, total = sum(map(self.got, fetched)), sum(layer.size for layer in fetched)
        return PullProgress(shown, done, total, sum(list(self._read.values())))

    def _layer(self, layer: ImageLayer) -> Layer:
        name, read = short(layer.digest), self._read.get(layer.digest)
        if self._finished:
            return Layer(name, "done", layer.size, layer.size)
        if read is not None:
            return Layer(name, "extracting", read, layer.size)
        if self.cached[layer.digest]:
            return Layer(name, "exists", 0, 0)
        got = self.got(layer)
        state: LayerState = "downloading" if got else "waiting"
        return Layer(name, state, got, layer.size)
