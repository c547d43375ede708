"""Which tabs there are, and how each is told what the dashboard knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.widget import Widget

from isobench_tui.tui import loaders
from isobench_tui.tui.log.pane import LogPane
from isobench_tui.tui.panes.compare import ComparePane
from isobench_tui.tui.panes.diagnosis import DiagnosisPane
from isobench_tui.tui.panes.events import EventsPane
from isobench_tui.tui.panes.leaderboard import LeaderboardPane
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


class _Log:
    """The log tab: follows the chosen job's newest attempt, until a line of some attempt is asked for."""

    def __init__(self, source: Source) -> None:
        self.pane = LogPane(source.exports, id="log")
        self._source = source
        self._told = ""

    def tell(self, _: Snapshot, selection: Selection) -> None:
        """Another attempt is opened once, when it is chosen or begins; a job that never ran leaves what is open."""
        job = selection.job
        if job is not None and job.attempt is not None and job.attempt != self._told:
            self._told = job.attempt
            self.pane.show_attempt(self._source.run_dir(job.attempt), label=f"{job.name} {job.attempt}")

    def show_line(self, attempt: str, file: str, line: int) -> None:
        self.pane.show_attempt(self._source.run_dir(attempt), label=attempt)
        if file:
            self.pane.show(file, line)


def make_tabs(source: Source, *, readonly: bool) -> tuple[Tab, ...]:
    """New widgets for one screen."""
    log = _Log(source)
    leaderboard = LeaderboardPane(loaders.leaderboard(source), id="leaderboard")
    compare = ComparePane(loaders.compare(source), id="compare")
    diagnosis = DiagnosisPane(loaders.diagnosis(source), id="diagnosis", readonly=readonly)
    events = EventsPane(loaders.events(source), id="events")
    return (
        Tab(LOG, "Log", log.pane, log.tell, log.show_line),
        Tab("leaderboard", "Leaderboard", leaderboard, leaderboard.tell),
        Tab("compare", "Compare", compare, compare.tell),
        Tab("diagnosis", "Diagnosis", diagnosis, diagnosis.tell),
        Tab("events", "Events", events, events.tell),
    )
