"""Copies of run directories, whatever measured code has made of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from isobench_tui.store.rundir import Hostile, RunDir

CHUNK = 1024**2


def copy_run(source: RunDir, target: Path) -> int:
    """Copy every plain file of a run directory into `target`, which is made 0700; returns how many.

    Links, FIFOs, sockets and folders are left out; holes stay holes. Raises OSError.
    """
    names = source.names()
    if names:
        target.mkdir(mode=0o700, parents=True)
    copied = 0
    for name in names:
        try:
            with source.open(name) as fd, os.fdopen(os.dup(fd), "rb") as file:
                out = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(out, "wb") as copy:
                    _copy_data(source, name, file, copy)
            copied += 1
        except (FileNotFoundError, Hostile):
            continue
    return copied


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
