"""What a queue shows of jobs, read by task: of those alone that were written since a reader looked last."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from isobench_tui.store.db import tuples
from isobench_tui.store.query import MEAN

_AT_ONCE = 128
"""Tasks in one row of JSON."""

_TASKS = """
SELECT json_group_array(json_array(t.id, c.name, c.simulated, t.commit_sha, t.parent_sha, t.mode, t.model, json((
  SELECT json_group_array(json_array(
    j.id, j.arm, j.agent, j.repeat, j.state, j.outcome, j.valid, j.failure, j.reason,
    a.id, a.phase, a.stop IS NOT NULL AND a.state = 'open', a.started_at, a.ended_at, a.model_used, d.reason,
    m.name, m.value, m.unit,
    json((SELECT json_group_array(json_array(f.name, f.effect)) FROM flags f WHERE f.attempt_id = a.id))
  ))
  FROM jobs j
  LEFT JOIN attempts a ON a.job_id = j.id AND a.number = (SELECT max(number) FROM attempts WHERE job_id = j.id)
  LEFT JOIN diagnoses d ON d.attempt_id = a.id
  LEFT JOIN metrics m ON m.trial = ? AND m.name = CASE t.mode {cases} END AND m.attempt_id = (
    SELECT id FROM attempts WHERE job_id = j.id AND outcome = 'success' ORDER BY number DESC LIMIT 1)
  WHERE j.task_id = t.id
))))
FROM tasks t JOIN campaigns c ON c.id = t.campaign_id
WHERE t.rev > ? AND (? IS NULL OR c.name = ?) GROUP BY t.id / ?
"""


@dataclass(frozen=True, slots=True)
class Marks:
    """How far a reader is. Both only grow; -1: nothing was read."""

    jobs: int = -1
    """Tasks with a greater `rev` were written since."""
    order: int = -1


NOTHING = Marks()


class QueuedJob(NamedTuple):
    """A job, its newest attempt, and one metric of its newest success; None where there is no such thing."""

    id: str
    arm: str
    agent: str
    repeat: int
    """0-based."""
    state: str
    outcome: str | None
    valid: int | None
    failure: str | None
    reason: str
    """Why it is held or was skipped."""
    attempt: str | None
    phase: str | None
    stopping: int | None
    started_at: str | None
    ended_at: str | None
    model_used: str | None
    why: str | None
    """The reason of the attempt's diagnosis."""
    metric: str | None
    value: float | None
    """To 15 digits."""
    unit: str | None
    flags: list[tuple[str, str]]
    """(name, effect) of the attempt's."""


class QueuedTask(NamedTuple):
    """A task with all of its jobs, in no order."""

    id: int
    campaign: str
    simulated: int
    commit: str
    parent: str
    mode: str
    model: str
    jobs: list[QueuedJob]


def marks(connection: sqlite3.Connection) -> Marks:
    """How far the store is."""
    found = dict(tuples(connection, "SELECT key, value FROM meta WHERE key IN ('marks', 'order')"))
    return Marks(found["marks"], found["order"])


def order(connection: sqlite3.Connection, campaign: str | None = None) -> list[str]:
    """The ids of the jobs as the queue has them."""
    only = "" if campaign is None else "WHERE campaign_id = (SELECT id FROM campaigns WHERE name = ?) "
    query = f"SELECT json_group_array(id) FROM (SELECT id FROM jobs {only}ORDER BY campaign_id, position, id)"
    (found,) = tuples(connection, query, () if campaign is None else (campaign,)).fetchone()
    ids: list[str] = json.loads(found)
    return ids


def tasks_since(
    connection: sqlite3.Connection, since: int, metrics: Mapping[str, str], campaign: str | None = None
) -> Iterator[QueuedTask]:
    """The tasks that were written since `Marks.jobs` was `since`. `metrics`: mode -> the one metric that is read.

    Many in one row of JSON: SQLite makes it without the interpreter's lock. For rows of its own each job would take
    the lock once, and wait 5 ms for it whenever another thread, as one that paints, is at work.
    """
    cases = " ".join("WHEN ? THEN ?" for _ in metrics)
    values = (MEAN, *(text for pair in metrics.items() for text in pair), since, campaign, campaign, _AT_ONCE)
    for (found,) in tuples(connection, _TASKS.format(cases=cases), values):
        for *task, jobs in json.loads(found):
            yield QueuedTask._make((*task, [QueuedJob._make(job) for job in jobs]))
