"""Free space of the file systems that matter, by statvfs; never `docker system df`, which lies on vfs and blocks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from isobench_tui.engine.base import Engine, EngineError
from isobench_tui.store.live import LiveDisk
from isobench_tui.store.samples import Reading
from isobench_tui.store.workspace import Workspace, file_system


async def read(workspace: Workspace, engine: Engine | None) -> tuple[LiveDisk, ...]:
    """The workspace's file system and the engine's; one where they are the same. An engine that is away has none."""
    images: Path | None = None
    if engine is not None:
        with contextlib.suppress(EngineError):
            images = (await engine.usage()).path
    return await asyncio.to_thread(_disks, workspace.root, images)


def readings(disks: Iterable[LiveDisk]) -> list[Reading]:
    """What of it goes into the history."""
    return [Reading("disk", disk.path, disk.free, disk.total) for disk in disks]


def _disks(workspace: Path, images: Path | None) -> tuple[LiveDisk, ...]:
    if images is None:
        return (_disk(workspace, "workspace"),)
    if images.stat().st_dev == workspace.stat().st_dev:
        return (_disk(workspace, "workspace", "images"),)
    return _disk(workspace, "workspace"), _disk(images, "images")


def _disk(path: Path, *holds: str) -> LiveDisk:
    usage = shutil.disk_usage(path)
    return LiveDisk(os.fspath(path), holds, file_system(path), usage.total, usage.free)
