"""What dashboards and the command line read. Plain rows and frozen views; nothing here writes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from isobench_tui.store import live, samples
from isobench_tui.store.db import meta

MEAN = -1
"""Trial number under which `metrics` holds the mean over the counted trials."""

COUNTERS = ("jobs", "attempts", "events", "live")


_JOB = (
    "j.id, j.campaign_id, j.task_id, j.arm, j.agent, j.repeat, j.position, j.state, j.reason, j.outcome, j.valid, "
    "j.failure, j.image, j.counted, j.interruptions, j.created_at, j.ended_at"
)
"""A job's columns but for its spec and its patch, which no list needs."""


@dataclass(frozen=True, slots=True)
class Revisions:
    """The counters of `meta`: a slice needs reloading only when its counter moved."""

    jobs: int
    attempts: int
    events: int
    live: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Jobs of a campaign by what became of them."""

    total: int = 0
    valid: int = 0
    invalid: int = 0
    failed: int = 0
    skipped: int = 0
    held: int = 0
    queued: int = 0
    running: int = 0

    @property
    def left(self) -> int:
        return self.queued + self.running

    @property
    def ended(self) -> int:
        return self.valid + self.invalid + self.failed


def revisions(connection: sqlite3.Connection) -> Revisions:
    return Revisions(*(int(meta(connection, key) or 0) for key in COUNTERS))


def data_version(connection: sqlite3.Connection) -> int:
    """Moves when another connection has written (sqlite.org/pragma.html#pragma_data_version)."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def campaigns(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    return connection.execute("SELECT * FROM campaigns ORDER BY id").fetchall()


def metric_of_mode(
    connection: sqlite3.Connection, names: Mapping[str, str], campaign: str | None = None
) -> dict[str, sqlite3.Row]:
    """Job id -> name, value and unit of one metric for each mode, of the job's newest successful attempt."""
    cases = " ".join("WHEN ? THEN ?" for _ in names)
    rows = connection.execute(
        "SELECT a.job_id, m.name, m.value, m.unit FROM attempts a JOIN jobs j ON j.id = a.job_id "
        "JOIN tasks t ON t.id = j.task_id JOIN campaigns c ON c.id = j.campaign_id JOIN metrics m "
        f"ON m.attempt_id = a.id AND m.trial = ? AND m.name = CASE t.mode {cases} END "
        "WHERE a.outcome = 'success' AND (? IS NULL OR c.name = ?) ORDER BY a.number",
        (MEAN, *(text for pair in names.items() for text in pair), campaign, campaign),
    )
    return {row["job_id"]: row for row in rows}


def jobs(connection: sqlite3.Connection, campaign: str | None = None) -> list[sqlite3.Row]:
    """Jobs in queue order with commit, mode, model, campaign, the newest attempt and its phase; not their specs."""
    return connection.execute(
        f"SELECT {_JOB}, t.commit_sha, t.parent_sha, t.mode, t.model, c.name AS campaign, c.simulated, "
        "a.id AS attempt, a.phase, a.state AS attempt_state, a.stop, a.started_at, a.ended_at AS attempt_ended_at, "
        "a.model_used, a.model_revision, "
        "d.reason AS why, d.file, d.line, d.text "
        "FROM jobs j JOIN tasks t ON t.id = j.task_id JOIN campaigns c ON c.id = j.campaign_id "
        "LEFT JOIN (SELECT job_id, max(number) AS number FROM attempts GROUP BY job_id) n ON n.job_id = j.id "
        "LEFT JOIN attempts a ON a.job_id = j.id AND a.number = n.number "
        "LEFT JOIN diagnoses d ON d.attempt_id = a.id "
        "WHERE ? IS NULL OR c.name = ? ORDER BY j.campaign_id, j.position",
        (campaign, campaign),
    ).fetchall()


def attempts(connection: sqlite3.Connection, job: str) -> list[sqlite3.Row]:
    """Attempts of a job, oldest first."""
    return connection.execute("SELECT * FROM attempts WHERE job_id = ? ORDER BY number", (job,)).fetchall()


def open_attempts(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """Attempts that are running, with their job, commit and campaign."""
    return connection.execute(
        "SELECT a.*, j.arm, j.agent, j.repeat, t.commit_sha, c.name AS campaign FROM attempts a "
        "JOIN jobs j ON j.id = a.job_id JOIN tasks t ON t.id = j.task_id JOIN campaigns c ON c.id = j.campaign_id "
        "WHERE a.state = 'open' AND a.state != 'closed' ORDER BY a.lane"  # as the index has it
    ).fetchall()


def tally(connection: sqlite3.Connection, campaign: str | None = None) -> Tally:
    """Jobs of one campaign, or of all, counted by what became of them."""
    only = "" if campaign is None else "WHERE campaign_id = (SELECT id FROM campaigns WHERE name = ?) "
    query = f"SELECT state, outcome, valid, count(*) AS n FROM jobs {only}GROUP BY campaign_id, state, outcome, valid"
    counts: dict[str, int] = {}
    for row in connection.execute(query, () if campaign is None else (campaign,)):
        key = row["state"]
        if key == "done":
            key = "failed" if row["outcome"] != "success" else "valid" if row["valid"] else "invalid"
        counts[key] = counts.get(key, 0) + row["n"]
    return Tally(total=sum(counts.values()), **counts)


def waiting(connection: sqlite3.Connection, campaign: str | None) -> bool:
    """Whether jobs of it are still queued or running."""
    found = tally(connection, campaign)
    return found.left > 0


def unfinished(connection: sqlite3.Connection) -> bool:
    """Whether there is anything for a runner to do: a job to run, or an attempt to collect or clean up."""
    query = "SELECT 1 FROM attempts WHERE state != 'closed'"
    return waiting(connection, None) or connection.execute(query).fetchone() is not None


def pause_state(connection: sqlite3.Connection) -> dict[str, Any] | None:
    """Who paused the queue, or why it paused itself; None where it is not paused."""
    for key in ("pause", "breaker"):
        value = meta(connection, key)
        if value is not None:
            return {"kind": key, **json.loads(str(value))}
    return None


def live_pull(connection: sqlite3.Connection, attempt: str) -> live.LivePull | None:
    """How far an attempt's pull is; None while it pulls nothing."""
    found = live.get(connection, f"pull/{attempt}")
    if found is None:
        return None
    layers = tuple(live.LiveLayer(**layer) for layer in found[1].pop("layers"))
    return live.LivePull(layers=layers, **found[1])


def live_model(connection: sqlite3.Connection, attempt: str) -> live.LiveModel | None:
    found = live.get(connection, f"model/{attempt}")
    return None if found is None else live.LiveModel(**found[1])


def live_forecast(connection: sqlite3.Connection, attempt: str) -> live.LiveForecast | None:
    """What an attempt will take on disk; None before it was weighed."""
    found = live.get(connection, f"forecast/{attempt}")
    if found is None:
        return None
    value = found[1]
    return live.LiveForecast(
        fetch=value.get("fetch", 0),  # an attempt that an older version began may go on
        needs=tuple(live.LiveNeed(**need) for need in value["needs"]),
        volumes=tuple(live.LiveVolume(**volume) for volume in value["volumes"]),
        unknown=tuple(value["unknown"]),
        held=tuple(live.LiveImage(**image) for image in value["held"]),
        freeable=value["freeable"],
    )


def live_phase(connection: sqlite3.Connection, attempt: str) -> live.LivePhase | None:
    found = live.get(connection, f"phase/{attempt}")
    return None if found is None else live.LivePhase(**found[1])


def live_machine(connection: sqlite3.Connection) -> tuple[str, live.LiveMachine] | None:
    """(when it was read, the newest reading of the host); None before the first one."""
    found = live.get(connection, live.MACHINE_KEY)
    return None if found is None else (found[0], live.machine(found[1]))


def disk(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    """The newest reading of each file system."""
    return [
        {"path": one.key, "at": one.at, "free": int(one.value), "total": int(one.total or 0)}
        for one in samples.newest(connection, "disk")
    ]


def phases(connection: sqlite3.Connection, attempt: str) -> list[tuple[str, str, float | None, str | None]]:
    """(phase, when it began, its seconds, how it ended) of an attempt, in order."""
    rows = connection.execute(
        "SELECT phase, started_at, seconds, outcome FROM phases WHERE attempt_id = ? ORDER BY seq", (attempt,)
    )
    return [tuple(row) for row in rows]


def phase_sums(connection: sqlite3.Connection) -> list[tuple[str, str, float, int]]:
    """(mode, phase, seconds in all, how often) of phases that ended well, of the newest 2,000 attempts."""
    rows = connection.execute(
        "SELECT t.mode, p.phase, sum(p.seconds), count(*) FROM (SELECT id, job_id FROM attempts ORDER BY rowid "
        "DESC LIMIT 2000) a JOIN phases p ON p.attempt_id = a.id JOIN jobs j ON j.id = a.job_id "
        "JOIN tasks t ON t.id = j.task_id WHERE p.outcome = 'ok' AND p.seconds IS NOT NULL GROUP BY 1, 2"
    )
    return [tuple(row) for row in rows]


def tally_json(found: Tally) -> dict[str, int]:
    return {**asdict(found), "left": found.left}
