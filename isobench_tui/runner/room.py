"""Room on the disks before an attempt fetches anything: forecast, free what may go, else say what is needed where."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from isobench_tui.campaign.models import Settings
from isobench_tui.engine import forecast
from isobench_tui.engine.base import DiskFull, EngineError, ImageInfo, Storage
from isobench_tui.report.text import bytes_text
from isobench_tui.runner import fetch_model, keep, models
from isobench_tui.runner.services import Services
from isobench_tui.runner.space import Balance, Need, Volume, balances, volumes, wants
from isobench_tui.store import db, events, live
from isobench_tui.store.queue import PRUNE_ALLOWED

if TYPE_CHECKING:
    from isobench_tui.runner.attempt import Order

WORKSPACE = 512 * 1024**2
"""Bytes that stay free in the workspace: database, results, everything small."""
LOGS = 64 * 1024**2
"""Bytes of an attempt's run directory where the campaign has no attempt yet to go by; later 1.5 times its largest."""
OWN = 256 * 1024**2
"""Bytes that a container writes into its own file system: compiled kernels, caches, temporary files."""
SPARE = 0.05
"""Of an image's bytes: tar files know nothing of blocks and inodes."""
POLL_S = 1.0
"""How often a lane looks whether another one has taken what it was promised."""
MARGIN = 16 * 1024**2
"""Bytes more than needed that a paused queue waits for, so that it does not pause again over a log line."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a part of an attempt will take."""

    needs: tuple[Need, ...]
    unknown: tuple[str, ...] = ()
    """What of it cannot be weighed beforehand."""
    fetch: int = 0
    """Bytes over the network."""

    def __add__(self, other: Weighed) -> Weighed:
        return Weighed(self.needs + other.needs, self.unknown + other.unknown, self.fetch + other.fetch)


async def ensure(
    services: Services, order: Order, image: ImageInfo, extend: Callable[[float], None]
) -> tuple[ImageInfo, tuple[tuple[str, int], ...]]:
    """Return once the disks can take the attempt: the image, of which fewer layers may be here than before, and
    (path, bytes) that it will take. `extend` gives the phase more seconds while images are removed.

    Raises DiskFull, with `wants`, where nothing more may be freed; EngineError.
    """
    ours = frozenset({order.spec.image})
    others = await _others(services, order)
    while True:
        weighed = await _image(services, image) + others
        needs = weighed.needs
        found = await _measured(services, needs)
        await _show(services, order, weighed, found)
        if not _missing(found):
            break
        prune = order.settings.prune == "all"
        if not (
            await _drop_cache(services, image)
            or await _free(services, order.settings, needs, ours, extend, prune=prune)
        ):
            alone = await _measured(services, needs, promises=False)
            if _missing(alone):
                raise DiskFull(await _sentence(services, order.settings, alone), wants(alone))
            extend(order.settings.timeouts.preflight)  # another lane will take it, or find that it needs less
            await asyncio.sleep(POLL_S)
        # what went may have had layers of it, and another lane may have fetched it
        image = await services.engine.resolve(order.spec.image)
    services.promised[order.attempt] = tuple(need for need in needs if need.what != "workspace")
    return image, wants(await _measured(services, needs, promises=False))


async def _drop_cache(services: Services, image: ImageInfo) -> bool:
    """Layers of other images that were kept to save time go first; whether there were any."""
    return await services.engine.drop_cache(frozenset(layer.digest for layer in image.layers)) > 0


async def again(
    services: Services, settings: Settings, wanted: tuple[tuple[str, int], ...], ours: frozenset[str]
) -> bool:
    """Whether a queue that paused for want of space has it now; frees what may go. Raises EngineError."""
    needs = [Need("a paused job", path, size + MARGIN) for path, size in wanted]
    if _missing(await _measured(services, needs)):
        await _free(services, settings, needs, ours, lambda _: None, prune=False)
    return not _missing(await _measured(services, needs))


async def _others(services: Services, order: Order) -> Weighed:
    """What the attempt will take beside its image and container."""
    workspace = services.workspace
    needs = [
        Need("logs", str(workspace.runs), await services.writer.run(_logs, order.attempt)),
        Need("workspace", str(workspace.root), WORKSPACE),
    ]
    weighed, silent = await models.weigh(services, order)
    cache = str(order.settings.model_cache)
    needs += [Need(f"model {name}", cache, size + fetch_model.MARGIN) for name, size in weighed.items()]
    return Weighed(tuple(needs), tuple(f"model {name}" for name in silent), sum(weighed.values()))


async def _image(services: Services, image: ImageInfo) -> Weighed:
    """The image and one container. Raises EngineError."""
    storage, ratio = await services.engine.storage(), await services.writer.run(keep.ratio_of)
    return await weigh_image(storage, services.workspace.trees, image, ratio)


async def weigh_image(storage: Storage, trees: Path, image: ImageInfo, ratio: float) -> Weighed:
    """An image and one container of it. `trees`: where the process engine copies folders to; `ratio`: unpacked bytes
    for a compressed byte."""
    path = str(storage.path)
    if storage.kind == "folder":
        size = await asyncio.to_thread(_size_of, Path(image.pinned), storage)
        return Weighed((Need("container", str(trees), size),))
    known = forecast.footprint(storage, image, ratio)
    found = known or forecast.Footprint()
    needs = [
        Need("image", path, int(found.image * (1 + SPARE))),
        Need("downloads", path, found.transit),
        Need("container", path, found.container + OWN),
    ]
    if found.cache and storage.cache is not None:
        needs.append(Need("blob cache", str(storage.cache), found.cache))
    return Weighed(tuple(needs), ("image",) if known is None else (), found.fetch)


async def _measured(services: Services, needs: Sequence[Need], *, promises: bool = True) -> tuple[Balance, ...]:
    """The needs, with `promises` also those of other attempts that are not on the disk yet, beside what is free."""
    others = [need for mine in services.promised.values() for need in mine] if promises else []
    by_path: dict[str, int] = {}
    for need in others:
        by_path[need.path] = by_path.get(need.path, 0) + need.bytes
    everything = [*needs, *(Need("other attempts", path, size) for path, size in by_path.items())]
    try:
        places: dict[str, Volume] = await asyncio.to_thread(volumes, {need.path for need in everything})
    except OSError as error:
        raise EngineError(f"the disk cannot be looked at: {error}") from error
    mine = {places[need.path].device for need in needs}
    return tuple(found for found in balances(everything, places) if found.device in mine)


def _missing(found: Iterable[Balance]) -> int:
    return sum(balance.missing for balance in found)


async def _free(
    services: Services,
    settings: Settings,
    needs: Sequence[Need],
    ours: frozenset[str],
    extend: Callable[[float], None],
    *,
    prune: bool,
) -> bool:
    """Remove images where that helps: on the file system that is short. Says whether anything went."""
    place = str((await services.engine.storage()).path)
    device = (await asyncio.to_thread(volumes, {place}))[place].device

    async def missing() -> int:
        extend(settings.timeouts.cleanup)
        found = await _measured(services, needs)
        return sum(balance.missing for balance in found if balance.device == device)

    if await missing() <= 0:
        return False
    removed = await keep.make_room(services, settings.keep_images, missing, ours)
    if prune and await missing() > 0 and await services.writer.run(_may_prune):
        spare = await services.writer.run(_wanted_images)
        gone = await services.engine.prune(spare | ours)
        if gone:
            await services.writer.run(_pruned, gone)
            return True
    return removed


async def _show(services: Services, order: Order, weighed: Weighed, found: tuple[Balance, ...]) -> None:
    held = await services.writer.run(keep.held)
    freeable = await _freeable(services, order.settings, held, frozenset({order.spec.image}))
    row = live.LiveForecast(
        fetch=weighed.fetch,
        needs=tuple(live.LiveNeed(need.what, need.path, need.bytes) for need in weighed.needs),
        volumes=tuple(live.LiveVolume(balance.path, balance.free, balance.needed) for balance in found),
        unknown=weighed.unknown,
        held=tuple(live.LiveImage(one.image.ref, one.image.size or 0, one.use) for one in held),
        freeable=freeable,
    )
    await services.writer.run(live.put, f"forecast/{order.attempt}", row, order.attempt)


async def _freeable(services: Services, settings: Settings, held: list[keep.Held], ours: frozenset[str]) -> int:
    going = [one for one in keep.leaving(held, settings.keep_images, pressed=True) if one.image.ref not in ours]
    storage, ratio = await services.engine.storage(), await services.writer.run(keep.ratio_of)
    return keep.comes_free(storage, going, held, ratio)


async def _sentence(services: Services, settings: Settings, found: tuple[Balance, ...]) -> str:
    """What is needed where, and what could be freed."""
    held = await services.writer.run(keep.held)
    ours = sum(one.image.size or 0 for one in held)
    text = "; ".join(str(balance) for balance in found if balance.missing)
    if not held:
        return f"{text}; no image here is ours to remove"
    rule = f'keep = "{settings.keep_images}"'
    return f"{text}; images of ours hold up to {bytes_text(ours)}, but {rule} has nothing to give up that would do"


def _logs(connection: sqlite3.Connection, attempt: str) -> int:
    """1.5 times the largest run directory of the same campaign so far."""
    rows = connection.execute(
        "SELECT a.files FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.files IS NOT NULL AND j.campaign_id = "
        "(SELECT k.campaign_id FROM attempts b JOIN jobs k ON k.id = b.job_id WHERE b.id = ?) "
        "ORDER BY a.rowid DESC LIMIT 200",
        (attempt,),
    )
    sizes = [sum(file.get("size", 0) for file in json.loads(row["files"]).values()) for row in rows]
    return max(LOGS, int(1.5 * max(sizes, default=0)))


def _wanted_images(connection: sqlite3.Connection) -> frozenset[str]:
    query = "FROM jobs j LEFT JOIN images i ON i.ref = j.image WHERE j.state IN ('queued', 'held', 'running')"
    rows = connection.execute(f"SELECT j.image, i.pinned {query}")
    return frozenset(name for row in rows for name in row if name)


def _may_prune(connection: sqlite3.Connection) -> bool:
    return db.meta(connection, PRUNE_ALLOWED) is not None


def _pruned(connection: sqlite3.Connection, gone: list[str]) -> None:
    text = f'pruned what no container used (prune = "all"): {", ".join(gone)}'
    events.add(connection, "image", text, data={"pruned": gone})


def _size_of(folder: Path, storage: Storage) -> int:
    """Bytes that a copy of a folder takes; what cannot be read counts as nothing."""
    total = 0
    if storage.reflink and folder.stat().st_dev == storage.path.stat().st_dev:
        return 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(root) / name).lstat().st_blocks * 512
    return total
