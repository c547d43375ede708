"""The story of a workspace, looked for by kind, job and words, a page at a time from its end."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from isobench_tui.store import db, events
from isobench_tui.store.events import Wanted, kinds, page
from isobench_tui.store.workspace import Workspace


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(db.create_store(Workspace(tmp_path))) as connection:
        with db.transaction(connection):
            events.add(connection, "submitted", "submitted 2 jobs", actor="ann@pts/1", campaign="night")
            events.add(connection, "started", "a:one starts", campaign="night", job="j1", attempt="a1")
            events.add(connection, "ended", "a:one FAILED 100 %", campaign="night", job="j1", attempt="a1")
            events.add(connection, "held", "held 2 jobs", actor="bob@pts/2", data={"jobs": ["j1", "j2"]})
            events.add(connection, "started", "b:two starts", campaign="day", job="j2", attempt="a2")
        yield connection


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), [1, 2, 3, 4, 5]),
        (Wanted(kind="started"), [2, 5]),
        (Wanted(job="j1"), [2, 3, 4]),
        (Wanted(job="j2"), [4, 5]),
        (Wanted(text="failed"), [3]),
        (Wanted(text="BOB"), [4]),
        (Wanted(text="night"), [1, 2, 3]),
        (Wanted(text="%"), [3]),
        (Wanted(text="_"), []),
        (Wanted(kind="started", job="j1", text="starts"), [2]),
        (Wanted(kind="start"), []),
        (Wanted(campaign="night"), [1, 2, 3, 4]),
        (Wanted(campaign="dawn"), [4]),
    ],
)
def test_every_part_narrows_the_choice(store: sqlite3.Connection, wanted: Wanted, found: list[int]) -> None:
    assert [one.id for one in page(store, wanted)] == found


def test_pages_from_the_end_and_backwards(store: sqlite3.Connection) -> None:
    last = page(store, Wanted(), limit=2)
    assert [one.id for one in last] == [4, 5]
    assert [one.id for one in page(store, Wanted(), before=last[0].id, limit=2)] == [2, 3]
    assert page(store, Wanted(), before=1) == []
    first = page(store, Wanted(), limit=5)[0]
    assert (first.kind, first.campaign, first.job, first.actor) == ("submitted", "night", None, "ann@pts/1")


def test_the_kinds_there_are(store: sqlite3.Connection) -> None:
    assert kinds(store) == ["ended", "held", "started", "submitted"]
