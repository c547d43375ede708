"""Which images stay. Only images that were absent before our pull are ever removed, and each removal is an event."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from isobench_tui.engine import forecast
from isobench_tui.engine.base import ImageInfo, ImageLayer, Storage
from isobench_tui.report.text import bytes_text
from isobench_tui.runner.services import Services
from isobench_tui.store import events
from isobench_tui.store.clock import now

Keep = Literal["shared", "next", "none", "all"]
Use = Literal["idle", "queued", "next", "used"]

TIGHT = 0.2
"""Share of the engine's file system below which `shared` gives up images that no job waits for."""

_WHY: dict[Use, str] = {
    "idle": "no waiting job needs it",
    "queued": "of the waiting jobs that need it the next is the farthest away",
    "next": "the next job needs it, but nothing else could make room",
    "used": "",
}


@dataclass(frozen=True, slots=True)
class Held:
    """An image of ours on the engine."""

    image: ImageInfo
    use: Use
    """Whether an attempt uses it, the next job or a later one waits for it, or none does."""
    seen_at: str
    """When an attempt last took it."""
    turn: int = 0
    """Place in the queue of the first job that waits for it; 0 where none does."""


def leaving(held: list[Held], keep: Keep, *, pressed: bool = False) -> list[Held]:
    """What the policy gives up, in this order: idle images, the one unused for longest first, then those of waiting
    jobs, the farthest first.

    all: nothing. shared: idle ones. next: all but those of the next job. none: all. `pressed`: a job cannot start for
    want of space, and an image that is pulled again later is better than a queue that stands still.
    """
    if keep == "all":
        return []
    uses: set[Use] = {"idle"}
    if keep in {"next", "none"} or pressed:
        uses.add("queued")
    if keep == "none" or pressed:
        uses.add("next")
    idle = sorted((one for one in held if one.use == "idle"), key=lambda one: one.seen_at)
    waited = sorted((one for one in held if one.use in uses - {"idle"}), key=lambda one: one.turn, reverse=True)
    return [*idle, *waited]


def held(connection: sqlite3.Connection) -> list[Held]:
    """Images that were absent before our pull and are still there, with what the queue wants of them."""
    used = {row["image"] for row in connection.execute(_OPEN)}
    turns: dict[str, int] = {}
    for turn, row in enumerate(connection.execute(_WAITING), 1):
        turns.setdefault(row["image"], turn)
    found = []
    for row in connection.execute("SELECT * FROM images WHERE brought_by IS NOT NULL AND removed_at IS NULL"):
        ref, turn = row["ref"], turns.get(row["ref"], 0)
        use: Use = "used" if ref in used else "idle" if not turn else "next" if turn == 1 else "queued"
        found.append(Held(_info(row), use, row["seen_at"], turn))
    return found


_OPEN = "SELECT j.image FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.state = 'open'"
_WAITING = (
    "SELECT j.image FROM jobs j WHERE j.state IN ('queued', 'held') "
    "ORDER BY j.state = 'held', j.campaign_id, j.position"
)


async def evict(services: Services, keep: Keep) -> None:
    """Apply the policy after an attempt. Raises EngineError.

    `shared` gives up nothing while there is space: layers that later images share would be fetched again.
    """
    for one in leaving(await services.writer.run(held), keep):
        if keep == "shared":
            usage = await services.engine.usage()
            if usage.free >= TIGHT * usage.total:
                return
        await remove(services, one, keep)


async def make_room(
    services: Services, keep: Keep, missing: Callable[[], Awaitable[int]], ours: frozenset[str] = frozenset()
) -> bool:
    """Remove images until nothing is `missing`; says whether any went. Raises EngineError.

    Where all that the policy may give up would not do, only idle images go: nothing is fetched again in vain. `ours`
    are references that the caller is about to use.
    """
    mine = [one for one in await services.writer.run(held) if one.image.ref not in ours]
    lacks = await missing()
    storage, ratio = await services.engine.storage(), await services.writer.run(ratio_of)
    going = leaving(mine, keep, pressed=True)
    if comes_free(storage, going, mine, ratio) < lacks:
        going = [one for one in going if one.use == "idle"]
    removed = False
    for one in going:
        if lacks <= 0:
            break
        removed = await remove(services, one, keep) or removed
        lacks = await missing()
    return removed


async def remove(services: Services, one: Held, keep: Keep) -> bool:
    """Remove one image and say so. False where a container uses it, or it is gone."""
    before = (await services.engine.usage()).free
    if not await services.engine.remove_image(one.image):
        return False
    after = (await services.engine.usage()).free
    await services.writer.run(_removed, one, keep, max(0, after - before), after)
    return True


def comes_free(storage: Storage, going: list[Held], all_: list[Held], ratio: float) -> int:
    """Bytes that removing images would give back, as far as their layers are known: what no other of ours shares."""
    refs = {one.image.ref for one in going}
    lost = [_weights(storage, one.image, ratio) for one in going]
    return forecast.freed(lost, [_weights(storage, one.image, ratio) for one in all_ if one.image.ref not in refs])


def ratio_of(connection: sqlite3.Connection) -> float:
    """Unpacked bytes for a compressed byte, as images of this workspace had them."""
    rows = connection.execute("SELECT layers, size FROM images WHERE layers IS NOT NULL AND size IS NOT NULL")
    return forecast.expansion((sum(layer.size for layer in layers_of(row["layers"])), row["size"]) for row in rows)


def layers_text(layers: tuple[ImageLayer, ...]) -> str | None:
    """Layers as the store keeps them; None where they are not known."""
    if not layers:
        return None
    return json.dumps([[x.digest, x.size, x.media_type, x.diff_id, x.unpacked] for x in layers])


def layers_of(text: str | None) -> tuple[ImageLayer, ...]:
    """What `layers_text` wrote; () for None."""
    rows: list[list[Any]] = json.loads(text) if text else []
    return tuple(ImageLayer(*row) for row in rows)


def _weights(storage: Storage, image: ImageInfo, ratio: float) -> dict[str, int]:
    if not image.layers:  # not from a registry that tells them: as if it shared nothing
        return {image.ref: image.size or 0}
    return forecast.weights(storage, image.layers, ratio)


def _info(row: sqlite3.Row) -> ImageInfo:
    found = ImageInfo(row["ref"], row["pinned"], row["digest"], row["id"], True, row["size"])
    return replace(found, layers=layers_of(row["layers"]))


def _removed(connection: sqlite3.Connection, one: Held, keep: Keep, gained: int, free: int) -> None:
    ref = one.image.ref
    connection.execute("UPDATE images SET removed_at = ?, brought_by = NULL WHERE ref = ?", (now(), ref))
    text = f"removed image {ref}: {_WHY[one.use]} (keep = {keep}); {bytes_text(gained)} came free"
    data = {"image": ref, "use": one.use, "keep": keep, "freed": gained, "free": free}
    events.add(connection, "image", text, data=data)
