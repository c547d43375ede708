"""The root file system of an image as the engine's vfs driver keeps it, entry by entry."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Node:
    """All that an entry is, but its inode's number and what changes by being looked at."""

    kind: int
    mode: int
    owner: tuple[int, int]
    mtime: int | None
    """Nanoseconds; None where the test does not compare it."""
    size: int
    device: int
    content: str
    """sha256, or where a symbolic link leads."""
    xattrs: tuple[tuple[str, bytes], ...]
    names: tuple[bytes, ...]
    """All paths of the same file."""


def vfs_folder(data_root: Path, image: Mapping[str, Any]) -> Path:
    """Where the vfs driver keeps the top layer of an inspected image (moby, layer/filestore.go)."""
    chain = ""
    for diff_id in image["RootFS"]["Layers"]:
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else diff_id
    cache_id = data_root / "image" / "vfs" / "layerdb" / "sha256" / chain.partition(":")[2] / "cache-id"
    return data_root / "vfs" / "dir" / cache_id.read_text()


def walk(root: Path) -> dict[bytes, Node]:
    """Everything under a folder, and itself as `b""`."""
    top = os.fsencode(root)
    paths = [b""]
    for folder, folders, files in os.walk(top):
        paths += [os.path.relpath(os.path.join(folder, name), top) for name in (*folders, *files)]  # noqa: PTH118
    status = {path: os.lstat(os.path.join(top, path) if path else top) for path in paths}  # noqa: PTH118
    links: dict[int, list[bytes]] = {}
    for path, found in status.items():
        if not stat.S_ISDIR(found.st_mode):
            links.setdefault(found.st_ino, []).append(path)
    return {path: _node(os.path.join(top, path), found, links) for path, found in status.items()}  # noqa: PTH118


def _node(path: bytes, found: os.stat_result, links: Mapping[int, list[bytes]]) -> Node:
    content = ""
    if stat.S_ISLNK(found.st_mode):
        content = repr(os.readlink(path))  # noqa: PTH115
    elif stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:  # noqa: PTH123
            content = hashlib.file_digest(file, "sha256").hexdigest()
    names = os.listxattr(path, follow_symlinks=False)
    return Node(
        stat.S_IFMT(found.st_mode),
        stat.S_IMODE(found.st_mode),
        (found.st_uid, found.st_gid),
        found.st_mtime_ns,
        0 if stat.S_ISDIR(found.st_mode) else found.st_size,
        found.st_rdev,
        content,
        tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)),
        tuple(sorted(links.get(found.st_ino, ()))),
    )
