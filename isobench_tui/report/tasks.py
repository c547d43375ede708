"""The tasks of a workspace with all that `results.compare` needs: the end of every job, every valid attempt."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import get_args

from isobench_tui.campaign.models import Mode
from isobench_tui.report.table import ResultRow
from isobench_tui.results.compare import Ground, JobEnd, Run, Side, Task
from isobench_tui.results.isoclass import iso_metrics
from isobench_tui.results.metrics import headline
from isobench_tui.results.models import Flag, Metric
from isobench_tui.results.stats import CONFIGURED_FLOOR
from isobench_tui.store.attempts import GONE
from isobench_tui.store.words import NO_IMAGE

DECIDING = frozenset(name for mode in get_args(Mode) for name in (headline(mode), *iso_metrics(mode)))
"""The metrics that a table needs; reading only these keeps an export of many attempts short."""

_SIDES = ("baseline", "human", "agent")
_ONLY = "a.outcome = 'success' AND a.valid = 1 AND (? IS NULL OR c.name = ?) AND (? IS NULL OR t.commit_sha = ?)"
_OF = (
    "FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN tasks t ON t.id = j.task_id "
    "JOIN campaigns c ON c.id = j.campaign_id"
)
_RUNS = f"""
SELECT a.id, a.job_id, j.repeat, a.lane, a.host, a.client_sha256, a.model_used, a.model_revision,
       coalesce(a.image_digest, a.image_ref), a.vllm_version, a.started_at, coalesce(a.ended_at, a.started_at),
       c.simulated, t.fingerprint
{_OF} WHERE {_ONLY} ORDER BY a.started_at, a.id
"""
_METRICS = f"""
SELECT m.attempt_id, m.name, m.value, m.unit, m.better
{_OF} JOIN metrics m ON m.attempt_id = a.id AND m.trial = -1
WHERE {_ONLY} AND (? IS NULL OR m.name IN (SELECT value FROM json_each(?)))
"""
_FLAGS = f"SELECT f.attempt_id, f.name, f.effect, f.text {_OF} JOIN flags f ON f.attempt_id = a.id WHERE {_ONLY}"


def tasks(
    connection: sqlite3.Connection,
    rows: Iterable[ResultRow],
    *,
    campaign: str | None = None,
    commit: str | None = None,
    metrics: Collection[str] | None = None,
) -> list[Task]:
    """The tasks of `rows` (of one campaign and commit only, if given) in their order; sides: baseline, human, agents.

    Jobs that an edit of the campaign file took out are no part of it, nor are imported ones, which have no rate and
    no speedup, unless a commit is asked for. `metrics` limits what is read of each attempt.
    """
    runs = _runs(connection, (campaign, campaign, commit, commit), metrics)
    floors = _floors(connection)
    found: dict[tuple[str, str, str], dict[tuple[str, str], list[ResultRow]]] = {}
    for row in rows:
        gone = row.state == "skipped" and row.waits == GONE
        other = row.commit != commit if commit is not None else row.image == NO_IMAGE
        if other or (gone and row.job not in runs):
            continue
        sides = found.setdefault((row.campaign, row.commit, row.fingerprint), {})
        sides.setdefault((row.arm, row.agent), []).append(row)
    return [_task(sides, runs, floors) for sides in found.values()]


def _task(
    sides: dict[tuple[str, str], list[ResultRow]], runs: dict[str, list[Run]], floors: dict[str, float]
) -> Task:
    order = sorted(sides, key=lambda key: (_SIDES.index(key[0]), key[1]))
    one = sides[order[0]][0]
    return Task(
        campaign=one.campaign,
        simulated=one.simulated,
        commit=one.commit,
        parent=one.parent,
        fingerprint=one.fingerprint,
        mode=one.mode,
        model=one.model,
        sides=tuple(_side(sides[key], runs) for key in order),
        floor=floors.get(one.campaign, CONFIGURED_FLOOR),
    )


def _side(jobs: list[ResultRow], runs: dict[str, list[Run]]) -> Side:
    mine = [run for job in jobs for run in runs.get(job.job, ())]
    return Side(
        arm=jobs[0].arm,
        agent=jobs[0].agent,
        jobs=tuple(
            JobEnd(
                job.state,
                job.outcome,
                job.valid,
                job.diagnosis.failure if job.diagnosis else "",
                job.diagnosis.blame if job.diagnosis and job.state == "done" else None,
                tuple(flag.name for flag in job.flags if flag.effect == "invalidates"),
            )
            for job in jobs
        ),
        runs=tuple(sorted(mine, key=lambda run: run.started)),
    )


def _runs(
    connection: sqlite3.Connection, only: tuple[str | None, ...], names: Collection[str] | None
) -> dict[str, list[Run]]:
    """Job -> its valid attempts."""
    values: dict[str, dict[str, Metric]] = {}
    wanted = None if names is None else json.dumps(sorted(names))
    for attempt, name, value, unit, better in connection.execute(_METRICS, (*only, wanted, wanted)):
        values.setdefault(attempt, {})[name] = Metric(name, value, unit, better)
    flags: dict[str, list[Flag]] = {}
    for attempt, name, effect, text in connection.execute(_FLAGS, only):
        flags.setdefault(attempt, []).append(Flag(name, effect, text))
    found: dict[str, list[Run]] = {}
    for row in connection.execute(_RUNS, only):
        attempt, job, repeat, lane, host, client, model, revision, image, vllm = tuple(row)[:10]
        started, ended, simulated, fingerprint = tuple(row)[10:]
        run = Run(
            attempt=attempt,
            repeat=repeat,
            ground=Ground(bool(simulated), fingerprint, host, client, model, revision),
            metrics=values.get(attempt, {}),
            started=datetime.fromisoformat(started).timestamp(),
            ended=datetime.fromisoformat(ended).timestamp(),
            lane=lane,
            image=image,
            vllm=vllm,
            flags=tuple(flags.get(attempt, ())),
        )
        found.setdefault(job, []).append(run)
    return found


def _floors(connection: sqlite3.Connection) -> dict[str, float]:
    """Campaign -> its noise floor."""
    query = "SELECT name, json_extract(settings, '$.noise_floor') FROM campaigns"
    return {name: float(value) for name, value in connection.execute(query) if value is not None}
