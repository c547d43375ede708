"""What each tab reads: functions from the chosen job to a frozen model, called in a worker's thread."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from isobench_tui.report import leaderboard as ranking
from isobench_tui.report import save, taskview, why
from isobench_tui.report.export import Format
from isobench_tui.store import events as story
from isobench_tui.store.selectors import Selector
from isobench_tui.tui.copying import to_file
from isobench_tui.tui.dialogs.export import Write
from isobench_tui.tui.panes.events import EventsPage, ReadEvents
from isobench_tui.tui.snapshot import Selection
from isobench_tui.tui.source import Source
from isobench_tui.tui.widgets.lazy import Loader


def events(source: Source) -> ReadEvents:
    """The newest events that are wanted."""

    def read(connection: sqlite3.Connection, wanted: story.Wanted, most: int) -> EventsPage:
        found = story.page(connection, wanted, limit=most + 1)
        return EventsPage(wanted, tuple(found[-most:]), len(found) > most, tuple(story.kinds(connection)))

    def ask(wanted: story.Wanted, most: int) -> EventsPage:
        mine = replace(wanted, campaign=source.campaign or "")
        return source.ask(lambda connection: read(connection, mine, most))

    return ask


def export(source: Source) -> Write:
    """Writes what is chosen of the campaigns that are shown to a new file."""

    def write(what: save.What, form: Format, folder: str) -> Path:
        text = source.ask(lambda connection: save.render(connection, what, form, source.campaign))
        return to_file("".join(text), Path(folder).expanduser().absolute(), f"isobench-{what}", form)

    return write


def leaderboard(source: Source) -> Loader[ranking.Board | None]:
    """All campaigns that are shown."""
    return lambda _: source.ask(lambda connection: ranking.read(connection, source.campaign))


def compare(source: Source) -> Loader[taskview.TaskView | None]:
    """The task of the chosen job."""

    def load(chosen: Selection) -> taskview.TaskView | None:
        job = chosen.job
        return None if job is None else source.ask(lambda connection: taskview.of_job(connection, job.id))

    return load


def diagnosis(source: Source) -> Loader[why.Story | None]:
    """The story of the chosen job. Raises Rejected where it is gone."""

    def load(chosen: Selection) -> why.Story | None:
        job = chosen.job
        if job is None:
            return None
        return source.ask(lambda connection: why.stories(source.workspace, connection, Selector((job.id,)))[0])

    return load
