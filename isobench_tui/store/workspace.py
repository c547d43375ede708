"""The folder that holds a database, its run directories and the lock of its one runner."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "lustre", "glusterfs"}
"""File systems on which SQLite's WAL, flock or bind mounts cannot be relied on (sqlite.org/wal.html, "Overview")."""


_PROBES = 200
"""How often the lock is tried again while somebody merely looks at it; 5 ms each."""


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
    def images(self) -> Path:
        """Layers and configurations of images that are flattened."""
        return self.root / "images"

    @property
    def backups(self) -> Path:
        return self.root / "backups"

    def run_dir(self, attempt: str) -> Path:
        return self.runs / attempt

    def create(self) -> None:
        """Make the folders, 0700. Raises WorkspaceError on remote file systems and unwritable places."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            refuse_remote(self.root)
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
            _take(fd)
            text = json.dumps({"pid": os.getpid(), "who": who, "boot_id": boot_id()}).encode()
            os.ftruncate(fd, 0)
            os.pwrite(fd, text, 0)
            yield
        finally:
            os.close(fd)

    def holder(self) -> int | None:
        """Process id of whoever holds the lock now; None if nobody does, or before he has written it down."""
        if not self.locked():
            return None
        try:
            pid = int(json.loads(self.lock_file.read_bytes())["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return pid if Path(f"/proc/{pid}").exists() else None

    def wait(self) -> None:
        """Sleep until nobody holds the lock."""
        with contextlib.suppress(FileNotFoundError), self.lock_file.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)

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
    """`--workspace`, else $ISOBENCH_WORKSPACE, else the user's data folder. Raises WorkspaceError."""
    chosen = option or os.environ.get("ISOBENCH_WORKSPACE")
    if not chosen:
        import platformdirs

        chosen = platformdirs.user_data_dir("isobench")
    try:
        return Workspace(Path(chosen).expanduser().resolve())
    except (RuntimeError, OSError) as error:  # no such user's home, a loop of symlinks, a name that is too long
        raise WorkspaceError(f"cannot use {chosen} as a workspace: {error}") from error


def boot_id() -> str:
    """The kernel's id of this boot (proc(5)); a pid means nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def refuse_remote(folder: Path) -> None:
    """Raises WorkspaceError where a workspace in this folder would be on a file system of the network."""
    kind = file_system(folder)
    if kind in _REMOTE:
        raise WorkspaceError(
            f"{folder} is on {kind}: a workspace needs a local file system (WAL, locks, bind mounts); "
            "give another folder with --workspace"
        )


def file_system(path: Path) -> str:
    """Type of the file system that holds a path, from /proc/self/mountinfo (proc(5))."""
    wanted = str(path.resolve())
    best, kind = "", ""
    for point, of_point in mounts():
        inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, of_point
    return kind


def mounts() -> Iterator[tuple[str, str]]:
    """(folder, type of file system) of every mount, in the order in which they were made."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        yield left.split()[4].encode().decode("unicode_escape"), right.split()[0]


def _take(fd: int) -> None:
    """Lock the file. Raises Locked if somebody else holds it; those who only ask whether it is held do not count."""
    for _ in range(_PROBES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            break
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(0.005)
    raise Locked(_describe(os.pread(fd, 4096, 0)))


def _describe(raw: bytes) -> str:
    try:
        holder: dict[str, Any] = json.loads(raw)
        return f"{holder['who']}, pid {holder['pid']}"
    except (ValueError, KeyError, TypeError):
        return "an unknown process"
