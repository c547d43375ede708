"""How long a workspace with 100,000 attempts takes to export, and a screen to read again what moved.

    python benchmarks/store.py [--quick]

The export is timed from the start of `isobench export` to its end, in each format; beside it the same in a workspace
of 2,000 attempts. A slice is what a dashboard reads again when one attempt has changed: the running attempts, the
newest events, a job's attempts, the tally of the campaign, the means of the phases, and the queue: when one job has
changed, and when one was moved to the front. Each alone, by the reader that the dashboard uses. The bars hold for the
JSON export and for the slowest slice. Beside them the whole queue, which a dashboard reads once, at its start.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bars import Bar, print_table, settle, spread
from history import fill, multiply

from isobench_tui.store import attempts, db, events, query, queue
from isobench_tui.store.workspace import Workspace
from isobench_tui.tui import reading
from isobench_tui.tui.jobs import Jobs

FEW, TIMES = 2_000, 50
EXPORT_S, SLICE_MS = 5.0, 50.0
NEWEST = 2_000

SLICES: dict[str, Callable[[sqlite3.Connection, str], object]] = {
    "running attempts": lambda connection, _: reading.running(connection),
    "newest events": lambda connection, _: events.since(connection, events.last_id(connection) - NEWEST, NEWEST),
    "attempts of a job": query.attempts,
    "tally": lambda connection, _: query.tally(connection, "history"),
    "means of the phases": lambda connection, _: reading.means(connection),
}
WRITES: dict[str, Callable[[sqlite3.Connection, str], object]] = {
    "the queue, one job changed": lambda connection, job: attempts.update(connection, f"{job}-1", phase="measure"),
    "the queue, one job moved": queue.to_front,
}


def make(root: Path, times: int) -> Workspace:
    """A workspace of FEW x `times` attempts."""
    workspace = Workspace(root)
    connection = fill(workspace, FEW)
    if times > 1:
        multiply(connection, times)
    connection.close()
    return workspace


def export(workspace: Workspace, fmt: str, out: Path) -> float:
    """Wall seconds of one export into a file."""
    isobench = str(Path(sys.executable).with_name("isobench"))
    argv = [isobench, "export", "--format", fmt, "--output", str(out), "--workspace", str(workspace.root)]
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def slices(workspace: Workspace, runs: int) -> dict[str, list[float]]:
    """Milliseconds of every slice, in turn, once each before it counts."""
    took: dict[str, list[float]] = {name: [] for name in (*SLICES, *WRITES)}
    with contextlib.closing(db.open_store(workspace)) as connection:
        (job,) = connection.execute("SELECT job_id FROM attempts ORDER BY id DESC LIMIT 1").fetchone()
        jobs = Jobs()
        jobs.read(connection)
        for _ in range(runs + 1):
            for name, read in SLICES.items():
                took[name].append(timed(partial(read, connection, job)))
            for name, write in WRITES.items():
                with db.transaction(connection):
                    write(connection, job)
                took[name].append(timed(partial(jobs.read, connection)))
    return {name: values[1:] for name, values in took.items()}


def first_reads(workspace: Workspace, runs: int) -> list[float]:
    """Milliseconds until a dashboard that starts has the whole queue."""
    with contextlib.closing(db.open_store(workspace)) as connection:
        return [timed(lambda: Jobs().read(connection)) for _ in range(runs)]


def timed(work: Callable[[], object]) -> float:
    """Milliseconds that it takes."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description="Export and slices of a workspace with 100,000 attempts.")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    runs = 1 if parser.parse_args().quick else 5
    whole = f"{FEW * TIMES:,} attempts"
    with tempfile.TemporaryDirectory(prefix="isobench-store-") as folder:
        start = time.perf_counter()
        sides = {count: make(Path(folder) / str(count), count) for count in (1, TIMES)}
        print(f"made in {time.perf_counter() - start:.0f} s", flush=True)
        took: dict[str, list[float]] = {}
        for _ in range(runs):
            for times, workspace in sides.items():
                for fmt in ("json", "csv", "md"):
                    name = f"export --format {fmt}, {FEW * times:,} attempts"
                    took.setdefault(name, []).append(1000 * export(workspace, fmt, Path(folder) / "out"))
        read = slices(sides[TIMES], 3 * runs)
        took |= {f"{name}, {whole}": values for name, values in read.items()}
        for times, workspace in sides.items():
            took[f"the whole queue, {FEW * times:,} attempts"] = first_reads(workspace, runs)
    print(f"Python {sys.version.split()[0]}; milliseconds")
    print_table(("what", "runs", "median", "least", "most"), [(name, *spread(took[name])) for name in took])
    return settle(
        Bar("export_100k_s", statistics.median(took[f"export --format json, {whole}"]) / 1000, "<=", EXPORT_S),
        Bar("slice_100k_ms", max(statistics.median(values) for values in read.values()), "<=", SLICE_MS),
    )


if __name__ == "__main__":
    sys.exit(main())
