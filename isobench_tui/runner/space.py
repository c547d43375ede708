"""Needs against file systems: pure sums over what statvfs said. Several paths may lie on one and the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isobench_tui.report.text import bytes_text


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that something will take."""

    what: str
    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Volume:
    """A file system, by a path on it."""

    device: int
    """st_dev: equal for paths on the same file system."""
    free: int
    """Bytes that an unprivileged process may still write."""
    total: int


@dataclass(frozen=True, slots=True)
class Balance:
    """All needs of one file system beside what is free there."""

    path: str
    """The first of the needs' paths."""
    needs: tuple[Need, ...]
    free: int
    device: int

    @property
    def needed(self) -> int:
        return sum(need.bytes for need in self.needs)

    @property
    def missing(self) -> int:
        return max(0, self.needed - self.free)

    def __str__(self) -> str:
        parts = ", ".join(f"{need.what} {bytes_text(need.bytes)}" for need in self.needs if need.bytes)
        return f"{bytes_text(self.needed)} needed in {self.path} ({parts}), {bytes_text(self.free)} free"


def balances(needs: Sequence[Need], volumes: Mapping[str, Volume]) -> tuple[Balance, ...]:
    """The needs summed up by file system, in the order in which they were named."""
    groups: dict[int, list[Need]] = {}
    for need in needs:
        groups.setdefault(volumes[need.path].device, []).append(need)
    return tuple(
        Balance(group[0].path, tuple(group), volumes[group[0].path].free, device) for device, group in groups.items()
    )


def wants(found: Iterable[Balance]) -> tuple[tuple[str, int], ...]:
    """(path, bytes that must be free there) of each file system: what a probe compares with statvfs later."""
    return tuple((balance.path, balance.needed) for balance in found)


def volume(path: str) -> Volume:
    """The file system that holds a path, or will: of the closest folder above it that is seen. Raises OSError."""
    place = Path(path)
    for folder in (place, *place.parents):
        try:
            found, where = os.statvfs(folder), folder.stat()
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            continue
        return Volume(where.st_dev, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
    raise FileNotFoundError(f"no folder above {path} can be seen")


def volumes(paths: Iterable[str]) -> dict[str, Volume]:
    """`volume` of each path. Raises OSError."""
    return {path: volume(path) for path in paths}
