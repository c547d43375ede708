"""What the tabs read when they are looked at. Each call opens its own connection: it runs in a worker's thread."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from isobench_tui.store import commands, db
from isobench_tui.store.answer import Answer
from isobench_tui.store.workspace import Workspace

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """The workspace as panes may use it: questions to the store, files of run directories, commands."""

    workspace: Workspace
    campaign: str | None = None
    """Only this campaign is shown."""
    export_dir: Path | None = None
    """Where copies and exports go, if not into the workspace."""

    @property
    def exports(self) -> Path:
        """Where copies, saved logs and exports go; made when the first one is written."""
        return self.export_dir or self.workspace.root / "exports"

    def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query in one read transaction. Raises WorkspaceError, sqlite3.Error."""
        with contextlib.closing(db.open_store(self.workspace)) as connection, db.snapshot(connection):
            return query(connection)

    def run_dir(self, attempt: str) -> Path:
        """Everything in it is hostile: read it through `store.rundir` only."""
        return self.workspace.run_dir(attempt)

    def command(self, name: str, args: dict[str, object]) -> Answer:
        """Send a command and wait for its answer. Raises Rejected where it cannot be sent."""
        with contextlib.closing(db.open_store(self.workspace)) as connection:
            return commands.call(self.workspace, connection, name, args)
