"""`snapshot`: a consistent copy of a workspace, also while its runner writes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import BinaryIO

from isobench_tui.store import db
from isobench_tui.store.answer import OK, Rejected
from isobench_tui.store.rundir import Hostile, RunDir
from isobench_tui.store.workspace import Workspace, find

CHUNK = 1024**2


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
    copied = sum(_copy(RunDir(source.run_dir(key)), target.run_dir(key)) for key in attempts)
    print(f"copied {len(attempts)} attempts, {copied} files to {target.root}")
    print(f"`isobench status --workspace {target.root}` reads it")
    return OK


def _copy_data(source: RunDir, name: str, file: BinaryIO, copy: BinaryIO) -> None:
    """Copy the data of a file and leave its holes: a log's dropped middle, or terabytes that were never written."""
    size = os.fstat(file.fileno()).st_size
    at = 0
    while at < size:
        start, end = source.extent(name, at)
        file.seek(start)
        copy.seek(start)
        while start < end and (data := file.read(min(CHUNK, end - start))):
            copy.write(data)
            start += len(data)
        at = max(end, at + 1)
    copy.truncate(size)


def _copy(source: RunDir, target: Path) -> int:
    names = source.names()
    if names:
        target.mkdir(mode=0o700, parents=True)
    copied = 0
    for name in names:
        try:
            with source.open(name) as fd, os.fdopen(os.dup(fd), "rb") as file:
                out = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(out, "wb") as copy:
                    _copy_data(source, name, file, copy)
            copied += 1
        except (FileNotFoundError, Hostile):
            continue
    return copied
