"""Blobs of registries on this host's disk: kept by digest, verified, resumed after a kill, the oldest out first.

A blob that is not complete yet is `HEX.part`, and `HEX.map` has a byte for each PIECE of it: `x` once that piece was
written. One process at a time uses a cache: the runner, who holds its workspace's lock.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from isobench_tui.engine.base import DiskFull, PullFailed

PIECE = 4 << 20
"""Bytes that are fetched again at most, for each connection, after a kill."""
TIGHT = 0.1
"""Share of the file system that blobs leave free, whatever the cap: they only save time."""


class Blobs:
    """The cache in `root`, made when it is first needed. `cap`: bytes that complete blobs take at most."""

    def __init__(self, root: Path, cap: int) -> None:
        self.root = root
        self._cap = cap

    def path(self, digest: str) -> Path:
        """Where the blob lies once it is complete."""
        return self.root / digest.partition(":")[2]

    def has(self, digest: str) -> bool:
        """The blob is here; it counts as used now."""
        with suppress(FileNotFoundError):
            os.utime(self.path(digest))
            return True
        return False

    def part(self, digest: str, size: int) -> Part:
        """The blob on its way: empty, or what an earlier fetch left. Raises DiskFull, PullFailed."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            return Part(self.path(digest), digest, size)
        except OSError as error:
            raise disk_error(self.root, error) from error

    def trim(self, needed: Collection[str] = (), *, cap: int | None = None) -> int:
        """Remove what was used longest ago until the rest fits, but nothing of `needed`; bytes that were freed.

        `cap`: another than the cache's own.
        """
        keep = {digest.partition(":")[2] for digest in needed}
        found = []
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.root):
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_mtime, entry.name, status.st_blocks * 512))
        taken, freed = sum(size for *_, size in found), 0
        over = max(taken - (self._cap if cap is None else cap), self._short())
        for _, name, size in sorted(found):
            if freed >= over:
                break
            if name.partition(".")[0] not in keep:
                (self.root / name).unlink(missing_ok=True)
                freed += size
        return freed

    def _short(self) -> int:
        """Bytes by which the file system is fuller than blobs may make it."""
        with suppress(OSError):
            status = os.statvfs(self.root)
            return int((status.f_blocks * TIGHT - status.f_bavail) * status.f_frsize)
        return 0


class Part:
    """One blob on its way. Pieces are written in any order; within a piece from its begin on. Close it."""

    def __init__(self, target: Path, digest: str, size: int) -> None:
        self.digest = digest
        self.size = size
        self._target = target
        self._file = target.with_name(f"{target.name}.part")
        self._map = target.with_name(f"{target.name}.map")
        count = max(1, -(-size // PIECE))
        known = self._map.read_bytes() if self._map.exists() and self._file.exists() else b""
        self._done = bytearray(known if len(known) == count else bytes(count))
        self._open = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._open, size)
        self._marks = os.open(self._map, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._marks, count)
        os.pwrite(self._marks, self._done, 0)
        self._loose: dict[int, int] = {}
        """Bytes from the begin of pieces that are not whole."""

    @property
    def got(self) -> int:
        """Bytes that are here."""
        whole = sum(self._length(piece) for piece, done in enumerate(self._done) if done)
        return whole + sum(self._loose.values())

    @property
    def complete(self) -> bool:
        return all(self._done)

    def missing(self, most: int) -> list[tuple[int, int]]:
        """What is to be fetched, as (first, last) byte, `most` bytes at once."""
        spans: list[tuple[int, int]] = []
        for piece, done in enumerate(self._done):
            first, last = piece * PIECE, piece * PIECE + self._length(piece) - 1
            if done or last < first:
                continue
            if spans and spans[-1][1] + 1 == first and last - spans[-1][0] < most:
                spans[-1] = (spans[-1][0], last)
            else:
                spans.append((first, last))
        return spans

    def first_missing(self, first: int, last: int) -> int | None:
        """Where to go on within a span; None where all of it is here."""
        for piece in range(first // PIECE, last // PIECE + 1):
            if not self._done[piece]:
                return piece * PIECE + self._loose.get(piece, 0)
        return None

    def write(self, at: int, data: bytes) -> None:
        """Bytes of the blob from `at` on. Blocks; raises DiskFull, PullFailed (more than there should be)."""
        if at + len(data) > self.size:
            raise PullFailed(f"{self.digest} is longer than the {self.size} bytes that its manifest says")
        try:
            os.pwrite(self._open, data, at)
        except OSError as error:
            raise disk_error(self._target.parent, error) from error
        end = at + len(data)
        for piece in range(at // PIECE, (end - 1) // PIECE + 1):
            stop = piece * PIECE + self._length(piece)
            if self._done[piece]:
                continue
            if end >= stop:
                self._done[piece] = ord("x")
                self._loose.pop(piece, None)
                os.pwrite(self._marks, b"x", piece)
            else:
                self._loose[piece] = end - piece * PIECE

    def finish(self) -> bool:
        """Verify, and put it into its place; False, and nothing is here, where it is something else. Blocks."""
        with self._file.open("rb") as file:
            right = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == self.digest
        if right:
            self._file.rename(self._target)
            self._map.unlink(missing_ok=True)
        else:
            self._done = bytearray(len(self._done))
            self._loose.clear()
            os.pwrite(self._marks, self._done, 0)
        return right

    def close(self) -> None:
        """What is here stays for the next time."""
        os.close(self._open)
        os.close(self._marks)

    def _length(self, piece: int) -> int:
        return min(PIECE, self.size - piece * PIECE)


def disk_error(folder: Path, error: OSError) -> PullFailed | DiskFull:
    """What an error of our own file system means."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull(f"{folder}: {error.strerror}")
    return PullFailed(f"{folder}: {error.strerror or error}")
