"""Run the demo and take pictures of the dashboard on it; what scripts/screenshots calls."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from isobench_tui.store.clock import seconds
from isobench_tui.store.workspace import Workspace
from isobench_tui.tui.app import Dashboard
from isobench_tui.tui.board import Board
from isobench_tui.tui.feed import Feed
from isobench_tui.tui.settings import Settings
from isobench_tui.tui.source import Source

REPO = Path(__file__).resolve().parents[1]
SIZE = (150, 42)
WITHIN_S = 900.0
PAINTED_S = 4.0
"""By then a tab that was opened has been read and drawn."""
MEASURED_S = 2.5
"""By then the little graph of tokens per second has something to show."""


async def until(pilot: Pilot[None], condition: Callable[[Board], bool]) -> None:
    """Turn the event loop until the screen's snapshot is so. Raises TimeoutError."""
    async with asyncio.timeout(WITHIN_S):
        while not (isinstance(pilot.app.screen, Board) and condition(pilot.app.screen)):
            await pilot.pause(0.1)


async def pictures(workspace: Path) -> None:
    """While a job behind the 19th measures, and once all have ended."""
    app = Dashboard(Feed(Source(Workspace(workspace))), Settings(alerts="none"), readonly=True)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("1")
        await until(pilot, lambda board: ended(board) >= 19 and measures(board))
        await pilot.pause()
        save(app, "dashboard")
        await until(pilot, lambda board: 0 < ended(board) == len(board.snapshot.jobs))
        await pilot.press("2", "z")
        await pilot.pause(PAINTED_S)
        save(app, "leaderboard")


def ended(board: Board) -> int:
    return sum(job.state == "done" for job in board.snapshot.jobs)


def measures(board: Board) -> bool:
    """Whether an attempt has told tokens per second for a while."""
    lives = [one.live for one in board.snapshot.running if one.live is not None]
    return any(live.tokens_per_s and time.time() - seconds(live.since) > MEASURED_S for live in lives)


def save(app: Dashboard, name: str) -> None:
    file = REPO / "docs" / f"{name}.svg"
    file.write_text(app.export_screenshot(title="isobench") + "\n")
    sys.stdout.write(f"wrote {file}\n")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="isobench-demo-") as folder:
        workspace = Path(folder) / "workspace"
        argv = [sys.executable, "-m", "isobench_tui", "demo", "--plain", "--workspace", str(workspace)]
        demo = subprocess.Popen(argv, cwd=REPO, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert demo.stdout is not None
        for line in demo.stdout:
            if "the runner starts" in line:
                break
        try:
            asyncio.run(pictures(workspace))
        finally:
            demo.communicate()
    return demo.returncode


if __name__ == "__main__":
    sys.exit(main())
