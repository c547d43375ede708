"""The dashboard's log pane: a flood of lines on a terminal, ten million lines, a file of a GiB.

    python benchmarks/dashboard_log.py [--quick]

1. Flood: a process writes 10,000 lines a second; the pane follows them on a real terminal of 160x48, and in turn with
   it Textual's RichLog does. How late is the event loop, what does the terminal get, how much of a core does it take?
2. Ten million lines (1 GiB): how long until the end is on the screen, until every line is counted, until all matches
   of a pattern are, and the memory that this adds; in turn with it toolong 1.5 (a pager for logs of the people who
   make Textual) opens and searches the same file. It is installed with pip into an environment of its own under the
   temporary folder; where that cannot be, its half is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import termios
import threading
import time
import venv
from collections.abc import Iterator
from pathlib import Path

from bars import Bar, print_table, settle
from log_sides import LOG, WARM_S

from isobench_tui.runner.logs import LogKeeper
from isobench_tui.store.rundir import RunDir

HERE = Path(__file__).parent
RATE = 10_000
SIZE = (48, 160)
NEEDLE = "the needle in the hay"
GIB = 1024**3
LAG_MS, KB_S, IDLE_B_S, MEMORY_MB = 50, 200, 1000, 50


def lines(first: int, count: int) -> bytes:
    """What vLLM's server writes, about 107 bytes a line."""
    return b"".join(
        b"INFO 01-24 14:%02d:%02d [loggers.py:118] Engine 000: Avg generation throughput: %d.%d tokens/s, "
        b"Running: %d\n" % (n // 60 % 60, n % 60, n * 37 % 1000, n % 10, n)
        for n in range(first, first + count)
    )


class Writer(threading.Thread):
    """Writes a log at a steady rate until told to stop, and its index as the runner does."""

    def __init__(self, run: RunDir, rate: int) -> None:
        super().__init__(daemon=True)
        self._run, self._rate = run, rate
        self.stopped = threading.Event()

    def run(self) -> None:
        keeper = LogKeeper(self._run, (LOG,), GIB)
        started, written, indexed = time.monotonic(), 0, 0.0
        with (self._run.path / LOG).open("ab", buffering=0) as file:
            while not self.stopped.wait(0.02):
                due = int((time.monotonic() - started) * self._rate) - written
                file.write(lines(written, due))
                written += due
                if time.monotonic() - indexed > 0.2:
                    indexed = time.monotonic()
                    keeper.tick()


def on_terminal(argv: list[str]) -> list[tuple[float, int]]:
    """Run a program on a pseudo-terminal that always reads; (monotonic time, bytes) of all that it wrote."""
    main, side = pty.openpty()
    termios.tcsetwinsize(side, SIZE)
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "TEXTUAL_FPS": "10"}
    process = subprocess.Popen(argv, stdin=side, stdout=side, stderr=side, env=env, start_new_session=True)
    os.close(side)
    found = []
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while data := os.read(main, 65536):
            found.append((time.monotonic(), len(data)))
    os.close(main)
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(argv)} ended with {process.returncode}")
    return found


def flood(folder: Path, side: str, rate: int, seconds: float) -> dict[str, float]:
    """One side under the flood."""
    run = RunDir(folder / f"{side}-{rate}-{time.monotonic_ns()}" / "run")
    run.create((LOG,))
    (run.path / LOG).write_bytes(lines(0, 1000))
    writer = Writer(run, rate)
    if rate:
        writer.start()
    sent = on_terminal([sys.executable, str(HERE / "log_sides.py"), "flood", side, str(run.path), str(seconds)])
    writer.stopped.set()
    found: dict[str, float] = json.loads((run.path.parent / "out").read_text())
    total = sum(size for at, size in sent if found["start"] <= at <= found["end"])
    found["kb_s"] = total / (found["end"] - found["start"]) / 1000
    return found


def big_log(path: Path, size: int) -> int:
    """A log of at least `size` bytes, the needle last; how many lines it has."""
    part = lines(100_000, 50_000)
    times = -(-size // len(part))
    with path.open("wb") as file:
        for _ in range(times):
            file.write(part)
        file.write(NEEDLE.encode() + b"\n")
    return times * 50_000 + 1


def ask(argv: list[str]) -> dict[str, float]:
    """The JSON that a program prints."""
    found: dict[str, float] = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    return found


def toolong(folder: Path) -> Path | None:
    """The interpreter of an environment with toolong; None, and why on the terminal, where there can be none."""
    python = folder / "toolong" / "bin" / "python"
    try:
        venv.create(folder / "toolong", with_pip=True)
        argv = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "toolong==1.5.0"]
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=300)
    except (subprocess.SubprocessError, OSError) as error:
        why = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        print(f"toolong is left out: it could not be installed ({' '.join(why)})")
        return None
    return python


def rounds(folder: Path, path: Path, count: int, times: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Both sides in turn."""
    peer = toolong(folder)
    ours = [sys.executable, str(HERE / "log_sides.py"), "open", str(path.parent), NEEDLE, str(count)]
    for _ in range(times):
        yield "pane", ask(ours)
        if peer is not None:
            yield "toolong", ask([str(peer), str(HERE / "toolong_peer.py"), str(path), NEEDLE, str(count)])


def floods(folder: Path, *, quick: bool) -> list[Bar]:
    """The first part."""
    seconds, times = (3.0, 1) if quick else (10.0, 3)
    plan = [("pane", RATE), ("richlog", RATE), ("pane", 0)]
    measured: dict[tuple[str, int], list[dict[str, float]]] = {key: [] for key in plan}
    for _ in range(times):
        for side, rate in plan:
            measured[side, rate].append(flood(folder, side, rate, seconds))
    middle = {
        key: {name: statistics.median(one[name] for one in found) for name in found[0]}
        for key, found in measured.items()
    }
    names = {("pane", RATE): "log pane", ("richlog", RATE): "RichLog", ("pane", 0): "log pane, idle"}
    print(
        f"{RATE:,} lines/s on a terminal of {SIZE[1]}x{SIZE[0]}, "
        f"{times} x {seconds:.0f} s after {WARM_S:.0f} s; medians"
    )
    print_table(
        ("side", "lag p50 ms", "p99 ms", "max ms", "kB/s", "CPU %", "peak MB"),
        [
            (
                names[key], f"{one['p50_ms']:.1f}", f"{one['p99_ms']:.1f}", f"{one['max_ms']:.0f}",
                f"{one['kb_s']:.1f}", f"{one['cpu_percent']:.0f}", f"{one['memory_mb']:.0f}",
            )
            for key, one in middle.items()
        ],
    )  # fmt: skip
    ours = middle["pane", RATE]
    return [
        Bar("log_flood_lag_p99_ms", ours["p99_ms"], "<=", LAG_MS),
        Bar("log_flood_kb_s", ours["kb_s"], "<=", KB_S),
        Bar("log_idle_b_s", middle["pane", 0]["kb_s"] * 1000, "<=", IDLE_B_S),
    ]


def giants(folder: Path, *, quick: bool) -> list[Bar]:
    """The second part."""
    path = folder / "big" / LOG
    path.parent.mkdir()
    count = big_log(path, GIB // 16 if quick else GIB)
    found: dict[str, list[dict[str, float]]] = {"pane": [], "toolong": []}
    for side, one in rounds(folder, path, count, 1 if quick else 3):
        found[side].append(one)
    print(f"\n{path.stat().st_size / GIB:.2f} GiB, {count:,} lines; medians of {len(found['pane'])}")

    def middle(side: str, name: str) -> float | None:
        values = [one[name] for one in found[side] if name in one]
        return statistics.median(values) if values else None

    shown = {
        "first_s": "end on the screen s", "open_s": "all lines counted s", "search_s": "needle found s",
        "filter_s": "all matches of a filter s", "memory_mb": "memory added MB",
        "memory_all_mb": "with search, filter MB",
    }  # fmt: skip
    rows = []
    for side, ones in found.items():
        if ones:
            values = [middle(side, name) for name in shown]
            rows.append((side, *("" if value is None else f"{value:.2f}" for value in values)))
    print_table(("side", *shown.values()), rows)
    bars = [Bar("log_memory_mb", middle("pane", "memory_all_mb") or 0.0, "<=", MEMORY_MB)]
    for name in ("open", "search"):
        theirs, ours = middle("toolong", f"{name}_s"), middle("pane", f"{name}_s")
        if theirs is not None and ours:
            bars.append(Bar(f"log_{name}_times_toolong", theirs / ours, ">=", 2))
    return bars


def main() -> int:
    parser = argparse.ArgumentParser(description="The dashboard's log pane under load.")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; 64 MiB instead of a GiB")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="isobench-log-") as name:
        folder = Path(name)
        return settle(*floods(folder, quick=quick), *giants(folder, quick=quick))


if __name__ == "__main__":
    sys.exit(main())
