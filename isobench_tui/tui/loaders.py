"""What each tab reads: functions from the chosen job to a frozen model, called in a worker's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from isobench_tui.store import events as story
from isobench_tui.tui.reading import event_of
from isobench_tui.tui.snapshot import Event, Selection
from isobench_tui.tui.source import Source

MOST_EVENTS = 2000


def events(source: Source) -> Callable[[Selection], tuple[Event, ...]]:
    """The newest events, oldest first."""

    def read(connection: sqlite3.Connection) -> tuple[Event, ...]:
        last = story.last_id(connection)
        rows = story.since(connection, max(0, last - MOST_EVENTS), MOST_EVENTS)
        found = (event_of(row) for row in rows)
        return tuple(event for event in found if source.campaign in (None, event.campaign) or event.campaign is None)

    return lambda _: source.ask(read)
