"""GPU memory is seen free before an attempt starts and after it has ended; who holds it is named."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from isobench_tui.engine.base import EngineError
from isobench_tui.runner.monitors.gpu import GpuWatch, of_lane
from isobench_tui.runner.monitors.nvml import NoGpus
from isobench_tui.store import events
from isobench_tui.store.live import LiveGpu, LiveProcess

ALLOWED: Final = 512 * 1024**2
"""Bytes in use at which a GPU still counts as free: a context that somebody left open, beside what is drawn."""
POLL_S: Final = 1.0
BEFORE_S: Final = 20.0
"""How long preflight waits: memory comes back some seconds after the processes that held it have ended."""
AFTER_S: Final = 30.0
"""How long cleanup does."""


class GpuBusy(EngineError):
    """Somebody holds memory of the lane's GPUs; the message names him."""

    failure = "gpu_busy_leaked"


async def wait_free(
    watch: GpuWatch, ids: Sequence[str], limit: float, told: Callable[[str], Awaitable[None]] | None = None
) -> None:
    """Return when the lane's GPUs are free, or where they cannot be seen. Raises GpuBusy after `limit` seconds.

    `told` hears once of what is waited for.
    """
    if not ids:
        return
    until = time.monotonic() + limit
    while True:
        words = await busy(watch, ids)
        if not words:
            return
        if time.monotonic() >= until:
            raise GpuBusy(words)
        if told is not None:
            await told(f"waiting: {words}")
            told = None
        await asyncio.sleep(min(POLL_S, limit))


async def look(watch: GpuWatch, ids: Sequence[str]) -> tuple[dict[str, LiveGpu], str]:
    """The GPUs by these ids, and why some of them cannot be watched (empty: all can)."""
    try:
        seen = await watch.read()
    except NoGpus as error:
        return {}, f"nothing watches GPU {', '.join(ids)}: {error}"
    found = of_lane(seen.gpus, ids)
    absent = [name for name in ids if name not in found]
    why = seen.note or "the driver knows no GPU of that id"
    return found, f"nothing watches GPU {', '.join(absent)}: {why}" if absent else ""


async def busy(watch: GpuWatch, ids: Sequence[str]) -> str:
    """Which of these GPUs are held, and by whom; empty where they are free, or where nothing can be seen."""
    gpus, _ = await look(watch, ids)
    return "; ".join(text for name, gpu in gpus.items() if (text := held(name, gpu)))


async def held_by(watch: GpuWatch, ids: Sequence[str], attempt: str) -> bool:
    """Whether processes of the attempt are on these GPUs."""
    gpus, _ = await look(watch, ids)
    return any(one.attempt == attempt for gpu in gpus.values() for one in gpu.processes)


def say_once(connection: sqlite3.Connection, text: str) -> None:
    """An event, unless the newest of its kind says the same."""
    row = connection.execute("SELECT text FROM events WHERE kind = 'gpu' ORDER BY id DESC LIMIT 1").fetchone()
    if row is None or row["text"] != text:
        events.add(connection, "gpu", text)


def held(name: str, gpu: LiveGpu) -> str:
    """Who holds memory of a GPU, in one sentence; empty where it is free."""
    drawn = sum(one.memory or 0 for one in gpu.processes if one.graphics)
    if gpu.memory_used - drawn <= ALLOWED:
        return ""
    holders = sorted((one for one in gpu.processes if not one.graphics), key=lambda one: -(one.memory or 0))
    by = ", ".join(map(who, holders[:3])) + (f" and {len(holders) - 3} more" if len(holders) > 3 else "")
    return f"{gib(gpu.memory_used)} of GPU {name} are held by {by or 'no process that can be seen from here'}"


def who(process: LiveProcess) -> str:
    """A process that holds memory: `python train.py (pid 4711, alice, 40.0 GiB)`."""
    notes = [f"pid {process.pid}", *filter(None, [process.user]), *([gib(process.memory)] if process.memory else [])]
    if process.attempt:
        notes.append(f"attempt {process.attempt}")
    return f"{process.name or 'a process'} ({', '.join(notes)})"


def gib(size: int) -> str:
    """A size of GPU memory."""
    return f"{size / 1024**3:.1f} GiB"
