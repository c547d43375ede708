"""Which images stay after an attempt. Only images that were absent before our pull are ever removed."""

from __future__ import annotations

import sqlite3
from typing import Literal

from isobench_tui.engine.base import ImageInfo
from isobench_tui.runner.services import Services
from isobench_tui.store import events
from isobench_tui.store.clock import now

Keep = Literal["shared", "next", "none", "all"]

TIGHT = 0.2
"""Share of the engine's file system below which `shared` gives up images that no job waits for."""


async def evict(services: Services, keep: Keep) -> None:
    """Apply the keep policy once. Raises EngineError.

    all: nothing goes. none: everything of ours goes that no attempt uses. next: what the next job does not use goes.
    shared: what no waiting job needs goes, oldest first, but only while the disk is tight - layers that
    later images share would otherwise be fetched again.
    """
    if keep == "all":
        return
    for image in await services.writer.run(candidates, keep):
        usage = await services.engine.usage()
        if keep == "shared" and usage.free >= TIGHT * usage.total:
            return
        if await services.engine.remove_image(image):
            await services.writer.run(_removed, image.ref, keep, usage.free / usage.total)


def candidates(connection: sqlite3.Connection, keep: Keep) -> list[ImageInfo]:
    """Images of ours that the policy does not protect, the one unused for longest first."""
    waiting = {
        "none": "SELECT j.image FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE a.state = 'open'",
        "next": "SELECT image FROM (SELECT image FROM jobs WHERE state = 'queued' "
        "ORDER BY campaign_id, position LIMIT 1)",
        "shared": "SELECT image FROM jobs WHERE state IN ('queued', 'held', 'running')",
        "all": "SELECT ref FROM images",
    }
    rows = connection.execute(
        f"SELECT * FROM images WHERE brought_by IS NOT NULL AND removed_at IS NULL AND ref NOT IN ({waiting[keep]}) "
        f"AND ref NOT IN ({waiting['none']}) ORDER BY seen_at"
    )
    return [ImageInfo(row["ref"], row["pinned"], row["digest"], row["id"], True, row["size"]) for row in rows]


def _removed(connection: sqlite3.Connection, ref: str, keep: Keep, free: float) -> None:
    connection.execute("UPDATE images SET removed_at = ?, brought_by = NULL WHERE ref = ?", (now(), ref))
    why = {
        "none": "no attempt uses it",
        "next": "the next job does not use it",
        "shared": "no waiting job needs it",
        "all": "",
    }
    text = f"removed image {ref}: {why[keep]} (keep = {keep}, {free:.0%} of the disk was free)"
    events.add(connection, "image", text)
