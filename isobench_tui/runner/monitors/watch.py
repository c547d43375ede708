"""The background task that reads the host every few seconds and writes what it saw into the store."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from isobench_tui.engine.base import Engine
from isobench_tui.runner.monitors import disk
from isobench_tui.runner.monitors.gpu import GpuWatch
from isobench_tui.runner.monitors.gpu import readings as of_gpus
from isobench_tui.runner.monitors.host import HostWatch
from isobench_tui.runner.monitors.host import readings as of_host
from isobench_tui.runner.monitors.nvml import GpuReading, NoGpus
from isobench_tui.runner.writer import Writer
from isobench_tui.store import live, samples
from isobench_tui.store.samples import Reading
from isobench_tui.store.workspace import Workspace

THIN_EVERY = 6
"""Readings between two looks for samples that have aged."""


@dataclass(slots=True)
class Watch:
    """`run` never returns. `engine` gives the engine of the moment, if there is one."""

    writer: Writer
    workspace: Workspace
    gpus: GpuWatch
    engine: Callable[[], Engine | None]
    _host: HostWatch = field(default_factory=HostWatch)

    async def run(self) -> None:
        """Read, write, rest."""
        count = 0
        while True:
            with contextlib.suppress(OSError, sqlite3.OperationalError):  # a full disk ends no watch over it
                await self.look(thin=count % THIN_EVERY == 0)
            count += 1
            await asyncio.sleep(self.gpus.rest(samples.STEP_S))

    async def look(self, *, thin: bool = False) -> live.LiveMachine:
        """One full reading, written as the live row `machine` and as samples."""
        disks = await disk.read(self.workspace, self.engine())
        try:
            found = await self.gpus.read()
        except NoGpus as error:
            found = GpuReading("", (), str(error))
        seen = live.LiveMachine(self._host.read(), disks, found.gpus, found.note, found.driver)
        kept = [*disk.readings(disks), *of_host(seen.host), *of_gpus(found.gpus)]
        await self.writer.run(_write, seen, kept, thin=thin)
        return seen


def _write(connection: sqlite3.Connection, seen: live.LiveMachine, readings: list[Reading], *, thin: bool) -> None:
    live.put(connection, live.MACHINE_KEY, seen)
    samples.add(connection, readings)
    if thin:
        samples.thin(connection)
