"""One task with everything that is looked at beside its comparison: every trial's value, and the agents' patches."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from isobench_tui.report.table import result_rows
from isobench_tui.report.tasks import tasks
from isobench_tui.results.compare import Comparison, compare
from isobench_tui.results.metrics import headline
from isobench_tui.results.text import clip

PATCH_BYTES: Final = 512 * 1024
"""Of a patch that are shown; all of it is in its run directory."""
PATCH_LINE: Final = 400
"""Characters of a patch's line that are shown."""


@dataclass(frozen=True, slots=True)
class Point:
    """The headline metric of one counted trial of a valid attempt."""

    attempt: str
    repeat: int
    """1-based."""
    trial: int
    """0-based; -1 where an attempt has no value of single trials, only their mean."""
    value: float


@dataclass(frozen=True, slots=True)
class Patch:
    """What an agent changed."""

    agent: str
    lines: tuple[str, ...]
    """As they were written, cut to PATCH_LINE characters: hostile."""
    size: int
    """Bytes of the whole patch."""
    cut: bool
    """Only its beginning is in `lines`."""


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task, compared."""

    comparison: Comparison
    points: dict[tuple[str, str], tuple[Point, ...]]
    """(arm, agent) -> every counted trial of its valid attempts, oldest first."""
    patches: tuple[Patch, ...]


def of_job(connection: sqlite3.Connection, job: str) -> TaskView | None:
    """The task that a job belongs to; None for a job that the store does not have."""
    row = connection.execute(
        "SELECT t.id, t.commit_sha, t.fingerprint, c.name FROM jobs j JOIN tasks t ON t.id = j.task_id "
        "JOIN campaigns c ON c.id = j.campaign_id WHERE j.id = ?",
        (job,),
    ).fetchone()
    if row is None:
        return None
    task, commit, fingerprint, campaign = row
    found = tasks(connection, result_rows(connection, campaign, commit), campaign=campaign, commit=commit)
    mine = next((one for one in found if one.fingerprint == fingerprint), None)
    if mine is None:
        return None
    return TaskView(compare(mine), _points(connection, task, headline(mine.mode)), _patches(connection, task))


_POINTS = """
SELECT j.arm, j.agent, a.id, j.repeat + 1, m.trial, m.value
FROM jobs j JOIN attempts a ON a.job_id = j.id JOIN metrics m ON m.attempt_id = a.id AND m.name = :metric
LEFT JOIN trials t ON t.attempt_id = a.id AND t.idx = m.trial
WHERE j.task_id = :task AND a.outcome = 'success' AND a.valid AND (t.counted OR (m.trial = -1 AND NOT EXISTS (
  SELECT 1 FROM trials u JOIN metrics n ON n.attempt_id = u.attempt_id AND n.trial = u.idx AND n.name = :metric
  WHERE u.attempt_id = a.id AND u.counted
)))
ORDER BY a.started_at, a.id, m.trial
"""
"""Each counted trial; of an attempt without any, its mean."""


def _points(connection: sqlite3.Connection, task: int, metric: str) -> dict[tuple[str, str], tuple[Point, ...]]:
    found: dict[tuple[str, str], list[Point]] = {}
    for arm, agent, *point in connection.execute(_POINTS, {"metric": metric, "task": task}):
        found.setdefault((arm, agent), []).append(Point(*point))
    return {side: tuple(points) for side, points in found.items()}


def _patches(connection: sqlite3.Connection, task: int) -> tuple[Patch, ...]:
    rows = connection.execute(
        "SELECT agent, max(substr(patch, 1, ?)), max(length(patch)) FROM jobs "
        "WHERE task_id = ? AND patch IS NOT NULL GROUP BY agent ORDER BY agent",
        (PATCH_BYTES, task),
    )
    return tuple(_patch(agent, bytes(head), size) for agent, head, size in rows)


def _patch(agent: str, head: bytes, size: int) -> Patch:
    lines = head.decode("utf-8", "replace").split("\n")
    shown = tuple(clip(line.rstrip("\r"), PATCH_LINE) for line in lines)
    return Patch(agent, shown[:-1] if shown and not shown[-1] else shown, size, cut=size > len(head))
