"""The append-only story of a workspace: who did what, when, and why."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from isobench_tui.results.redact import redact
from isobench_tui.store.clock import now

RUNNER = "runner"
"""The actor of what the runner does by itself."""


def add(
    connection: sqlite3.Connection,
    kind: str,
    text: str,
    *,
    actor: str = RUNNER,
    campaign: str | None = None,
    job: str | None = None,
    attempt: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Append one event inside the caller's transaction."""
    connection.execute(
        "INSERT INTO events (at, kind, campaign, job_id, attempt_id, actor, text, data) VALUES (?,?,?,?,?,?,?,?)",
        (now(), kind, campaign, job, attempt, actor, redact(text), json.dumps(data or {})),
    )


def since(connection: sqlite3.Connection, last: int, limit: int = 1000) -> list[sqlite3.Row]:
    """Events after id `last`, oldest first."""
    query = "SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?"
    return connection.execute(query, (last, limit)).fetchall()


def last_id(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])
