"""What the dashboard costs on a real terminal of 160x48, with a long campaign behind it.

    python benchmarks/dashboard.py [--quick]

1. First paint: from exec until rows of the queue were written to the terminal, with 10,000 attempts in the store; in
   turn with it a short campaign, and Textual with one label, of which nothing is ours.
2. Refresh: how late the event loop is while phases start and end twice a second among 10,000 attempts; in turn with
   it Textual with one label.
3. Flood: the same, and bytes a second to the terminal, while the log that is followed grows by 10,000 lines a second.
4. Bytes a second to the terminal: with nothing going on, and while a job is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bars import Bar, print_table, settle, spread
from dashboard_log import RATE, lines
from dashboard_probe import READY, WARM_S
from history import fill

from isobench_tui.store import attempts, db, live, query
from isobench_tui.store.clock import now
from isobench_tui.store.workspace import Workspace

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from bench import A, bench_at, task  # noqa: E402
from terminal import Terminal  # noqa: E402

ATTEMPTS, FEW = 10_000, 30
PAINT_MS, LAG_MS, FLOOD_KB_S, IDLE_B_S = 400, 50, 200, 1000
WRITES_S = 2.0
"""Writes a second: as often as the runner writes while it measures."""
FLOOD_STEPS_S = 50
SETTLE_S = 8.0
"""Until the first screen is whole and its notices, which stay for 6 s, are gone."""
Side = tuple[list[str], dict[str, str], bytes]
"""argv, environment, and what is on the screen once it is of use."""


FOREIGN = "ISOBENCH_", "SSH_", "TEXTUAL_", "PYTHON"
"""Variables that would change the dashboard, or (PYTHONDONTWRITEBYTECODE) have it compiled anew at each start."""


def environment(folder: Path) -> dict[str, str]:
    """This user's, without what would change what is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, "XDG_CONFIG_HOME": str(folder / "config"), "TERM": "xterm-256color", "COLORTERM": "truecolor"}


@contextlib.contextmanager
def opened(side: Side) -> Iterator[Terminal]:
    terminal = Terminal(side[0], side[1], emulate=False)
    try:
        yield terminal
    finally:
        terminal.close()


def first_paint(side: Side) -> float:
    """Milliseconds from exec until its text was written."""
    start = time.perf_counter()
    with opened(side) as terminal:
        terminal.until(lambda: side[2] in terminal.raw, f"{side[2]!r} on the terminal")
        took = (time.perf_counter() - start) * 1000
        terminal.press("q")
        terminal.ends(seconds=60.0)
    return took


def attach(folder: Path, workspace: Workspace) -> Side:
    """The dashboard; of use is it with a row of the queue."""
    with contextlib.closing(db.open_store(workspace)) as connection:
        first = query.jobs(connection)[0]
    isobench = str(Path(sys.executable).with_name("isobench"))
    argv = [isobench, "attach", "--readonly", "--workspace", str(workspace.root)]
    return argv, environment(folder), f"{first['commit_sha'][:8]} {first['agent'] or first['arm']}".encode()


def bare(folder: Path) -> Side:
    argv = [sys.executable, str(HERE / "dashboard_probe.py"), str(folder / "nowhere"), "600", "bare"]
    return argv, environment(folder), READY.encode()


def paints(sides: dict[str, Side], runs: int) -> dict[str, list[float]]:
    """In turn, each once before it counts: files into the page cache, bytecode written."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        first_paint(side)
    for _ in range(runs):
        for name, side in sides.items():
            took[name].append(first_paint(side))
    return took


class Busy(threading.Thread):
    """Does something so many times a second, beside what is measured."""

    def __init__(self, times_s: float, what: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._times_s, self._what = times_s, what
        self._stopped = threading.Event()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        while not self._stopped.wait(1 / self._times_s):
            self._what()


@contextlib.contextmanager
def moving(workspace: Workspace) -> Iterator[None]:
    """A runner's writes: a phase of an open attempt starts, ends, starts again."""
    with contextlib.closing(db.open_store(workspace)) as connection:
        with db.transaction(connection):
            job = connection.execute("SELECT * FROM jobs WHERE state = 'queued' ORDER BY position").fetchone()
            attempt = attempts.open_attempt(connection, job, 0, "isobench-cpu")
        written = itertools.count()

        def write() -> None:
            with db.transaction(connection):
                if next(written) % 2:
                    attempts.end_phase(connection, attempt, "measure", "ok")
                else:
                    attempts.start_phase(connection, attempt, "measure", 60.0, now())
                phase = live.LivePhase(phase="measure", since=now(), deadline_s=60.0)
                live.put(connection, f"phase/{attempt}", phase, attempt)

        with Busy(WRITES_S, write):
            yield


@dataclass(frozen=True)
class Load:
    """What a dashboard, or what stands for one, does while it is open."""

    late: list[float]
    """Of its event loop, milliseconds."""
    cpu_percent: float
    """Of one core."""
    bytes_s: float
    """To the terminal."""


def load(folder: Path, what: str, seconds: float) -> Load:
    """On a terminal that always reads; `what` is a workspace, or `bare`."""
    out = folder / "probe.json"
    out.unlink(missing_ok=True)
    argv = [sys.executable, str(HERE / "dashboard_probe.py"), str(out), str(seconds), what]
    with opened((argv, environment(folder), b"")) as terminal:
        warm = time.monotonic() + WARM_S
        terminal.until(lambda: time.monotonic() > warm, "it is warm")
        before = len(terminal.raw)
        terminal.ends(seconds=seconds + 60)
        found = json.loads(out.read_text())
        return Load(found["late"], found["cpu_percent"], (len(terminal.raw) - before) / seconds)


def rate(side: Side, seconds: float) -> float:
    """Bytes a second that the terminal gets, once the first screen is painted."""
    with opened(side) as terminal:
        terminal.until(lambda: side[2] in terminal.raw, "the first paint")
        quiet = time.monotonic() + SETTLE_S
        terminal.until(lambda: time.monotonic() > quiet, "it settles")
        before, start = len(terminal.raw), time.monotonic()
        terminal.until(lambda: time.monotonic() - start > seconds, "the time", seconds + 30)
        return (len(terminal.raw) - before) / (time.monotonic() - start)


def measuring(folder: Path, seconds: float) -> tuple[float, Load]:
    """While the runner measures a job: bytes a second, and the load while its log is flooded."""
    (folder / "bench").mkdir()
    with bench_at(folder / "bench") as bench:
        gate = bench.gate()
        bench.cli("run", bench.write(task(A, GATE=str(gate)), timeouts='measure = "10m"'), "--detach")
        bench.reached(gate)
        argv, environ, _ = attach(folder, bench.workspace)
        calm = rate((argv, environ, b"measure"), seconds)  # the row of what runs is in several styles
        (row,) = bench.rows("SELECT id FROM attempts")
        written = itertools.count(0, RATE // FLOOD_STEPS_S)
        with (bench.workspace.run_dir(row["id"]) / "client-00.log").open("ab", buffering=0) as log:
            flood = Busy(FLOOD_STEPS_S, lambda: log.write(lines(next(written), RATE // FLOOD_STEPS_S)))
            with flood:
                return calm, load(folder, str(bench.workspace.root), seconds)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def show(took: dict[str, list[float]], loads: dict[str, Load], rates: dict[str, float]) -> None:
    """The three tables."""
    print_table(("first paint, ms", "runs", "median", "least", "most"), [(n, *spread(v)) for n, v in took.items()])
    print()
    late = [
        (
            name, *(f"{x:.1f}" for x in (statistics.median(one.late), p99(one.late), max(one.late))),
            f"{one.cpu_percent:.0f}", f"{one.bytes_s:.0f}",
        )
        for name, one in loads.items()
    ]  # fmt: skip
    print_table(("event loop is late by, ms", "median", "p99", "most", "CPU %", "bytes/s"), late)
    print()
    print_table(("to the terminal", "bytes/s"), [(name, f"{value:.0f}") for name, value in rates.items()])


def main() -> int:
    parser = argparse.ArgumentParser(description="What the dashboard costs on a real terminal.")
    parser.add_argument("--quick", action="store_true", help="5 first paints instead of 15, 10 s instead of 30 s")
    quick = parser.parse_args().quick
    runs, seconds = (5, 10.0) if quick else (15, 30.0)
    with tempfile.TemporaryDirectory(prefix="isobench-dashboard-") as name:
        folder = Path(name)
        spaces = {count: Workspace(folder / str(count)) for count in (FEW, ATTEMPTS)}
        for count, workspace in spaces.items():
            fill(workspace, count).close()
        many = spaces[ATTEMPTS]
        sides = {"Textual, one label": bare(folder)}
        sides |= {f"isobench attach, {count} attempts": attach(folder, spaces[count]) for count in spaces}
        took = paints(sides, runs)
        rates = {"nothing goes on": rate(attach(folder, many), seconds)}
        loads = {"Textual, one label": load(folder, "bare", seconds)}
        with moving(many):
            loads["dashboard, store moves"] = moves = load(folder, str(many.root), seconds)
        rates["a job is measured"], flood = measuring(folder, seconds)
        loads[f"dashboard, {RATE} lines/s"] = flood
    show(took, loads, rates)
    return settle(
        Bar("first_paint_ms", statistics.median(took[list(sides)[-1]]), "<=", PAINT_MS),
        Bar("refresh_lag_p99_ms", p99(moves.late), "<=", LAG_MS),
        Bar("flood_lag_p99_ms", p99(flood.late), "<=", LAG_MS),
        Bar("flood_kb_s", flood.bytes_s / 1000, "<=", FLOOD_KB_S),
        Bar("idle_bytes_s", rates["nothing goes on"], "<=", IDLE_B_S),
    )


if __name__ == "__main__":
    sys.exit(main())
