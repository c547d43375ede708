"""Which tabs there are, and how each is made when it is first opened, and told what the dashboard knows.

What a tab shows is imported with its widget, not with the dashboard: the queue is on the screen earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.widget import Widget

from isobench_tui.tui.snapshot import Selection, Snapshot
from isobench_tui.tui.source import Source

LOG = "log"


@dataclass(frozen=True, slots=True)
class Content:
    """What a tab shows."""

    widget: Widget
    tell: Callable[[Snapshot, Selection], None]
    """Called with every snapshot and every choice; it must return at once."""
    show_line: Callable[[str, str, int], None] | None = None
    """(attempt, file, line): only of the log."""


@dataclass(frozen=True, slots=True)
class Tab:
    """A tab: its name in the action table and the settings, its title, and its content for one screen."""

    name: str
    title: str
    make: Callable[[Source, bool], Content]
    """(source, readonly)"""


def _log(source: Source, _readonly: bool) -> Content:
    """Follows the chosen job's newest attempt, until a line of some attempt is asked for."""
    from isobench_tui.tui.log.pane import LogPane

    pane, told = LogPane(source.exports, id="log"), ""

    def tell(_: Snapshot, selection: Selection) -> None:
        """Another attempt is opened once, when it is chosen or begins; a job that never ran leaves what is open."""
        nonlocal told
        job = selection.job
        if job is not None and job.attempt is not None and job.attempt != told:
            told = job.attempt
            pane.show_attempt(source.run_dir(job.attempt), label=f"{job.name} {job.attempt}")

    def show_line(attempt: str, file: str, line: int) -> None:
        pane.show_attempt(source.run_dir(attempt), label=attempt)
        if file:
            pane.show(file, line)

    return Content(pane, tell, show_line)


def _leaderboard(source: Source, _: bool) -> Content:
    from isobench_tui.tui import loaders
    from isobench_tui.tui.panes.leaderboard import LeaderboardPane

    pane = LeaderboardPane(loaders.leaderboard(source), id="leaderboard")
    return Content(pane, pane.tell)


def _compare(source: Source, _: bool) -> Content:
    from isobench_tui.tui import loaders
    from isobench_tui.tui.panes.compare import ComparePane

    pane = ComparePane(loaders.compare(source), id="compare")
    return Content(pane, pane.tell)


def _diagnosis(source: Source, readonly: bool) -> Content:
    from isobench_tui.tui import loaders
    from isobench_tui.tui.panes.diagnosis import DiagnosisPane

    pane = DiagnosisPane(loaders.diagnosis(source), id="diagnosis", readonly=readonly)
    return Content(pane, pane.tell)


def _events(source: Source, _: bool) -> Content:
    from isobench_tui.tui import loaders
    from isobench_tui.tui.panes.events import EventsPane

    pane = EventsPane(loaders.events(source), id="events")
    return Content(pane, pane.tell)


TABS = (
    Tab(LOG, "Log", _log),
    Tab("leaderboard", "Leaderboard", _leaderboard),
    Tab("compare", "Compare", _compare),
    Tab("diagnosis", "Diagnosis", _diagnosis),
    Tab("events", "Events", _events),
)


def preload() -> None:
    """Import what the tabs and dialogs need, before somebody waits for it; called in a thread."""
    from isobench_tui.tui import commands_page, loaders  # noqa: F401
    from isobench_tui.tui.dialogs import export  # noqa: F401
    from isobench_tui.tui.log import pane  # noqa: F401
    from isobench_tui.tui.panes import compare, diagnosis, events, leaderboard  # noqa: F401
