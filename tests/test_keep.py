"""Which images the keep policy gives up: only ours, and only those that it does not protect."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from isobench_tui.runner.keep import Keep, candidates
from isobench_tui.store import db
from isobench_tui.store.clock import now
from isobench_tui.store.workspace import Workspace


@pytest.fixture
def store(tmp_path: Path) -> sqlite3.Connection:
    """Images old, done, next, later (ours) and theirs (an operator's); `next` is queued before `later`."""
    connection = db.create_store(Workspace(tmp_path))
    at = now()
    connection.execute(
        "INSERT INTO campaigns (id, name, spec_path, spec_text, settings, submitted_at, updated_at) "
        "VALUES (1, 'c', '', '', '{}', ?, ?)",
        (at, at),
    )
    connection.execute("INSERT INTO tasks VALUES (1, 1, 'a', 'b', 'm', 'serving', 'f', '{}')")
    jobs = [("theirs", "done"), ("done", "done"), ("next", "queued"), ("later", "held"), ("running", "running")]
    for position, (image, state) in enumerate(jobs):
        connection.execute(
            "INSERT INTO jobs (id, identity, campaign_id, task_id, arm, repeat, position, state, outcome, image, "
            "spec, created_at) VALUES (?, ?, 1, 1, 'baseline', 0, ?, ?, ?, ?, '{}', ?)",
            (image, image, position, state, "success" if state == "done" else None, image, at),
        )
    connection.execute(
        "INSERT INTO attempts (id, job_id, number, lane, image_ref, started_at) "
        "VALUES ('r-1', 'running', 1, 0, 'x', ?)",
        (at,),
    )
    for age, image in enumerate(("old", "done", "next", "later", "running", "theirs")):
        connection.execute(
            "INSERT INTO images (ref, pinned, brought_by, seen_at) VALUES (?, ?, ?, ?)",
            (image, image, None if image == "theirs" else "r-1", f"2026-01-0{age + 1}T00:00:00.000Z"),
        )
    return connection


@pytest.mark.parametrize(
    ("keep", "goes"),
    [
        ("all", []),
        ("shared", ["old", "done"]),
        ("next", ["old", "done", "later"]),
        ("none", ["old", "done", "next", "later"]),
    ],
)
def test_policy_gives_up_only_what_it_may_oldest_first(
    store: sqlite3.Connection, keep: Keep, goes: list[str]
) -> None:
    assert [image.ref for image in candidates(store, keep)] == goes


def test_an_image_that_was_removed_is_no_candidate_again(store: sqlite3.Connection) -> None:
    store.execute("UPDATE images SET removed_at = ? WHERE ref = 'old'", (now(),))
    assert [image.ref for image in candidates(store, "shared")] == ["done"]
