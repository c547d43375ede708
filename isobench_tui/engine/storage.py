"""How an engine's disk behaves: which storage driver it has, where that writes, whether copies share their blocks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isobench_tui.engine.base import DiskUsage, EngineError, Storage

CONTAINERD_ROOT = Path("/var/lib/containerd")
"""Of the host's own containerd."""
CONTAINERD_SOCKETS = (Path("/run/containerd/containerd.sock"), Path("/var/run/containerd/containerd.sock"))
"""Where that one answers."""
_FICLONE = 0x40049409
"""ioctl_ficlone(2)."""
_BLOCK = 4096


def root_of(info: Mapping[str, Any]) -> Path:
    """The folder that fills up, from the engine's `/info`: its data-root, or containerd's where images are there.

    An engine that found no containerd on the host starts one of its own, within its data-root.
    """
    data = Path(info["DockerRootDir"])
    if not _snapshotter(info):
        return data
    address = (info.get("Containerd") or {}).get("Address")  # of Docker 27 on; before it, look as the engine does
    hosts = Path(address) in CONTAINERD_SOCKETS if address else any(map(Path.exists, CONTAINERD_SOCKETS))
    return CONTAINERD_ROOT if hosts else data / "containerd" / "daemon"


def storage_of(info: Mapping[str, Any]) -> Storage:
    """The law and place of a docker engine's storage, from its `/info`. Every driver but vfs keeps a layer once."""
    path = root_of(info)
    if _snapshotter(info):
        return Storage("containerd", path)
    if info.get("Driver") == "vfs":
        return Storage("vfs", path, reflink=reflinks(path))
    return Storage("overlay2", path)


def reflinks(folder: Path) -> bool:
    """Whether a copy in this folder can share its blocks with the original. False where we may not write to try."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as source:
        source.write(b"\0" * _BLOCK)
        source.flush()
        with tempfile.TemporaryFile(dir=folder) as copy:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
            return True
    return False


def usage_of(path: Path) -> DiskUsage:
    """statvfs of a folder, or of the closest one above it that is seen. Raises EngineError where there is none."""
    for folder in (path, *path.parents):
        try:
            found = os.statvfs(folder)
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            continue
        return DiskUsage(folder, found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)
    raise EngineError(f"no folder above {path} can be seen")


def _snapshotter(info: Mapping[str, Any]) -> bool:
    return any("containerd.snapshotter" in str(value) for pair in info.get("DriverStatus") or [] for value in pair)
