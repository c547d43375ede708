"""Copies of the database in `backups/`, and of the workspace on another mount; finding a sound one, going back to it.

`python -m isobench_tui.store.backups WORKSPACE TO` mirrors a workspace: a process of its own, because nothing can be
done about a thread that hangs on a dead mount.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from isobench_tui.store import db
from isobench_tui.store.copying import copy_run
from isobench_tui.store.rundir import RunDir
from isobench_tui.store.workspace import Workspace, WorkspaceError

EVERY_S = 3600.0
"""Seconds between two online backups of a living runner."""
HOURLY = 24
"""The newest backups are all kept, so many of them."""
DAILY = 14
"""Of older ones the newest of each day, so many days."""
MIGRATIONS = 3
"""Copies from before a migration that are kept."""

_ONLINE = "isobench-*Z.db"
_BEFORE = "isobench-v*.db"


class Damaged(db.StoreError):
    """The database is not sound; the message offers the way back."""


def take(connection: sqlite3.Connection, workspace: Workspace) -> Path:
    """One online backup now; old ones beyond what is kept go. Raises OSError, sqlite3.Error."""
    workspace.backups.mkdir(mode=0o700, exist_ok=True)
    for part in workspace.backups.glob("*.part"):  # of a runner that was killed over it
        part.unlink(missing_ok=True)
    target = workspace.backups / f"isobench-{time.strftime('%Y-%m-%dT%H%M%SZ', time.gmtime())}.db"
    db.backup(connection, target)
    for path in surplus(online(workspace)):
        path.unlink(missing_ok=True)
    for path in sorted(workspace.backups.glob(_BEFORE), key=_age, reverse=True)[MIGRATIONS:]:
        path.unlink(missing_ok=True)
    return target


def online(workspace: Workspace) -> list[Path]:
    """The online backups, newest first; their names are their times."""
    found = (path for path in workspace.backups.glob(_ONLINE) if not path.match(_BEFORE))
    return sorted(found, key=lambda path: path.name, reverse=True)


def surplus(newest_first: list[Path]) -> list[Path]:
    """Which of them are not kept."""
    days: dict[str, None] = {}
    gone = []
    for path in newest_first[HOURLY:]:
        day = path.name[len("isobench-") : len("isobench-") + 10]
        if day in days or len(days) >= DAILY:
            gone.append(path)
        else:
            days[day] = None
    return gone


def due(workspace: Workspace) -> bool:
    """Whether the newest online backup is older than EVERY_S, or from a clock that was ahead of ours."""
    newest = next(iter(online(workspace)), None)
    if newest is None:
        return True
    with contextlib.suppress(OSError):
        return not 0 <= time.time() - _age(newest) < EVERY_S
    return True


def trouble(path: Path, mode: str = "ro") -> str | None:
    """What is wrong with a database file; None if it is sound (PRAGMA quick_check) and has our tables.

    `mode`: "rw" may first undo what a power cut left half done, which SQLite does to no file that it may only read.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)) as connection:
            said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if said != "ok":
                return " ".join(str(said).split())
            for table in ("meta", "jobs", "attempts"):
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1")
    except sqlite3.Error as error:
        return str(error)
    return None


def _blank(path: Path) -> bool:
    """Whether nobody has put a table into it: what a power cut leaves of a database that was just being made."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    except sqlite3.Error:
        return False


def newest_sound(workspace: Workspace) -> Path | None:
    """The newest backup that is sound, of whatever kind."""
    found = sorted(workspace.backups.glob("isobench-*.db"), key=_age, reverse=True)
    return next((path for path in found if trouble(path) is None), None)


def verify(workspace: Workspace) -> None:
    """Check the database before anything is built on it. Raises Damaged; one that is missing or blank is sound."""
    if not workspace.database.exists() or not workspace.database.stat().st_size:
        return
    wrong = trouble(workspace.database, "rw")
    if wrong is not None and not _blank(workspace.database):
        raise Damaged(f"{workspace.database} is damaged: {wrong}; {way_back(workspace)}")


def way_back(workspace: Workspace) -> str:
    """What an operator with a damaged database does now, with the exact command."""
    sound = newest_sound(workspace)
    if sound is None:
        return (
            f"there is no sound backup of it; `isobench rebuild --workspace {workspace.root} FILE …` makes a new one "
            "from campaign files and run directories"
        )
    at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(_age(sound)))
    return (
        f"the last good backup is of {at}: `isobench rebuild --workspace {workspace.root} --from {sound}` goes back "
        "to it and collects again what ended since"
    )


def set_aside(workspace: Workspace) -> Path | None:
    """Move the database, with its journal, to `backups/damaged-…`; where it lies now, None if there was none."""
    stamp = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    target = workspace.backups / f"damaged-{stamp}.db"
    moved = None
    for suffix in ("-wal", "-shm", ""):  # the file itself last: without it the other two mean nothing
        path = workspace.database.with_name(workspace.database.name + suffix)
        if path.exists():
            path.replace(target.with_name(target.name + suffix))
            moved = target
    return moved


def restore(workspace: Workspace, source: Path) -> Path | None:
    """Put a copy of a backup in the database's place; where the old one lies now. Raises Damaged, OSError."""
    wrong = trouble(source)
    if wrong is not None:
        raise Damaged(f"{source} is no sound backup: {wrong}")
    fresh = workspace.root / "isobench.db.restored"
    with contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        db.backup(connection, fresh)
    old = set_aside(workspace)
    fresh.replace(workspace.database)
    return old


# ------------------------------------------------------------------------------------------------- another mount


def mirror(workspace: Workspace, to: Path) -> int:
    """Bring `to`/<workspace's uuid> up to date: the database, and every closed attempt's run directory, each once.

    What lies there is a workspace: `isobench status --workspace` reads it, `isobench run` goes on with it. Returns
    how many run directories were copied. Raises WorkspaceError, OSError, sqlite3.Error.
    """
    if not to.is_dir():  # made by us, it would lie beside the mount that is not there
        raise WorkspaceError(f"{to} does not exist; is it mounted?")
    with contextlib.closing(db.open_store(workspace)) as connection:
        target = Workspace(to / str(db.meta(connection, "uuid")))
        for folder in (target.root, target.runs, target.backups):
            folder.mkdir(mode=0o700, exist_ok=True)
        with _alone(target.root / "mirror.lock"):
            db.backup(connection, target.database)
            closed = connection.execute("SELECT id FROM attempts WHERE state = 'closed'").fetchall()
            return sum(_mirror_run(workspace, target, row["id"]) for row in closed)


def _mirror_run(workspace: Workspace, target: Workspace, attempt: str) -> bool:
    """Copy a run directory under a temporary name, so that one which is there is whole."""
    final = target.run_dir(attempt)
    source = RunDir(workspace.run_dir(attempt))
    if final.exists() or not source.names():
        return False
    part = target.runs / f".{attempt}.part"
    shutil.rmtree(part, ignore_errors=True)
    copy_run(source, part)
    part.rename(final)
    return True


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait for whoever mirrors there now: a runner that was killed leaves its last mirror at work."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _age(path: Path) -> float:
    return path.stat().st_mtime


def main() -> int:
    """Mirror once; the reason of a failure is the last line of standard error."""
    os.umask(0o077)
    with contextlib.suppress(OSError):
        os.nice(19)
    try:
        mirror(Workspace(Path(sys.argv[1])), Path(sys.argv[2]))
    except (WorkspaceError, OSError, sqlite3.Error) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the runner reads it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
