"""Which tabs there are, and how each is told what the dashboard knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.widget import Widget

from isobench_tui.tui import loaders
from isobench_tui.tui.log.pane import LogPane
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
    log = LogPane(source.exports, id="log")
    events = EventsPane(loaders.events(source), id="events")
    return (
        Tab(LOG, "Log", log, lambda _, selection: _open_log(log, source, selection), _line_of(log, source)),
        Tab("events", "Events", events, events.tell),
    )


def _open_log(log: LogPane, source: Source, selection: Selection) -> None:
    """The logs of the chosen job's newest attempt; a job that never ran leaves what is open."""
    job = selection.job
    if job is not None and job.attempt is not None:
        log.show_attempt(source.run_dir(job.attempt), label=f"{job.name} {job.attempt}")


def _line_of(log: LogPane, source: Source) -> Callable[[str, str, int], None]:
    def show(attempt: str, file: str, line: int) -> None:
        log.show_attempt(source.run_dir(attempt), label=attempt)
        if file:
            log.show(file, line)

    return show
