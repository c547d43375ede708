"""`snapshot`: a consistent copy of a workspace, also while its runner writes."""

from __future__ import annotations

import argparse
from pathlib import Path

from isobench_tui.store import db
from isobench_tui.store.answer import OK, Rejected
from isobench_tui.store.copying import copy_run
from isobench_tui.store.rundir import RunDir
from isobench_tui.store.workspace import Workspace, find


def snapshot(options: argparse.Namespace) -> int:
    """Database first, by SQLite's backup API; then every plain file of the run directories that it names."""
    source = find(options.workspace)
    connection = db.open_store(source)
    target = Workspace(Path(options.target).absolute())
    if target.root.exists():
        raise Rejected(f"{target.root} exists already; name a new folder")
    target.create()
    db.backup(connection, target.database)
    copy = db.connect(target.database)
    attempts = [row["id"] for row in copy.execute("SELECT id FROM attempts ORDER BY started_at")]
    copy.close()
    copied = sum(copy_run(RunDir(source.run_dir(key)), target.run_dir(key)) for key in attempts)
    print(f"copied {len(attempts)} attempts, {copied} files to {target.root}")
    print(f"`isobench status --workspace {target.root}` reads it")
    return OK
