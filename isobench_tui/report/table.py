"""The results of a workspace as rows: one per job, with the attempt that decided it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isobench_tui.campaign.models import Mode
from isobench_tui.results.metrics import headline
from isobench_tui.results.models import Diagnosis, Evidence, Flag, Metric, Outcome


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
    arm: str
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
    started_at: str | None = None
    """UTC, ISO 8601."""
    ended_at: str | None = None
    diagnosis: Diagnosis | None = None
    flags: tuple[Flag, ...] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Name -> mean over the counted trials of the deciding attempt."""

    @property
    def headline(self) -> Metric | None:
        """The one metric that stands for the result."""
        return self.metrics.get(headline(self.mode))


_JOBS = """
SELECT c.name, c.simulated, j.id, j.position, t.commit_sha, t.parent_sha, t.model, t.mode, j.arm, j.agent, j.repeat,
       j.state, j.outcome, j.valid, t.fingerprint, j.image
FROM jobs j JOIN campaigns c ON c.id = j.campaign_id JOIN tasks t ON t.id = j.task_id
WHERE ? IS NULL OR c.name = ?
ORDER BY c.id, j.position, j.id
"""
_ATTEMPTS = """
SELECT a.job_id, a.id, a.number, a.outcome, a.valid, a.image_digest, a.vllm_version, a.model_used,
       a.started_at, a.ended_at,       d.failure, d.blame, d.reason, d.file, d.line, d.text
FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN campaigns c ON c.id = j.campaign_id
LEFT JOIN diagnoses d ON d.attempt_id = a.id
WHERE ? IS NULL OR c.name = ?
ORDER BY a.job_id, a.number
"""
_OF_ATTEMPTS = """
FROM {table} x JOIN attempts a ON a.id = x.attempt_id JOIN jobs j ON j.id = a.job_id
JOIN campaigns c ON c.id = j.campaign_id
WHERE (? IS NULL OR c.name = ?)
"""


@dataclass(slots=True)
class _Attempt:
    id: str
    number: int
    outcome: str | None
    valid: bool
    known: tuple[Any, ...]
    diagnosis: Diagnosis | None
    flags: list[Flag] = field(default_factory=list)
    metrics: dict[str, Metric] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Greatest of a job's attempts decides it."""
        return self.outcome == "success" and self.valid, self.outcome == "success", self.number


def _attempts(conn: sqlite3.Connection, only: tuple[str | None, str | None]) -> dict[str, list[_Attempt]]:
    """Every attempt by job id, with its diagnosis, flags and mean metrics."""
    jobs: dict[str, list[_Attempt]] = {}
    attempts: dict[str, _Attempt] = {}
    for row in conn.execute(_ATTEMPTS, only):
        job, ident, number, outcome, valid, *known = row
        failure, blame, reason, file, line, text = known[5:]
        diagnosis = None
        if failure is not None:
            evidence = Evidence(file, line, text) if file else None
            diagnosis = Diagnosis(failure, blame, reason, evidence)
        attempts[ident] = _Attempt(ident, number, outcome, bool(valid), tuple(known[:5]), diagnosis)
        jobs.setdefault(job, []).append(attempts[ident])
    flags = "SELECT x.attempt_id, x.name, x.effect, x.text" + _OF_ATTEMPTS.format(table="flags") + "ORDER BY x.name"
    for ident, name, effect, text in conn.execute(flags, only):
        attempts[ident].flags.append(Flag(name, "invalidates" if effect == "invalidates" else "notes", text))
    metrics = (
        "SELECT x.attempt_id, x.name, x.value, x.unit, x.better"
        + _OF_ATTEMPTS.format(table="metrics")
        + "AND x.trial = -1 ORDER BY x.name"
    )
    for ident, name, value, unit, better in conn.execute(metrics, only):
        attempts[ident].metrics[name] = Metric(name, value, unit, better)
    return jobs


def result_rows(conn: sqlite3.Connection, campaign: str | None = None) -> list[ResultRow]:
    """One row per job in the order of the queue: of one campaign by name, or of all in order of submission."""
    only = (campaign, campaign)
    attempts = _attempts(conn, only)
    out = []
    for row in conn.execute(_JOBS, only):
        name, simulated, job, position, commit, parent, model, mode, arm, agent, repeat = tuple(row)[:11]
        state, outcome, valid, fingerprint, image = tuple(row)[11:]
        tried = attempts.get(job, [])
        decided = max(tried, key=lambda attempt: attempt.rank) if tried else None
        digest, version, used, started, ended = decided.known if decided else (None,) * 5
        out.append(
            ResultRow(
                campaign=name,
                simulated=bool(simulated),
                job=job,
                position=position,
                commit=commit,
                parent=parent,
                model=model,
                mode=mode,
                arm=arm,
                agent=agent,
                repeat=repeat,
                state=state,
                outcome=outcome,
                valid=None if valid is None else bool(valid),
                fingerprint=fingerprint,
                image=image,
                attempts=len(tried),
                attempt=decided.id if decided else None,
                number=decided.number if decided else None,
                image_digest=digest,
                vllm_version=version,
                model_used=used,
                started_at=started,
                ended_at=ended,
                diagnosis=decided.diagnosis if decided else None,
                flags=tuple(decided.flags) if decided else (),
                metrics=decided.metrics if decided else {},
            )
        )
    return out
