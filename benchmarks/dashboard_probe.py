"""How late an event loop is: run by `dashboard.py` on a terminal of its own.

    python benchmarks/dashboard_probe.py OUT SECONDS bare
    python benchmarks/dashboard_probe.py OUT SECONDS WORKSPACE

The dashboard opened as `isobench attach` opens it, or Textual with one label. Writes JSON to OUT: `late`, a list of
milliseconds, and `cpu_percent`, of one core.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from textual.app import App, ComposeResult
from textual.widgets import Label

STEP_S = 0.01
WARM_S = 4.0
"""Starting is measured apart."""
READY = "BARE-TEXTUAL"


class Bare(App[None]):
    """Textual as it is."""

    BINDINGS = [("q", "quit", "Quit")]  # noqa: RUF012 - Textual's is no class variable

    def compose(self) -> ComposeResult:
        yield Label(READY)


async def lateness(app: App[Any], out: Path, seconds: float) -> None:
    """How much longer than asked each short sleep took; ends the app."""
    await asyncio.sleep(WARM_S)
    found = []
    cpu, end = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.perf_counter()
        await asyncio.sleep(STEP_S)
        found.append((time.perf_counter() - before - STEP_S) * 1000)
    used = 100 * (time.process_time() - cpu) / seconds
    out.write_text(json.dumps({"late": found, "cpu_percent": used}))  # noqa: ASYNC240 - nothing is measured any more
    app.exit()


def main() -> int:
    out, seconds, what = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    if what == "bare":
        app = Bare()
        app.call_later(lambda: app.run_worker(lateness(app, out, seconds)))
        app.run()
        return 0
    from isobench_tui.cli.main import main as isobench
    from isobench_tui.tui.app import Dashboard

    mount = Dashboard.on_mount

    async def on_mount(self: Dashboard) -> None:
        await mount(self)
        self.run_worker(lateness(self, out, seconds))

    Dashboard.on_mount = on_mount  # type: ignore[method-assign]
    return isobench(["attach", "--readonly", "--workspace", what])


if __name__ == "__main__":
    sys.exit(main())
