"""Which tabs there are, and how each is told what the dashboard knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.widget import Widget

from isobench_tui.tui import loaders
from isobench_tui.tui.panes.events import EventsPane
from isobench_tui.tui.snapshot import Selection, Snapshot
from isobench_tui.tui.source import Source

LOG = "log"


@dataclass(frozen=True, slots=True)
class Tab:
    """A tab: its name in the action table and the settings, its title, what it shows."""

    name: str
    title: str
    widget: Widget
    tell: Callable[[Snapshot, Selection], None]
    """Called with every snapshot and every choice; it must return at once."""
    show_line: Callable[[str, str, int], None] | None = None
    """(attempt, file, line): only of the log."""


def make_tabs(source: Source) -> tuple[Tab, ...]:
    """New widgets for one screen."""
    events = EventsPane(loaders.events(source), id="events")
    return (Tab("events", "Events", events, events.tell),)
