"""What `dashboard_log.py` runs in processes of their own: the log pane, or Textual's RichLog, under a load.

python benchmarks/log_sides.py flood pane|richlog RUN_DIR SECONDS    on a terminal; prints to the file RUN_DIR/../out
python benchmarks/log_sides.py open RUN_DIR NEEDLE LINES             without one; prints JSON
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from textual.app import App, ComposeResult
from textual.widgets import RichLog
from toolong_peer import resident_mb

from isobench_tui.tui.log.match import compile_pattern
from isobench_tui.tui.log.pane import LogPane

LOG = "server.log"
WARM_S = 3.0
BEAT_S = 0.01
FEWEST = 10
"""Beats, however late they are: a side that cannot keep up is measured for longer."""


class Flood(App[None]):
    """One widget that follows a log, and a heart that feels how late the event loop is."""

    def __init__(self, side: str, run_dir: Path, seconds: float) -> None:
        super().__init__()
        self._side, self._run_dir, self._seconds = side, run_dir, seconds
        self._shown = 0

    def compose(self) -> ComposeResult:
        if self._side == "pane":
            yield LogPane(self._run_dir.parent / "saved")
        else:
            yield RichLog(max_lines=10_000)

    def on_mount(self) -> None:
        if self._side == "pane":
            self.query_one(LogPane).show_attempt(self._run_dir, (LOG,))
        else:
            self.run_worker(self._tail())
        self.run_worker(self._measure())

    async def _tail(self) -> None:
        """Feed the RichLog as fast as it takes lines, letting the loop breathe ten times a second."""
        log, rest = self.query_one(RichLog), b""
        with (self._run_dir / LOG).open("rb") as file:
            while True:
                *lines, rest = (rest + file.read(512 * 1024)).split(b"\n")
                until = time.monotonic() + 0.1
                for line in lines:
                    log.write(line.decode())
                    self._shown += 1
                    if time.monotonic() > until:
                        await asyncio.sleep(0.005)
                        until = time.monotonic() + 0.1
                await asyncio.sleep(0.05)

    def _lines(self) -> int:
        """Lines of the log that have been taken in."""
        return self.query_one(LogPane)._state.lines if self._side == "pane" else self._shown

    async def _measure(self) -> None:
        await asyncio.sleep(WARM_S)
        lags: list[float] = []
        cpu, start, lines = time.process_time(), time.monotonic(), self._lines()
        while (now := time.monotonic()) < start + self._seconds or len(lags) < FEWEST:
            await asyncio.sleep(BEAT_S)
            lags.append(time.monotonic() - now - BEAT_S)
        end = time.monotonic()
        found = {
            "start": start,
            "end": end,
            "lines_s": (self._lines() - lines) / (end - start),
            "cpu_percent": 100 * (time.process_time() - cpu) / (end - start),
            "p50_ms": 1000 * statistics.median(lags),
            "p99_ms": 1000 * statistics.quantiles(lags, n=100, method="inclusive")[98],
            "max_ms": 1000 * max(lags),
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        }
        (self._run_dir.parent / "out").write_text(json.dumps(found))
        self.exit()


class Open(App[None]):
    """The pane without a terminal."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self._run_dir = run_dir

    def compose(self) -> ComposeResult:
        yield LogPane(self._run_dir.parent / "saved")


async def until(what: Callable[[], object]) -> None:
    while not what():  # noqa: ASYNC110 - no event is set for what is seen on a screen
        await asyncio.sleep(0.002)


async def measure(run_dir: Path, needle: str, count: int) -> dict[str, float]:
    app = Open(run_dir)
    async with app.run_test(size=(160, 48)) as pilot:
        pane = app.query_one(LogPane)
        await pilot.pause()
        before, started = resident_mb(), time.perf_counter()
        pane.show_attempt(run_dir, (LOG,))
        await until(lambda: pane.view.lines)
        first = time.perf_counter() - started
        await until(lambda: pane._state.share == 1 and pane._state.lines == count)
        opened = time.perf_counter() - started
        memory = resident_mb() - before
        reader = pane._reader
        started = time.perf_counter()
        reader.ask(lambda: reader.search(compile_pattern(needle)))
        await until(lambda: (found := pane._state.search) is not None and found.ordinal and found.share == 1)
        searched = time.perf_counter() - started
        hits = pane._state.search
        assert hits is not None
        assert hits.total == 1
        assert pane.view.here is not None
        assert needle in pane.view.here.shown.text
        started = time.perf_counter()
        reader.ask(lambda: reader.filter(compile_pattern("00.[0-9] tokens")))
        await until(lambda: (found := pane._state.filter) is not None and found.share == 1)
        filtered = time.perf_counter() - started
        return {
            "first_s": first, "open_s": opened, "search_s": searched, "filter_s": filtered,
            "memory_mb": memory, "memory_all_mb": resident_mb() - before, "lines": pane._state.lines,
        }  # fmt: skip


def main() -> int:
    if sys.argv[1] == "flood":
        app = Flood(sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]))
        app.run()
        return app.return_code or 0
    print(json.dumps(asyncio.run(measure(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
