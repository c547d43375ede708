"""Reads a file that a campaign names: regular files only, with a cap, so that no FIFO or device can hang us."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path


class Unreadable(Exception):
    """The file cannot be read; the message says why in a few words."""


def _open(path: Path) -> int:
    try:
        # O_NONBLOCK: opening a FIFO without a writer would wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(reason.lower()) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unreadable("not a regular file")
    return handle


def read(path: Path, cap: int) -> bytes:
    """The file's bytes. Raises Unreadable, also where it is larger than `cap` bytes."""
    with os.fdopen(_open(path), "rb") as stream:
        try:
            data = stream.read(cap + 1)
        except OSError as error:
            raise Unreadable((error.strerror or str(error)).lower()) from error
    if len(data) > cap:
        raise Unreadable(f"larger than {cap // 1024**2} MiB")
    return data


def digest(path: Path) -> str:
    """`sha256:…` of the file's bytes, of any size. Raises Unreadable."""
    with os.fdopen(_open(path), "rb") as stream:
        try:
            return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise Unreadable((error.strerror or str(error)).lower()) from error


def exists(path: Path, *, folder: bool = False) -> bool:
    """Whether the path (a folder, if asked) is there; unlike pathlib's, never raises for names too long or barred."""
    try:
        return path.is_dir() if folder else path.exists()
    except OSError:
        return False


def local(base: Path, written: str) -> Path:
    """A path of the campaign file: `~` expanded, relative ones from `base`, the campaign file's folder."""
    try:
        path = Path(written).expanduser()
    except RuntimeError:  # ~nobody-of-that-name
        path = Path(written)
    return Path(os.path.normpath(base / path))
