"""Whether the arms of a task run in turn (B H A B H A) or in blocks, one image after the other.

In turn is what a drift of the machine cannot fake, and needs all images of the task on disk at once. It is decided
once for a task, before its first attempt fetches anything; that arms ran in blocks is noted by the flag `drift`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isobench_tui.engine import forecast
from isobench_tui.engine.base import EngineError, ImageInfo, Storage
from isobench_tui.report.text import bytes_text
from isobench_tui.runner import keep
from isobench_tui.runner.room import OWN, SPARE
from isobench_tui.runner.services import Services
from isobench_tui.runner.space import volume
from isobench_tui.store import events

if TYPE_CHECKING:
    from isobench_tui.runner.attempt import Order


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job, as far as its place goes."""

    job: str
    image: str
    position: int


async def arrange(services: Services, order: Order, image: ImageInfo) -> None:
    """Decide for the order's task, if that is still open, and put its queued jobs into blocks where it must be.

    Left open where another image of the task cannot be looked up now.
    """
    others = await services.writer.run(_others, order.task, image.ref)
    if not others:
        return
    policy = order.settings.keep_images
    why = f'keep = "{policy}" keeps no image for a later job' if policy in {"next", "none"} else ""
    try:
        why = why or await _too_large(services, policy, [image, *[await services.engine.resolve(x) for x in others]])
    except (EngineError, OSError):
        return
    await services.writer.run(_decided, order.task, image.ref, why)


def in_blocks(jobs: Sequence[Waiting], first: str) -> list[tuple[str, int]]:
    """(job, new position): the same positions, given out image by image, `first` before all others."""
    turns = {first: -1}
    for at, one in enumerate(jobs):
        turns.setdefault(one.image, at)
    ranked = sorted(jobs, key=lambda one: turns[one.image])
    places = sorted(one.position for one in jobs)
    return [(one.job, place) for one, place in zip(ranked, places, strict=True)]


def together(storage: Storage, images: Sequence[ImageInfo], ratio: float) -> int:
    """Bytes that all images at once and one container will still take; images of unknown size count as nothing."""
    stays = transit = container = 0
    for at, image in enumerate(images):
        found = forecast.footprint(storage, forecast.after(image, images[:at]), ratio) or forecast.Footprint()
        stays += int(found.image * (1 + SPARE))
        transit, container = max(transit, found.transit), max(container, found.container)
    return stays + transit + container + OWN


async def _too_large(services: Services, policy: keep.Keep, images: Sequence[ImageInfo]) -> str:
    """Why the images cannot be on disk together; empty where they can."""
    storage = await services.engine.storage()
    if storage.kind == "folder":
        return ""
    ratio, held = await services.writer.run(keep.ratio_of), await services.writer.run(keep.held)
    refs = {image.ref for image in images}
    going = [one for one in keep.leaving(held, policy, pressed=True) if one.image.ref not in refs]
    free = (await asyncio.to_thread(volume, str(storage.path))).free
    needed, room = together(storage, images, ratio), free + keep.comes_free(storage, going, held, ratio)
    if needed <= room:
        return ""
    return f"its {len(images)} images need {bytes_text(needed)} in {storage.path}, {bytes_text(room)} can be had"


def _others(connection: sqlite3.Connection, task: int, image: str) -> list[str]:
    """Further images that queued jobs of the task need; empty where the task was decided before."""
    rows = connection.execute(
        "SELECT DISTINCT j.image FROM jobs j JOIN tasks t ON t.id = j.task_id "
        "WHERE t.id = ? AND t.blocked IS NULL AND j.state = 'queued' AND j.image != ? ORDER BY j.position",
        (task, image),
    )
    return [row["image"] for row in rows]


def _decided(connection: sqlite3.Connection, task: int, image: str, why: str) -> None:
    connection.execute("UPDATE tasks SET blocked = ? WHERE id = ?", (why, task))
    if not why:
        return
    rows = connection.execute(
        "SELECT id, image, position FROM jobs WHERE task_id = ? AND state = 'queued' ORDER BY position", (task,)
    )
    moved = in_blocks([Waiting(row["id"], row["image"], row["position"]) for row in rows], image)
    connection.executemany("UPDATE jobs SET position = ? WHERE id = ?", [(place, job) for job, place in moved])
    row = connection.execute(
        "SELECT t.commit_sha, c.name FROM tasks t JOIN campaigns c ON c.id = t.campaign_id WHERE t.id = ?", (task,)
    ).fetchone()
    text = f"{row['commit_sha'][:8]}: its arms run in blocks, so that a drift can look like a speedup: {why}"
    events.add(connection, "order", text, campaign=row["name"], data={"task": task, "why": why})
