"""The folder that holds a database, its run directories and the lock of its one runner."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "lustre", "glusterfs"}
"""File systems on which SQLite's WAL, flock or bind mounts cannot be relied on (sqlite.org/wal.html, "Overview")."""


class WorkspaceError(Exception):
    """The folder cannot be a workspace; the message says why and what to do."""


class Locked(WorkspaceError):
    """Another process works the queue of this workspace."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"another runner holds this workspace: {holder}")
        self.holder = holder


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths of one workspace."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "isobench.db"

    @property
    def lock_file(self) -> Path:
        return self.root / "runner.lock"

    @property
    def runner_log(self) -> Path:
        return self.root / "runner.log"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def trees(self) -> Path:
        """Copies of image folders (process engine), one per attempt, removed in its cleanup."""
        return self.root / "trees"

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    def run_dir(self, attempt: str) -> Path:
        return self.runs / attempt

    def create(self) -> None:
        """Make the folders, 0700. Raises WorkspaceError on remote file systems and unwritable places."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            kind = file_system(self.root)
            if kind in _REMOTE:
                raise WorkspaceError(
                    f"{self.root} is on {kind}: a workspace needs a local file system (WAL, locks, bind mounts); "
                    "give another folder with --workspace"
                )
            self.root.chmod(0o700)
            for folder in (self.runs, self.backups):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise WorkspaceError(f"cannot use {self.root} as a workspace: {error.strerror or error}") from error

    @contextlib.contextmanager
    def lock(self, who: str) -> Iterator[None]:
        """Hold the workspace's runner lock. Raises Locked at once if somebody else holds it."""
        fd = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Locked(_describe(os.pread(fd, 4096, 0))) from None
            text = json.dumps({"pid": os.getpid(), "who": who, "boot_id": boot_id()}).encode()
            os.ftruncate(fd, 0)
            os.pwrite(fd, text, 0)
            yield
        finally:
            os.close(fd)

    def locked(self) -> bool:
        """Whether a runner (or a command that stands in for one) holds the lock now."""
        try:
            fd = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(fd)


def find(option: str | None) -> Workspace:
    """`--workspace`, else $ISOBENCH_WORKSPACE, else the user's data folder."""
    chosen = option or os.environ.get("ISOBENCH_WORKSPACE")
    if not chosen:
        import platformdirs

        chosen = platformdirs.user_data_dir("isobench")
    return Workspace(Path(chosen).expanduser().resolve())


def boot_id() -> str:
    """The kernel's id of this boot (proc(5)); a pid means nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def file_system(path: Path) -> str:
    """Type of the file system that holds a path, from /proc/self/mountinfo (proc(5))."""
    wanted = str(path.resolve())
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape")
        inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def _describe(raw: bytes) -> str:
    try:
        holder: dict[str, Any] = json.loads(raw)
        return f"{holder['who']}, pid {holder['pid']}"
    except (ValueError, KeyError, TypeError):
        return "an unknown process"
