"""What the reader tells the pane, frozen: a page of lines and how far everything is."""

from __future__ import annotations

from dataclasses import dataclass

from isobench_tui.tui.log.page import Page
from isobench_tui.tui.log.scan import Scan

ALL = "all"
"""The name of the view that merges all logs of an attempt."""
EMPTY = Page()


@dataclass(frozen=True, slots=True)
class Found:
    """How a search or a filter stands."""

    label: str
    total: int
    """Matching lines so far."""
    share: float
    """Of the log that was looked at, 0 to 1."""
    gave_up: bool
    ordinal: int | None = None
    """Which of them is being looked at, 1-based."""


def found(scan: Scan | None, ordinal: int | None = None) -> Found | None:
    return None if scan is None else Found(scan.matcher.label, scan.total, scan.share, scan.gave_up, ordinal)


@dataclass(frozen=True, slots=True)
class Jump:
    """A place that was asked for."""

    number: int
    """Grows with every jump, so that each is made once."""
    at: int


@dataclass(frozen=True, slots=True)
class State:
    """One moment of the reader."""

    name: str = ""
    """The log, or ALL."""
    names: tuple[str, ...] = ()
    page: Page = EMPTY
    size: int = 0
    lines: int = 0
    """Counted so far."""
    share: float = 1.0
    """Of the log that was counted."""
    follow: bool = True
    unread: int = 0
    """Lines that came since the end was left."""
    jump: Jump | None = None
    filter: Found | None = None
    search: Found | None = None
    note: str = ""
    """The last thing to say."""
    problem: str = ""
    """Why there is nothing to see, or what went wrong."""
    opened: int = 0
    """Grows when another log is looked at, at its end."""
    generation: int = 0
    """When it moves, offsets mean something else."""


@dataclass(frozen=True, slots=True)
class Written:
    """Lines were written to a file."""

    note: str
    """Says how many, and where."""
    clipboard: str = ""
    """As much of them as the clipboard may get; empty where they were only saved."""
