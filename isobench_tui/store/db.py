"""Opening the database: one writer, any number of readers, all of them on SQLite's WAL."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from isobench_tui.store import schema
from isobench_tui.store.clock import now
from isobench_tui.store.workspace import Workspace, WorkspaceError

BUSY_S = 10.0
"""Seconds that a connection waits for another's write transaction; ours are all short."""

_NO_ROOM = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
}


class StoreError(WorkspaceError):
    """The database cannot be used; the message says why and what to do."""


class NoStore(StoreError):
    """There is no database in the workspace yet."""


class _OfCopy(sqlite3.Connection):
    """A connection to a private copy of a database, which goes when it is closed, at the latest with the process."""

    folder: Path | None = None

    def close(self) -> None:
        import shutil

        super().close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def connect(path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """A connection with our pragmas, autocommit (transactions are explicit), rows by name."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False, factory=factory
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def tuples(connection: sqlite3.Connection, query: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
    """The rows of a query as plain tuples: where there are many, a row by name costs more than all else about it."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(query, values)


def open_store(workspace: Workspace) -> sqlite3.Connection:
    """Open the workspace's database for reading and for writing commands.

    Raises NoStore where there is none, StoreError where its schema is not ours.
    """
    if not workspace.database.exists():
        raise NoStore(f"no campaign was ever run in {workspace.root}; start one with `isobench run FILE`")
    try:
        connection = connect(workspace.database) if writable(workspace) else _private_copy(workspace)
        version = _version(connection)
        ours = _is_ours(connection, version)
    except sqlite3.DatabaseError as error:
        raise StoreError(_unusable(workspace, error)) from error
    if version != schema.VERSION or not ours:
        connection.close()
        raise StoreError(_mismatch(workspace.database, version))
    return connection


def writable(workspace: Workspace) -> bool:
    """Whether this user may write there; else what is read is a copy, and commands cannot be sent."""
    return os.access(workspace.root, os.W_OK) and os.access(workspace.database, os.W_OK)


def _private_copy(workspace: Workspace) -> sqlite3.Connection:
    """A connection to a copy of our own: SQLite must write beside a WAL database even to read it."""
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="isobench-read-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for suffix in ("", "-wal"):
        source = workspace.database.with_name(workspace.database.name + suffix)
        if source.exists():
            shutil.copyfile(source, folder / source.name)
    connection = connect(folder / workspace.database.name, _OfCopy)
    assert isinstance(connection, _OfCopy)
    connection.folder = folder
    return connection


def create_store(workspace: Workspace) -> sqlite3.Connection:
    """Open the database, making or migrating it first. Safe against another process doing the same."""
    workspace.create()
    path = workspace.database
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        connection = connect(path)
        version = _version(connection)
        if version > schema.VERSION or not _is_ours(connection, version):
            connection.close()
            raise StoreError(_mismatch(path, version))
        connection.execute("PRAGMA journal_mode = WAL")
        if version < schema.VERSION:
            _migrate(connection, workspace, version)
    except sqlite3.DatabaseError as error:
        raise StoreError(_unusable(workspace, error)) from error
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
    """BEGIN IMMEDIATE … COMMIT. `durable` waits for the disk (synchronous=FULL) before it returns."""
    if durable:
        connection.execute("PRAGMA synchronous = FULL")
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite itself rolls back where the disk is full
                with contextlib.suppress(sqlite3.OperationalError):  # what led here says more
                    connection.execute("ROLLBACK")
            raise
    finally:
        if durable:
            connection.execute("PRAGMA synchronous = NORMAL")


def no_room(error: sqlite3.Error) -> bool:
    """Whether a write failed as it does for want of space: on ENOSPC, and on a quota (sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", None) in _NO_ROOM


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """A read transaction: every query inside sees one and the same state."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def backup(connection: sqlite3.Connection, target: Path) -> None:
    """A consistent copy by SQLite's own backup API: a plain copy of a database under load can be malformed."""
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with contextlib.closing(sqlite3.connect(part)) as copy:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    part.replace(target)


def meta(connection: sqlite3.Connection, key: str) -> str | int | None:
    """A value of `meta`; None if absent."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def set_meta(connection: sqlite3.Connection, key: str, value: str | int | None) -> None:
    """Write a value of `meta`; None removes it."""
    if value is None:
        connection.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _is_ours(connection: sqlite3.Connection, version: int) -> bool:
    """Whether these are our tables; version 0 is a file that nobody has put a table into."""
    tables = {row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {"meta", "jobs", "attempts"} <= tables if version else not tables


def _unusable(workspace: Workspace, error: sqlite3.DatabaseError) -> str:
    said = f"the workspace's database {workspace.database} cannot be used: {error}"
    if isinstance(error, sqlite3.OperationalError):  # locked, unreadable, a full disk: the file itself may be sound
        return said
    from isobench_tui.store.backups import way_back

    return f"{said}; {way_back(workspace)}"


def _mismatch(path: Path, version: int) -> str:
    if version <= schema.VERSION and version in {0, schema.VERSION}:
        return f"{path} is no database of isobench, or an unfinished one; `isobench run FILE` completes an empty one"
    if version > schema.VERSION:
        return f"{path} was written by a newer isobench (schema {version}, this one knows {schema.VERSION}); upgrade"
    return f"{path} has schema {version}, this isobench has {schema.VERSION}; `isobench run` migrates it"


def _migrate(connection: sqlite3.Connection, workspace: Workspace, version: int) -> None:
    if version > 0:
        backup(connection, workspace.backups / f"isobench-v{version}-{now().replace(':', '')}.db")
    with transaction(connection, durable=True):
        version = _version(connection)  # another process may have migrated while we waited for the lock
        for script in schema.MIGRATIONS[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        if version == 0:
            import uuid

            set_meta(connection, "uuid", str(uuid.uuid4()))
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")


def _statements(script: str) -> Iterator[str]:
    """Split a script at complete statements; `executescript` would commit our transaction."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
