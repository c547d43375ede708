"""`rebuild`: back to a sound database, and the run directories that it lacks collected again."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from isobench_tui.report.text import safe
from isobench_tui.store import backups, commands, db, events, query
from isobench_tui.store.answer import FAILURES, OK, USAGE, Rejected
from isobench_tui.store.workspace import Workspace, find

if TYPE_CHECKING:
    import sqlite3


def rebuild(options: argparse.Namespace) -> int:
    """0: every run directory is in the store; 1: some could not be collected."""
    workspace = find(options.workspace)
    if not workspace.root.is_dir():
        raise Rejected(f"{workspace.root}: no such workspace", USAGE)
    with workspace.lock("isobench rebuild"):
        restored = _restore(workspace, options.backup)
        with contextlib.closing(db.create_store(workspace)) as connection:
            if restored is not None:
                with db.transaction(connection):
                    events.add(connection, "rebuilt", restored, actor=commands.actor())
            for file in options.files:
                _submit(connection, file)
            left = _collect(workspace, connection)
            unfinished = query.unfinished(connection)
    if unfinished:
        print(f"`isobench run --workspace {workspace.root}` goes on with what is unfinished")
    return FAILURES if left else OK


def _restore(workspace: Workspace, chosen: str | None) -> str | None:
    """Put a backup in the database's place where that is asked for or needed; the sentence for the story."""
    wrong = backups.trouble(workspace.database) if workspace.database.exists() else "there is no database"
    if chosen is None and wrong is None:
        print(f"{workspace.database} is sound")
        return None
    source = Path(chosen) if chosen is not None else backups.newest_sound(workspace)
    if wrong is not None:
        print(f"{workspace.database}: {safe(wrong)}")
    if source is None:
        old = backups.set_aside(workspace)
        text = "began with an empty database: there is no sound backup"
    elif not source.is_file():
        raise Rejected(f"{source}: no such file", USAGE)
    else:
        old = backups.restore(workspace, source)
        text = f"went back to {source}"
    text += f"; the old database is {old}" if old else ""
    print(text)
    return text


def _submit(connection: sqlite3.Connection, file: str) -> None:
    from isobench_tui.campaign.load import load
    from isobench_tui.store.submit import submit

    submission = load(Path(file))
    with db.transaction(connection):
        print(submit(connection, submission, commands.actor()).text)


def _collect(workspace: Workspace, connection: sqlite3.Connection) -> int:
    """Collect what the store lacks; how many directories could not be."""
    from isobench_tui.runner.rebuild import collect_again, lost

    mine, others = lost(connection, workspace)
    for one in mine:
        found = collect_again(connection, workspace, one)
        print(f"{found.attempt}: {found.text}", flush=True)
    for other in others:
        print(f"{safe(other.attempt)}: left alone: {other.text}")
    print(f"{len(mine)} attempts collected or left to the runner, {len(others)} directories left alone")
    return len(others)
