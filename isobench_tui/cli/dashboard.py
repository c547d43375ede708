"""The door to the dashboard: whether there is a terminal for it, and what is said once it is closed."""

from __future__ import annotations

import argparse
import functools
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from isobench_tui.cli.main import INTERRUPTED
from isobench_tui.store import query
from isobench_tui.store.answer import OK

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from isobench_tui.store.workspace import Workspace

CRASHED = 70
"""Exit code of a dashboard that met a fault of ours (EX_SOFTWARE of sysexits.h)."""
FPS, FPS_SSH = 10, 5
GC = 100_000, 20, 100
"""Objects made before garbage is looked for. Python's 700 cost a sixth of the time to the first screen, and a pause
each time that all jobs of a long campaign are looked through."""


def wanted(options: argparse.Namespace) -> bool:
    """Whether to open it: not with --plain, and only where a terminal can show it (Textual paints on stderr)."""
    dumb = os.environ.get("TERM", "dumb") in {"", "dumb", "unknown"}
    return not options.plain and not dumb and sys.stdin.isatty() and sys.stderr.isatty()


def show(
    options: argparse.Namespace,
    workspace: Workspace,
    connection: sqlite3.Connection,
    campaign: str | None,
    *,
    start_runner: Callable[[], None] | None,
) -> bool:
    """Open it until it is closed. False: the campaign goes on. Raises SettingsError, SystemExit after a crash."""
    gc.set_threshold(*GC)
    from isobench_tui.tui import settings
    from isobench_tui.tui.feed import Feed
    from isobench_tui.tui.source import Source

    found = settings.load({"theme": options.theme, "fps": options.fps}).settings
    exports = Path(found.export_dir).expanduser() if found.export_dir else None
    feed = Feed(Source(workspace, campaign, exports))
    feed.begin()
    slow = "SSH_CONNECTION" in os.environ or "SSH_TTY" in os.environ
    # Textual reads these when it is imported
    os.environ["TEXTUAL_FPS"] = str(found.fps or (FPS_SSH if slow else FPS))
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    from isobench_tui.tui.app import Dashboard

    start = None if start_runner is None else functools.partial(start_runner)
    app = Dashboard(feed, found, readonly=options.readonly, start_runner=start)
    app.run(mouse=found.mouse)
    if app.stuck:
        os._exit(INTERRUPTED)  # an ordinary end would wait for the terminal: the interpreter flushes what is left
    if app.report is not None:
        print(f"isobench: the dashboard met a fault of its own; the report is in {app.report}", file=sys.stderr)
        print("isobench: the campaign is not touched by it", file=sys.stderr)
        raise SystemExit(CRASHED)
    return not query.waiting(connection, campaign)


def detached(where: str) -> int:
    """What is said when the dashboard was closed before the end."""
    print(f"detached; the campaign goes on. `isobench attach{where}` comes back")
    return OK
