"""One log of a run directory: a hostile file that may grow, shrink, vanish, or lose its middle while it is read."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from isobench_tui.store.rundir import Hostile, RunDir
from isobench_tui.tui.log.times import Times

MOST_EXTENTS = 1000
"""Stretches of data of one log that are shown; ours have two, a hostile sparse file millions."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of data, in bytes of the file. What lies between two is a hole."""

    start: int
    end: int


class LogFile:
    """Read by offset, never mapped: a mapped file that is truncated kills its reader (SIGBUS, mmap(2))."""

    def __init__(self, run: RunDir, name: str) -> None:
        self.run = run
        self.name = name
        self.times = Times(run, name)
        self.size = 0
        self.extents: tuple[Extent, ...] = ()
        self.written: float = 0.0
        """When it was written last, unix seconds."""
        self.generation = 0
        """Grows when what was read before is no longer so: another file, a shorter one, a new hole."""
        self.problem = ""
        """Why there is nothing to read; empty if there is."""
        self._stack = contextlib.ExitStack()
        self._fd = -1
        self._inode = (0, 0)

    def close(self) -> None:
        self._stack.close()
        self._fd = -1

    def refresh(self) -> None:
        """Look at the file again: 5 times a second is cheap."""
        try:
            with self.run.open(self.name) as fd:
                state = os.fstat(fd)
            if self._fd < 0 or (state.st_dev, state.st_ino) != self._inode:
                self._reopen()
                state = os.fstat(self._fd)
            if state.st_size < self.size:
                self.generation += 1
            self.size, self.written = state.st_size, state.st_mtime
            self._see_holes()
            self.problem = ""
        except FileNotFoundError:
            self._gone("is not there (any more)")
        except (Hostile, OSError) as error:
            self._gone(str(error))
        self.times.refresh()

    def _reopen(self) -> None:
        self.close()
        self._fd = self._stack.enter_context(self.run.open(self.name))
        state = os.fstat(self._fd)
        if self._inode != (0, 0):
            self.generation += 1
            self.times = Times(self.run, self.name)
        self._inode = (state.st_dev, state.st_ino)

    def _gone(self, why: str) -> None:
        self.close()
        if self.size:
            self.generation += 1
        self.size, self.extents, self.problem = 0, (), why

    def _see_holes(self) -> None:
        old, self.extents = self.extents, _extents(self._fd, self.size)
        if old and (
            len(self.extents) < len(old)
            or self.extents[: len(old) - 1] != old[:-1]
            or self.extents[len(old) - 1].start != old[-1].start
            or self.extents[len(old) - 1].end < old[-1].end
        ):
            self.generation += 1

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes; fewer at the end, or where the file shrank meanwhile. Raises OSError."""
        if self._fd < 0:
            return b""
        parts = []
        while length > 0 and (part := os.pread(self._fd, length, offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _extents(fd: int, size: int) -> tuple[Extent, ...]:
    """Stretches of data by lseek(2); a file system that does not know holes says it is all data."""
    found: list[Extent] = []
    at = 0
    while at < size and len(found) < MOST_EXTENTS:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError:  # ENXIO: a hole up to the end
            break
        if start < size:
            found.append(Extent(start, min(at, size)))
    return tuple(found)
