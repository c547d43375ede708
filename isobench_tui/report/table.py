"""The results of a workspace as rows: one per job, with the attempt that decided it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isobench_tui.campaign.models import Arm, Mode
from isobench_tui.results.metrics import headline
from isobench_tui.results.models import Diagnosis, Evidence, Flag, Metric, Outcome
from isobench_tui.results.redact import redact
from isobench_tui.store.db import tuples


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One job of the queue. What only an attempt knows is None until there is one."""

    campaign: str
    simulated: bool
    """Nothing of this campaign is a measurement of vLLM."""
    job: str
    position: int
    commit: str
    parent: str
    model: str
    """As the command names it; `model_used` is what ran."""
    mode: Mode
    arm: Arm
    agent: str
    repeat: int
    state: str
    outcome: Outcome | None
    valid: bool | None
    fingerprint: str
    image: str
    attempts: int = 0
    """How many attempts the job has had."""
    attempt: str | None = None
    """Id of the deciding attempt: the valid success, else the success, else the last one."""
    number: int | None = None
    image_digest: str | None = None
    vllm_version: str | None = None
    model_used: str | None = None
    model_revision: str | None = None
    """The commit of `model_used` on the hub, where the host's cache was used."""
    started_at: str | None = None
    """UTC, ISO 8601."""
    ended_at: str | None = None
    diagnosis: Diagnosis | None = None
    waits: str = ""
    """Why it is held, or was skipped."""
    flags: tuple[Flag, ...] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Name -> mean over the counted trials of the deciding attempt."""

    @property
    def headline(self) -> Metric | None:
        """The one metric that stands for the result."""
        return self.metrics.get(headline(self.mode))


_TASKS = """
SELECT t.id, c.name, c.simulated, t.commit_sha, t.parent_sha, t.model, t.mode, t.fingerprint
FROM tasks t JOIN campaigns c ON c.id = t.campaign_id
"""
_JOBS = """
SELECT j.task_id, j.id, j.position, j.arm, j.agent, j.repeat, j.state, j.reason, j.outcome, j.valid, j.image
FROM jobs j JOIN campaigns c ON c.id = j.campaign_id JOIN tasks t ON t.id = j.task_id
WHERE (? IS NULL OR c.name = ?) AND (? IS NULL OR t.commit_sha = ?)
ORDER BY c.id, j.position, j.id
"""
_ATTEMPTS = """
SELECT a.job_id, a.id, a.number, a.outcome = 'success', a.valid, a.image_digest, a.vllm_version, a.model_used,
       a.model_revision, a.started_at, a.ended_at
FROM attempts a
WHERE (? IS NULL AND ? IS NULL) OR a.job_id IN (
  SELECT j.id FROM jobs j JOIN campaigns c ON c.id = j.campaign_id JOIN tasks t ON t.id = j.task_id
  WHERE (? IS NULL OR c.name = ?) AND (? IS NULL OR t.commit_sha = ?)
)
ORDER BY a.job_id, a.number
"""
_OF_ATTEMPTS = "WHERE attempt_id IN (SELECT value FROM json_each(?))"


@dataclass(slots=True)
class _Tried:
    """The attempts of a job, of which only the one that decides is kept."""

    count: int = 0
    rank: tuple[bool, bool, int] = (False, False, -1)
    id: str = ""
    known: tuple[Any, ...] = ()
    """image_digest, vllm_version, model_used, model_revision, started_at, ended_at"""
    diagnosis: Diagnosis | None = None
    flags: list[Flag] = field(default_factory=list)
    metrics: dict[str, Metric] = field(default_factory=dict)


def _tried(conn: sqlite3.Connection, campaign: str | None, commit: str | None) -> dict[str, _Tried]:
    """Job id -> its attempts, with what the store knows of the deciding one."""
    jobs: dict[str, _Tried] = {}
    for job, ident, number, success, valid, *known in tuples(
        conn, _ATTEMPTS, (campaign, commit, campaign, campaign, commit, commit)
    ):
        mine = jobs.get(job) or jobs.setdefault(job, _Tried())
        mine.count += 1
        rank = bool(success and valid), bool(success), number
        if rank > mine.rank:
            mine.rank, mine.id, mine.known = rank, ident, tuple(known)
    decided = {mine.id: mine for mine in jobs.values()}
    chosen = (json.dumps(list(decided)),)
    query = f"SELECT attempt_id, failure, blame, reason, file, line, text FROM diagnoses {_OF_ATTEMPTS}"
    for ident, failure, blame, reason, file, line, text in tuples(conn, query, chosen):
        proof = Evidence(file, line, redact(text)) if file else None
        decided[ident].diagnosis = Diagnosis(failure, blame, redact(reason), proof)
    query = f"SELECT attempt_id, name, effect, text FROM flags {_OF_ATTEMPTS} ORDER BY name"
    for ident, name, effect, text in tuples(conn, query, chosen):
        decided[ident].flags.append(Flag(name, effect, redact(text)))
    query = f"SELECT attempt_id, name, value, unit, better FROM metrics {_OF_ATTEMPTS} AND trial = -1"
    same: dict[str, Any] = {}  # a dozen texts, which SQLite gives anew for every row
    for ident, name, value, unit, better in tuples(conn, query, chosen):
        one = Metric(same.setdefault(name, name), value, same.setdefault(unit, unit), same.setdefault(better, better))
        decided[ident].metrics[one.name] = one
    return jobs


def result_rows(conn: sqlite3.Connection, campaign: str | None = None, commit: str | None = None) -> list[ResultRow]:
    """One row per job in the order of the queue: of one campaign by name, or of all in order of submission.

    `commit`: only the tasks of this one.
    """
    attempts = _tried(conn, campaign, commit)
    about = {ident: known for ident, *known in tuples(conn, _TASKS)}
    out = []
    for row in tuples(conn, _JOBS, (campaign, campaign, commit, commit)):
        task, job, position, arm, agent, repeat, state, waits, outcome, valid, image = row
        name, simulated, sha, parent, model, mode, fingerprint = about[task]
        tried = attempts.get(job)
        digest, version, used, revision, started, ended = tried.known if tried else (None,) * 6
        out.append(
            ResultRow(
                campaign=name,
                simulated=bool(simulated),
                job=job,
                position=position,
                commit=sha,
                parent=parent,
                model=model,
                mode=mode,
                arm=arm,
                agent=agent,
                repeat=repeat,
                state=state,
                waits=waits,
                outcome=outcome,
                valid=None if valid is None else bool(valid),
                fingerprint=fingerprint,
                image=image,
                attempts=tried.count if tried else 0,
                attempt=tried.id if tried else None,
                number=tried.rank[2] if tried else None,
                image_digest=digest,
                vllm_version=version,
                model_used=used,
                model_revision=revision,
                started_at=started,
                ended_at=ended,
                diagnosis=tried.diagnosis if tried else None,
                flags=tuple(tried.flags) if tried else (),
                metrics=tried.metrics if tried else {},
            )
        )
    return out
