"""What the runner does for a log that the processes write themselves: a time index, and a cap on disk space."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import time
from dataclasses import dataclass, field

from isobench_tui.store.rundir import Hostile, RunDir
from isobench_tui.store.runlogs import INDEX

_PUNCH = 0x01 | 0x02
"""FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (fallocate(2))."""


@dataclass(slots=True)
class LogKeeper:
    """Indexes the logs of one attempt and keeps each below its cap. Call `tick` at most five times a second."""

    run_dir: RunDir
    names: tuple[str, ...]
    cap: int
    dropped: dict[str, int] = field(default_factory=dict)
    """Log -> end of the hole that begins at cap // 2."""
    _sizes: dict[str, int] = field(default_factory=dict)

    def tick(self) -> None:
        for name in self.names:
            size = self.run_dir.size(name)
            if size == self._sizes.get(name, 0):
                continue
            self._sizes[name] = size
            with contextlib.suppress(OSError):  # no space left, or measured code put something else in its place
                self._index(name, size)
            if size - self.dropped.get(name, self.cap // 2) > self.cap - self.cap // 2:
                self._punch(name, size)

    def _index(self, name: str, size: int) -> None:
        path = self.run_dir.path / f"{name}.idx"
        fd = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600
        )
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.write(fd, INDEX.pack(time.time(), size))
        finally:
            os.close(fd)

    def _punch(self, name: str, size: int) -> None:
        """Give the middle back to the disk; half of the cap stays of the head, a quarter of the tail, offsets too."""
        start, end = self.cap // 2, size - self.cap // 4
        try:
            with self.run_dir.open(name):
                fd = os.open(self.run_dir.path / name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, Hostile, OSError):
            return
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
            if libc.fallocate(fd, _PUNCH, start, end - start) == 0:
                self.dropped[name] = end
        finally:
            os.close(fd)
