"""The tasks of a workspace with all that `results.compare` needs: the end of every job, every valid attempt."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
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
from isobench_tui.store.db import tuples
from isobench_tui.store.words import NO_IMAGE

DECIDING = frozenset(name for mode in get_args(Mode) for name in (headline(mode), *iso_metrics(mode)))
"""The metrics that a table needs; comparing only these keeps an export of many attempts short."""

_SIDES = ("baseline", "human", "agent")
_RUNS = """
SELECT id, job_id, lane, host, client_sha256, model_used, model_revision, coalesce(image_digest, image_ref),
       vllm_version, started_at, coalesce(ended_at, started_at)
FROM attempts
WHERE outcome = 'success' AND valid = 1 AND (? OR job_id IN (SELECT value FROM json_each(?)))
"""
_METRICS = """
SELECT attempt_id, name, value, unit, better FROM metrics
WHERE attempt_id IN (SELECT value FROM json_each(?)) AND trial = -1
"""
_FLAGS = "SELECT attempt_id, name, effect, text FROM flags WHERE attempt_id IN (SELECT value FROM json_each(?))"


def tasks(
    connection: sqlite3.Connection,
    rows: Iterable[ResultRow],
    *,
    campaign: str | None = None,
    commit: str | None = None,
) -> list[Task]:
    """The tasks of `rows` (of one campaign and commit only, if given) in their order; sides: baseline, human, agents.

    Jobs that an edit of the campaign file took out are no part of it, nor are imported ones, which have no rate and
    no speedup, unless a commit is asked for.
    """
    jobs = {row.job: row for row in rows}
    runs = _runs(connection, jobs, everything=campaign is None and commit is None)
    floors = _floors(connection)
    found: dict[tuple[str, str, str], dict[tuple[str, str], list[ResultRow]]] = {}
    for row in jobs.values():
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
        runs=tuple(sorted(mine, key=lambda run: (run.started, run.attempt))),
    )


def _runs(connection: sqlite3.Connection, jobs: Mapping[str, ResultRow], *, everything: bool) -> dict[str, list[Run]]:
    """Job -> its valid attempts. What decided a row was read with it; of the rest, metrics and flags are read now."""
    only = everything, json.dumps([] if everything else list(jobs))
    valid = [row for row in tuples(connection, _RUNS, only) if row[1] in jobs]
    rest = json.dumps([row[0] for row in valid if row[0] != jobs[row[1]].attempt])
    values: dict[str, dict[str, Metric]] = {}
    for attempt, name, value, unit, better in tuples(connection, _METRICS, (rest,)):
        values.setdefault(attempt, {})[name] = Metric(name, value, unit, better)
    flags: dict[str, list[Flag]] = {}
    for attempt, name, effect, text in tuples(connection, _FLAGS, (rest,)):
        flags.setdefault(attempt, []).append(Flag(name, effect, text))
    found: dict[str, list[Run]] = {}
    for attempt, job, lane, host, client, model, revision, image, vllm, started, ended in valid:
        row = jobs[job]
        known = attempt == row.attempt
        run = Run(
            attempt=attempt,
            repeat=row.repeat,
            ground=Ground(row.simulated, row.fingerprint, host, client, model, revision),
            metrics=row.metrics if known else values.get(attempt, {}),
            started=datetime.fromisoformat(started).timestamp(),
            ended=datetime.fromisoformat(ended).timestamp(),
            lane=lane,
            image=image,
            vllm=vllm,
            flags=row.flags if known else tuple(flags.get(attempt, ())),
        )
        found.setdefault(job, []).append(run)
    return found


def _floors(connection: sqlite3.Connection) -> dict[str, float]:
    """Campaign -> its noise floor."""
    query = "SELECT name, json_extract(settings, '$.noise_floor') FROM campaigns"
    return {name: float(value) for name, value in connection.execute(query) if value is not None}
