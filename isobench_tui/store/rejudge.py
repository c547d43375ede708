"""Class and blame of a task's failures, written again whenever an attempt of it ends."""

from __future__ import annotations

import json
import sqlite3

from isobench_tui.results.siblings import Judgement, Sibling, judge_siblings
from isobench_tui.store import events
from isobench_tui.store.queue import behind_task
from isobench_tui.store.reflag import reflag

UNAPPLIED = ("patch_empty", "patch_not_applied", "patch_not_compiled", "patched_tree_not_imported")
"""Flags that say that the measured tree is not the patched one."""


def rejudge(connection: sqlite3.Connection, task: int) -> None:
    """Judge every ended attempt of a task by its siblings, its flags first; each change is an event.

    Where all points at a patch, its job gets the one attempt more that must confirm it. Runs inside the transaction
    that ends an attempt, so that what a reader sees always agrees.
    """
    reflag(connection, task)
    rows = {row["id"]: row for row in _attempts(connection, task)}
    judged = judge_siblings([_sibling(row) for row in rows.values()])
    for attempt, judgement in judged.items():
        _write(connection, rows[attempt], judgement)
    for attempt, judgement in judged.items():
        if judgement.needs_confirmation:
            _confirm(connection, rows[attempt], judgement)


def _attempts(connection: sqlite3.Connection, task: int) -> list[sqlite3.Row]:
    marks = ", ".join("?" for _ in UNAPPLIED)
    return connection.execute(
        "SELECT a.id, a.number, a.outcome, a.valid, a.job_id, j.arm, j.agent, j.repeat, j.state, j.counted, "
        "json_extract(j.spec, '$.patch_sha256') AS patch, json_extract(j.spec, '$.max_attempts') AS max_attempts, "
        "coalesce(a.image_digest, a.image_id, a.image_ref) AS image, t.fingerprint, t.commit_sha, t.id AS task_id, "
        "c.name AS campaign, c.state AS campaign_state, d.failure, d.blame, d.file, d.text, d.frame, d.found, d.why, "
        f"EXISTS (SELECT 1 FROM flags f WHERE f.attempt_id = a.id AND f.name IN ({marks})) AS unapplied, "
        "NOT EXISTS (SELECT 1 FROM attempts b WHERE b.job_id = a.job_id AND b.number > a.number) AS newest "
        "FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN tasks t ON t.id = j.task_id "
        "JOIN campaigns c ON c.id = j.campaign_id LEFT JOIN diagnoses d ON d.attempt_id = a.id "
        "WHERE j.task_id = ? AND a.outcome IS NOT NULL ORDER BY a.ended_at, a.id",
        (*UNAPPLIED, task),
    ).fetchall()


def _sibling(row: sqlite3.Row) -> Sibling:
    found = json.loads(row["found"]) if row["found"] else {"failure": row["failure"], "blame": row["blame"]}
    return Sibling(
        attempt=row["id"],
        job=row["job_id"],
        arm=row["arm"],
        agent=row["agent"],
        patch=row["patch"] or "",
        # one workspace is one host
        ground=(row["image"], row["fingerprint"]),
        outcome=row["outcome"],
        valid=bool(row["valid"]),
        applied=row["patch"] is not None and not row["unapplied"],
        failure=found["failure"] or "",
        blame=found["blame"] or "undetermined",
        text=row["text"] or "",
        file=row["file"] or "",
        frame=row["frame"] or "",
    )


def _write(connection: sqlite3.Connection, row: sqlite3.Row, judgement: Judgement) -> None:
    before, after = (row["failure"], row["blame"]), (judgement.failure, judgement.blame)
    if (*before, row["why"]) == (*after, judgement.why):
        return
    connection.execute(
        "UPDATE diagnoses SET failure = ?, blame = ?, why = ? WHERE attempt_id = ?",
        (*after, judgement.why, row["id"]),
    )
    if before == after:
        return
    if row["newest"]:
        connection.execute(
            "UPDATE jobs SET failure = ? WHERE id = ? AND state = 'done'", (judgement.failure, row["job_id"])
        )
    text = f"is {after[0]}, blame {after[1]}, no longer {before[0]}, {before[1]}"
    _tell(connection, row, f"{text}: {judgement.why or 'its siblings no longer say otherwise'}")


def _confirm(connection: sqlite3.Connection, row: sqlite3.Row, judgement: Judgement) -> None:
    """Queue the job once more, unless another attempt with the same patch will tell anyway, or none is left."""
    if row["campaign_state"] != "active" or row["counted"] >= row["max_attempts"]:
        return
    coming = connection.execute(
        "SELECT 1 FROM jobs WHERE task_id = ? AND state IN ('queued', 'running') "
        "AND json_extract(spec, '$.patch_sha256') = ?",
        (row["task_id"], row["patch"]),
    ).fetchone()
    asked = connection.execute(
        "SELECT 1 FROM diagnoses d JOIN attempts a ON a.id = d.attempt_id WHERE a.job_id = ? AND d.confirming",
        (row["job_id"],),
    ).fetchone()
    if coming or asked or row["state"] != "done":
        return
    connection.execute("UPDATE diagnoses SET confirming = 1 WHERE attempt_id = ?", (row["id"],))
    connection.execute(
        "UPDATE jobs SET state = 'queued', reason = ?, outcome = NULL, valid = NULL, failure = NULL, ended_at = NULL "
        "WHERE id = ?",
        (f"to confirm {judgement.failure}", row["job_id"]),
    )
    behind_task(connection, row["job_id"])
    _tell(connection, row, f"runs once more to confirm {judgement.failure}: {judgement.why}")


def _tell(connection: sqlite3.Connection, row: sqlite3.Row, text: str) -> None:
    who = f"{row['commit_sha'][:8]}:{row['agent'] or row['arm']}#{row['repeat'] + 1} attempt {row['number']}"
    events.add(
        connection, "diagnosis", f"{who} {text}", campaign=row["campaign"], job=row["job_id"], attempt=row["id"]
    )
