"""Mutexes of the whole host, held by a file descriptor: they last as long as any process has it, and never longer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from isobench_tui.engine.base import NameTaken

LOCKS = Path("/tmp/isobench-locks")  # noqa: S108 - every user of the host must meet here; the locks hold no data of worth


def acquire(folder: Path, name: str, workspace: str, attempt: str) -> int:
    """Lock `name` and write down who did; returns the descriptor. Raises NameTaken."""
    fd = os.open(_made(folder, name), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"workspace": workspace, "attempt": attempt}).encode(), 0)
    except BlockingIOError:
        os.close(fd)
        by = holder(folder, name)
        text = f"{name} is held by attempt {by.get('attempt', 'unknown')}"
        raise NameTaken(text, name=name, owner=by.get("workspace", "someone else")) from None
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def waiting(folder: Path, name: str) -> Iterator[None]:
    """Hold `name` for a moment; waits for whoever has it."""
    fd = os.open(_made(folder, name), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def holder(folder: Path, name: str) -> dict[str, str]:
    """`workspace` and `attempt` of who locked it last; {} if that is not written there."""
    try:
        with _path(folder, name).open("rb") as f:
            found = json.loads(f.read(4096))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('/', '_')}.lock"


def _made(folder: Path, name: str) -> Path:
    """The file to lock, for every user of the host; O_CREAT only where it is new (see fs.protected_regular)."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    path = _path(folder, name)
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        os.fchmod(fd, 0o666)
        os.close(fd)
    return path
