"""Free space of the file systems that matter, by statvfs; never `docker system df`, which lies on vfs and blocks."""

from __future__ import annotations

import asyncio
import contextlib
import shutil

from isobench_tui.engine.base import Engine, EngineError
from isobench_tui.runner.writer import Writer
from isobench_tui.store import attempts
from isobench_tui.store.workspace import Workspace

EVERY_S = 10.0


async def sample(writer: Writer, workspace: Workspace, engine: Engine | None) -> None:
    """One reading of the workspace's file system and of the engine's."""
    usage = await asyncio.to_thread(shutil.disk_usage, workspace.root)
    await writer.run(attempts.sample_disk, str(workspace.root), usage.free, usage.total)
    if engine is None:
        return
    with contextlib.suppress(EngineError):
        held = await engine.usage()
        if held.path != workspace.root:
            await writer.run(attempts.sample_disk, str(held.path), held.free, held.total)
