"""A Docker engine on a file system of its own, new each time: nobody pays for what a measurement before has left.

An ext4 without a journal, as some virtual machines have, makes files ten times and more slower for minutes after many
were removed, because it passes over each inode that was freed lately (`recently_deleted`, fs/ext4/ialloc.c in Linux).
So the file system has a journal, as a host's has.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from disks import SmallDisk
from dockerd import Dockerd

SIZE = 48_000_000_000
"""Bytes of the file system; of the disk it takes what is written to it."""


@contextlib.contextmanager
def fresh(driver: str) -> Iterator[tuple[Dockerd, Path]]:
    """An engine with this storage driver and an empty data-root, and the folder of its file system, where others may
    write too. Raises CannotMount, CannotStart."""
    with (
        contextlib.closing(SmallDisk(SIZE, journal=True)) as disk,
        contextlib.closing(Dockerd(driver, data=disk.path / "data")) as engine,
    ):
        yield engine, disk.path
