"""The machine: what is free on the disks that matter, and its past."""

from __future__ import annotations

from rich.text import Text

from isobench_tui.report.text import bytes_text, safe
from isobench_tui.tui.snapshot import Disk, Snapshot
from isobench_tui.tui.views.line import Room
from isobench_tui.tui.views.words import BAD, DIM, WARN, bar, spark

TIGHT, FULL = 0.8, 0.95
"""Shares of a disk in use from which it is coloured."""


def machine_lines(snapshot: Snapshot, room: Room) -> tuple[Text, ...]:
    """As many lines as there is room for, what matters most first."""
    if not snapshot.disks:
        return (Text("no reading of the disks yet", DIM),)
    return tuple(_disk(disk, room.width) for disk in snapshot.disks)[: max(1, room.height)]


def _disk(disk: Disk, width: int) -> Text:
    used = 1 - disk.free / disk.total if disk.total else 0.0
    style = BAD if used > FULL else WARN if used > TIGHT else ""
    text = Text("disk ", DIM, no_wrap=True)
    text.append(bar(used, 10), style)
    text.append(f" {bytes_text(disk.free)} free of {bytes_text(disk.total)} ", style)
    left = width - text.cell_len
    if left > 24:
        text.append(spark(disk.history, min(24, left - 12), 0.0, disk.total), DIM)
        text.append(" ")
    text.append(_tail(safe(disk.path), width - text.cell_len), DIM)
    return text


def _tail(path: str, room: int) -> str:
    return path if len(path) <= room else "…" + path[-(room - 1) :] if room > 1 else ""
