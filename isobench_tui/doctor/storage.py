"""Where the engine keeps its images, what that costs, and how to make it cost less."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from isobench_tui.doctor.check import Check, ok, warn
from isobench_tui.doctor.docker import DAEMON_JSON, Engine, daemon_json, service
from isobench_tui.engine.storage import root_of, storage_of, usage_of
from isobench_tui.report.text import bytes_text
from isobench_tui.store.workspace import file_system, mounts

REAL = frozenset({"ext4", "xfs", "btrfs"})
"""File systems on which overlay2 (or Docker's own btrfs driver) works."""
GIB = 1024**3
ROOM = 50 * GIB
"""Free bytes of a mount that is worth moving images to."""


@dataclass(frozen=True, slots=True)
class Place:
    """A mounted file system."""

    path: str
    kind: str
    free: int


def check(engine: Engine) -> Check:
    """The storage driver, where its data lies, and the cure where every layer is a copy."""
    folder = root_of(engine.info)
    try:
        kind = file_system(folder)
    except OSError as error:
        return warn("storage", f"{folder} cannot be looked at: {error}")
    storage = storage_of(engine.info)
    usage = usage_of(folder)
    where = f"{folder} ({kind}, {bytes_text(usage.free)} free of {bytes_text(usage.total)})"
    if storage.kind == "containerd":
        return ok("storage", f"containerd's image store in {where}: an image takes its compressed and unpacked bytes")
    if engine.info.get("Driver") != "vfs":
        return ok("storage", f"{engine.info.get('Driver')} in {where}")
    if storage.reflink:
        return ok("storage", f"vfs in {where}: copies share their blocks (FICLONE works)")
    tried = "" if os.access(folder, os.W_OK) else " or could not be tried, for want of rights"
    return warn(
        "storage",
        f"vfs in {where}: each layer is a whole copy of all below it, each container two more, FICLONE fails{tried}",
        *cure(folder, kind, usage.free, places()),
    )


def cure(folder: Path, kind: str, free: int, found: Iterable[Place]) -> tuple[str, ...]:
    """Commands that put overlay2 where it works: in the same folder, on another mount, else in a mounted file.

    `folder`, `kind` and `free` are of the data-root; `found` are the mounts of this host.
    """
    stop, start = service("stop"), service("start")
    if kind in REAL:
        return f"overlay2 works on {kind}, so also there (images are fetched anew):", stop, _write(str(folder)), start
    real = [place for place in found if place.kind in REAL and place.free >= ROOM]
    if real:
        best = max(real, key=lambda place: place.free)
        root = str(Path(best.path) / "docker")
        head = f"overlay2 on the mount {best.path} ({best.kind}, {bytes_text(best.free)} free):"
        return head, stop, f"mkdir -p {shlex.quote(root)}", _write(root), start
    image, root = shlex.quote(f"{folder.parent}/docker.xfs"), "/mnt/docker"
    return (
        "overlay2 on an XFS file that is mounted:",
        stop,
        f"truncate -s {max(20, int(free * 0.8 / GIB))}G {image}",
        f"mkfs.xfs -m reflink=1 {image}   # apt-get install xfsprogs",
        f"mkdir -p {root} && mount -o loop {image} {root}",
        _write(root),
        start,
        'where overlay cannot be mounted, the same with "storage-driver": "vfs": copies share their blocks there',
    )


def places() -> list[Place]:
    """Mounted folders where we may write, with their free space."""
    found = {}
    for point, kind in mounts():
        if kind in REAL and Path(point).is_dir() and os.access(point, os.W_OK):
            found[point] = Place(point, kind, usage_of(Path(point)).free)
    return list(found.values())


def _write(root: str) -> str:
    text = daemon_json(**{"data-root": root, "storage-driver": "overlay2"})
    return f"mkdir -p {Path(DAEMON_JSON).parent} && echo {shlex.quote(text)} > {DAEMON_JSON}"
