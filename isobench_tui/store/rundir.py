"""The one way into a run directory.

A container could write there, so everything in it is hostile: a name may be a symlink to the host's files, a FIFO
that blocks its reader, a sparse file of terabytes. Opened are regular files only, through a directory descriptor,
never following links, never blocking, and never more than a cap is read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READ_CAP = 128 * 1024**2
"""Bytes of one file that are ever held in memory; a longer file gives its head and its tail."""

HASH_CAP = 8 * 1024**3
"""Bytes of one run directory that are hashed; a sparse file of terabytes must not hold the runner up."""
MOST_NAMES = 10_000
"""Names of one run directory that are looked at; ours are some dozens."""

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Hostile(Exception):
    """A name in the run directory is not a plain file."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """An open file as `results` reads logs: its slices are bytes, and it tells where it has no data.

    Nothing is mapped into memory: whoever cuts the file off meanwhile would kill the process that maps it.
    """

    fd: int
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: slice, /) -> bytes:
        start, stop, step = key.indices(self.size)
        if step != 1:
            raise ValueError("a log is read forwards")
        return _pread(self.fd, max(0, stop - start), start)

    def extent(self, offset: int) -> tuple[int, int]:
        """(start, end) of the next stretch of data at or after `offset`; both the size where there is none."""
        try:
            start = os.lseek(self.fd, offset, os.SEEK_DATA)
            start, end = min(start, self.size), os.lseek(self.fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return self.size, self.size
        return start, min(end, self.size)

    def hole(self) -> int:
        """Bytes without data between the first and the last stretch of data."""
        lost = at = 0
        while at < self.size:
            start, end = self.extent(at)
            if at and start < self.size:
                lost += start - at
            at = end
        return lost


@dataclass(frozen=True, slots=True)
class RunDir:
    """A run directory, read as if an enemy had written it."""

    path: Path

    def create(self, names: tuple[str, ...]) -> None:
        """Make the directory (0700) and empty files (0600) for the container to write into."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in names:
            self.write(name, b"")

    def write(self, name: str, data: bytes) -> None:
        """Write a file of ours whole, 0600, through a temporary name; a folder in its place is removed."""
        part = self.path / f".{name}.part"
        for path in (part, self.path / name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
        part.unlink(missing_ok=True)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        part.replace(self.path / name)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[int]:
        """A descriptor of a regular file. Raises FileNotFoundError, or Hostile for anything else."""
        with self._folder() as folder:
            try:
                fd = os.open(name, _FLAGS, dir_fd=folder)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise Hostile(f"{name} is not a plain file ({error.strerror})") from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Hostile(f"{name} is not a plain file")
            yield fd
        finally:
            os.close(fd)

    def size(self, name: str) -> int:
        """Bytes of a file, 0 if it is absent or hostile."""
        try:
            with self.open(name) as fd:
                return os.fstat(fd).st_size
        except (FileNotFoundError, Hostile):
            return 0

    def read(self, name: str, cap: int = READ_CAP) -> bytes:
        """A file's bytes, b"" if absent; of one larger than `cap` its head and tail halves. Raises Hostile."""
        try:
            with self.open(name) as fd:
                size = os.fstat(fd).st_size
                if size <= cap:
                    return _pread(fd, size, 0)
                return _pread(fd, cap // 2, 0) + b"\n" + _pread(fd, cap // 2, size - cap // 2)
        except FileNotFoundError:
            return b""

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; b"" if absent or beyond the end. Raises Hostile."""
        try:
            with self.open(name) as fd:
                return _pread(fd, length, offset)
        except FileNotFoundError:
            return b""

    def extent(self, name: str, offset: int) -> tuple[int, int]:
        """(start, end) of the next stretch of data at or after `offset`: what lies between is a hole (lseek(2)).

        Both are the file's size where there is no more data. Raises FileNotFoundError, Hostile.
        """
        with self.open(name) as fd:
            return LogFile(fd, os.fstat(fd).st_size).extent(offset)

    @contextlib.contextmanager
    def log(self, name: str) -> Iterator[LogFile]:
        """A log to be read in slices, whatever its size. Raises FileNotFoundError, Hostile."""
        with self.open(name) as fd:
            yield LogFile(fd, os.fstat(fd).st_size)

    def names(self) -> list[str]:
        """At most MOST_NAMES names in the directory, sorted; only one level: nothing of ours lies deeper."""
        try:
            with self._folder() as folder, os.scandir(folder) as entries:
                return sorted(entry.name for entry in itertools.islice(entries, MOST_NAMES))
        except (FileNotFoundError, Hostile):
            return []

    def digest(self) -> dict[str, Any]:
        """{name: {size, sha256}} of every plain file; {name: {hostile: why}} of anything else.

        Beyond HASH_CAP bytes of the directory `sha256` is None.
        """
        found: dict[str, Any] = {}
        left = HASH_CAP
        for name in self.names():
            try:
                with self.open(name) as fd, os.fdopen(os.dup(fd), "rb") as file:
                    size = os.fstat(fd).st_size
                    fits = size <= left
                    left -= size if fits else 0
                    digest = hashlib.file_digest(file, "sha256").hexdigest() if fits else None
                    found[name] = {"size": size, "sha256": digest}
            except (FileNotFoundError, Hostile) as error:
                found[name] = {"hostile": str(error)}
        return found

    @contextlib.contextmanager
    def _folder(self) -> Iterator[int]:
        """A descriptor of the directory itself. Raises FileNotFoundError, or Hostile if something else is there."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Hostile(f"{self.path.name} is not a folder ({error.strerror})") from error
        try:
            yield fd
        finally:
            os.close(fd)


def _pread(fd: int, length: int, offset: int) -> bytes:
    parts = []
    while length > 0:
        part = os.pread(fd, min(length, 16 * 1024**2), offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)
