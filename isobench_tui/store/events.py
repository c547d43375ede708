"""The append-only story of a workspace: who did what, when, and why."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True, slots=True)
class Event:
    """One event as readers see it."""

    id: int
    at: str
    kind: str
    campaign: str | None
    job: str | None
    attempt: str | None
    actor: str
    text: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: every given part narrows the choice."""

    kind: str = ""
    campaign: str = ""
    """Those of other campaigns are left out; what belongs to none stays."""
    job: str = ""
    """Id of a job that the event is about, alone or among others."""
    text: str = ""
    """Words that kind, actor, campaign or text hold, in upper or lower case alike."""


_PAGE = """
SELECT id, at, kind, campaign, job_id, attempt_id, actor, text FROM events
WHERE (:before IS NULL OR id < :before) AND (:kind = '' OR kind = :kind)
AND (:campaign = '' OR coalesce(campaign, :campaign) = :campaign)
AND (:job = '' OR job_id = :job OR EXISTS (SELECT 1 FROM json_each(data, '$.jobs') WHERE value = :job))
AND (:text = '' OR instr(lower(kind || ' ' || actor || ' ' || coalesce(campaign, '') || ' ' || text), lower(:text)))
ORDER BY id DESC LIMIT :limit
"""


def page(
    connection: sqlite3.Connection, wanted: Wanted, *, before: int | None = None, limit: int = 200
) -> list[Event]:
    """The newest events that are wanted (older than id `before`, if given), oldest first; `limit` -1: all."""
    rows = connection.execute(_PAGE, {"before": before, "limit": limit, **asdict(wanted)}).fetchall()
    return [Event(*row) for row in reversed(rows)]


def kinds(connection: sqlite3.Connection) -> list[str]:
    """The kinds of events there are, sorted."""
    return [row["kind"] for row in connection.execute("SELECT DISTINCT kind FROM events ORDER BY kind")]


def last_id(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])
