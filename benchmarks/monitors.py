"""What watching the host costs the runner: CPU time of all readings and of writing them into the store.

    python benchmarks/monitors.py [--quick]

Both sides run in one process, in turn, for 30 s each, three times: an event loop that only sleeps, and the same with
the runner's watch and the window of one measuring attempt beside it. Where the host has no GPU, those of eight H100
are replayed, each taking the CPU time that one took there (0.4 ms a GPU). The store holds four weeks of samples.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bars import Bar, print_table, settle

from isobench_tui.runner.monitors.gpu import GpuWatch
from isobench_tui.runner.monitors.nvml import GpuReading, GpuSource, NoGpus, Nvml
from isobench_tui.runner.monitors.watch import Watch
from isobench_tui.runner.monitors.window import GpuWindow
from isobench_tui.runner.writer import Writer
from isobench_tui.store import db, samples
from isobench_tui.store.clock import stamp
from isobench_tui.store.live import LiveGpu
from isobench_tui.store.workspace import Workspace

SPAN_S, QUICK_S = 30.0, 10.0
SETTLE_S = 1.0
"""Seconds before the clock starts: threads, the database, the first reading."""
ROUNDS = 3
LIMIT = 0.5
WEEKS = 4

H100 = LiveGpu(
    index=0,
    uuid="GPU-0",
    name="NVIDIA H100 80GB HBM3",
    memory_used=7543848960,
    memory_total=85520809984,
    utilization=99,
    temperature=41,
    sm_clock=1980,
    sm_clock_max=1980,
    power=468.116,
    power_limit=700.0,
    throttle=("sw_power_cap",),
)


class Replay:
    """Eight GPUs that answer what was read, and take as long."""

    seconds = 8 * 0.0004

    def __init__(self) -> None:
        gpus = tuple(replace(H100, index=number, uuid=f"GPU-{number}") for number in range(8))
        self._reading = GpuReading("580.159.04", gpus)

    def read(self) -> GpuReading:
        until = time.thread_time() + self.seconds
        while time.thread_time() < until:
            pass
        return self._reading

    def close(self) -> None: ...


async def _alone(span: float) -> float:
    """Percent of a core that the process uses while it waits."""
    await asyncio.sleep(SETTLE_S)
    began = time.process_time()
    await asyncio.sleep(span)
    return 100 * (time.process_time() - began) / span


async def _watched(span: float, workspace: Workspace, source: GpuSource, ids: list[str]) -> float:
    """The same with the monitors at work."""
    gpus, writer = GpuWatch(source), Writer(workspace)
    watch, window = Watch(writer, workspace, gpus, lambda: None), GpuWindow(gpus, "none-1", ids)
    tasks = [asyncio.create_task(watch.run()), asyncio.create_task(window.run(lambda: True))]
    try:
        return await _alone(span)
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        writer.close()


def _fill(workspace: Workspace, ids: list[str]) -> int:
    """Weeks of samples as a runner leaves them; how many."""
    connection = db.create_store(workspace)
    end = time.time() - 60
    with db.transaction(connection):
        for age in range(0, WEEKS * 7 * 86400, 600):
            rows = [samples.Reading("disk", "/", 1, 2), samples.Reading("cpu", "host", 1, 100)]
            rows += [samples.Reading("gpu_memory", uuid, 1, 2) for uuid in ids]
            samples.add(connection, rows, stamp(end - age))
        samples.thin(connection)
    count: int = connection.execute("SELECT count(*) FROM samples").fetchone()[0]
    connection.close()
    return count


def _source() -> tuple[GpuSource, str]:
    source: GpuSource = Nvml()
    try:
        return source, ", ".join(gpu.name for gpu in source.read().gpus)
    except NoGpus as error:
        return Replay(), f"8 replayed ({error})"


def main() -> int:
    parser = argparse.ArgumentParser(description="What watching the host costs the runner.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_S:g} s a side instead of {SPAN_S:g}")
    span = QUICK_S if parser.parse_args().quick else SPAN_S
    source, what = _source()
    ids = [gpu.uuid for gpu in source.read().gpus]
    took: dict[str, list[float]] = {"the loop alone": [], "with the monitors": []}
    with tempfile.TemporaryDirectory(prefix="isobench-monitors-") as folder:
        workspace = Workspace(Path(folder))
        rows = _fill(workspace, ids)
        for _ in range(ROUNDS):
            took["the loop alone"].append(asyncio.run(_alone(span)))
            took["with the monitors"].append(asyncio.run(_watched(span, workspace, source, ids)))
    print(f"Python {sys.version.split()[0]}; GPUs: {what}; {rows} samples in the store; percent of one core")
    cells = [
        (name, str(len(values)), *(f"{value:.3f}" for value in (statistics.median(values), min(values), max(values))))
        for name, values in took.items()
    ]
    print_table(("", "rounds", "median", "least", "most"), cells)
    more = statistics.median(took["with the monitors"]) - statistics.median(took["the loop alone"])
    return settle(Bar("monitors_percent", more, "<=", LIMIT))


if __name__ == "__main__":
    sys.exit(main())
