"""What the runner writes about attempts. Every function runs inside a transaction of the caller."""

from __future__ import annotations

import json
import socket
import sqlite3
from dataclasses import dataclass, field
from typing import Any, Literal

from isobench_tui.results.models import Metric, TrialFacts, Verdict
from isobench_tui.store import events, live
from isobench_tui.store.clock import now, seconds
from isobench_tui.store.query import MEAN
from isobench_tui.store.queue import behind_task, to_front


@dataclass(frozen=True, slots=True)
class Requeue:
    """The job waits again."""

    where: Literal["front", "behind"]
    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """The job has ended with this attempt."""


@dataclass(frozen=True, slots=True)
class Skipped:
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    reason: str


Fate = Requeue | Done | Skipped | Held
"""What becomes of the job when an attempt ends."""

GONE = "no longer in the campaign file"
"""Why an edit of the file skipped a job; the only skip that an edit undoes. A running job carries it in advance."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A row of `trials` with what was parsed of it."""

    facts: TrialFacts
    argv: tuple[str, ...]
    seed: int | None
    signal: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Ending:
    """All that is known of an attempt at its end: written in one transaction."""

    verdict: Verdict
    fate: Fate
    counts: bool
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    vllm_version: str | None = None
    model_used: str | None = None
    client_sha256: str | None = None
    """Of the measuring program's files; None where setup did not come that far."""
    trials: tuple[Trial, ...] = ()
    files: dict[str, Any] = field(default_factory=dict)


def open_attempt(
    connection: sqlite3.Connection, job: sqlite3.Row, lane: int, container: str, *, number: int | None = None
) -> str:
    """Start an attempt of a queued job, the next one unless `number` says which; returns its id."""
    if number is None:
        query = "SELECT coalesce(max(number), 0) + 1 FROM attempts WHERE job_id = ?"
        number = connection.execute(query, (job["id"],)).fetchone()[0]
    attempt = f"{job['id']}-{number}"
    connection.execute(
        "INSERT INTO attempts (id, job_id, number, lane, host, container, image_ref, started_at) "
        "VALUES (?,?,?,?,?,?,?,?)",
        (attempt, job["id"], number, lane, socket.gethostname(), container, job["image"], now()),
    )
    connection.execute("UPDATE jobs SET state = 'running', reason = '' WHERE id = ?", (job["id"],))
    _tell(connection, "started", attempt, f"attempt {number}")
    return attempt


def update(connection: sqlite3.Connection, attempt: str, /, **columns: Any) -> None:
    """Set columns of an attempt."""
    names = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(f"UPDATE attempts SET {names} WHERE id = ?", (*columns.values(), attempt))


def start_phase(connection: sqlite3.Connection, attempt: str, phase: str, deadline_s: float, at: str) -> None:
    """Open a phase, with its row, its live row and its event."""
    seq = connection.execute("SELECT count(*) FROM phases WHERE attempt_id = ?", (attempt,)).fetchone()[0]
    connection.execute(
        "INSERT INTO phases (attempt_id, seq, phase, started_at) VALUES (?,?,?,?)", (attempt, seq, phase, at)
    )
    update(connection, attempt, phase=phase)
    live.put(connection, f"phase/{attempt}", live.LivePhase(phase, at, deadline_s), attempt)


def end_phase(
    connection: sqlite3.Connection, attempt: str, phase: str, outcome: str, detail: str = "", at: str | None = None
) -> None:
    """Close the newest open phase of that name; quiet if there is none."""
    row = connection.execute(
        "SELECT seq, started_at FROM phases WHERE attempt_id = ? AND phase = ? AND ended_at IS NULL "
        "ORDER BY seq DESC LIMIT 1",
        (attempt, phase),
    ).fetchone()
    if row is None:
        return
    at = at or now()
    took = max(0.0, seconds(at) - seconds(row["started_at"]))
    connection.execute(
        "UPDATE phases SET ended_at = ?, seconds = ?, outcome = ?, detail = ? WHERE attempt_id = ? AND seq = ?",
        (at, took, outcome, detail, attempt, row["seq"]),
    )


def finish(connection: sqlite3.Connection, attempt: str, ending: Ending) -> None:
    """Write the result of an attempt and what becomes of its job: the one transaction that must not be lost."""
    verdict = ending.verdict
    update(
        connection,
        attempt,
        state="collected",
        outcome=verdict.outcome,
        valid=int(verdict.valid) if verdict.outcome == "success" else None,
        counts=int(ending.counts),
        exit_code=ending.exit_code,
        signal=ending.signal,
        oom_killed=int(ending.oom_killed),
        vllm_version=ending.vllm_version,
        client_sha256=ending.client_sha256,
        model_used=ending.model_used,
        model_revision=_revision(connection, attempt, ending.model_used),
        files=json.dumps(ending.files),
        ended_at=now(),
    )
    _write_trials(connection, attempt, ending.trials)
    _write_metrics(connection, attempt, MEAN, verdict.metrics)
    _write_verdict(connection, attempt, verdict)
    _end_phases(connection, attempt)
    _settle_job(connection, attempt, ending)
    live.drop(connection, attempt)
    _tell(connection, "ended", attempt, _sentence(ending), data={"outcome": verdict.outcome, "valid": verdict.valid})


def close(connection: sqlite3.Connection, attempt: str) -> None:
    """Nothing of the attempt is left on the engine."""
    update(connection, attempt, state="closed", closed_at=now())
    _end_phases(connection, attempt)  # a cleanup that was cut short by the runner's death
    live.drop(connection, attempt)


def seen_image(
    connection: sqlite3.Connection, ref: str, pinned: str, digest: str | None, key: str | None, size: int | None,
    brought_by: str | None, layers: str | None = None,
) -> None:  # fmt: skip
    """Remember an image. `brought_by` is set only when it was absent before our pull, and is then kept; so are its
    layers (JSON, see the schema), which only a registry tells."""
    connection.execute(
        "INSERT INTO images (ref, pinned, digest, id, size, brought_by, layers, seen_at) VALUES (?,?,?,?,?,?,?,?) "
        "ON CONFLICT (ref) DO UPDATE SET pinned = excluded.pinned, digest = excluded.digest, "
        "layers = coalesce(excluded.layers, CASE WHEN id IS excluded.id THEN layers END), id = excluded.id, "
        "size = excluded.size, brought_by = coalesce(excluded.brought_by, brought_by), seen_at = excluded.seen_at, "
        "removed_at = NULL",
        (ref, pinned, digest, key, size, brought_by, layers, now()),
    )


def _revision(connection: sqlite3.Connection, attempt: str, model: str | None) -> str | None:
    """The commit at which the model phase pinned the model that ran."""
    pins = connection.execute("SELECT model_pins FROM attempts WHERE id = ?", (attempt,)).fetchone()["model_pins"]
    for key, commit in (json.loads(pins) if pins else {}).items():
        if model is not None and (key == model or key.startswith(f"{model}@")):
            return str(commit)
    return None


def _end_phases(connection: sqlite3.Connection, attempt: str) -> None:
    connection.execute(
        "UPDATE phases SET ended_at = ?, outcome = 'cancelled' WHERE attempt_id = ? AND ended_at IS NULL",
        (now(), attempt),
    )


def _write_trials(connection: sqlite3.Connection, attempt: str, trials: tuple[Trial, ...]) -> None:
    for trial in trials:
        facts, result = trial.facts, trial.facts.result
        connection.execute(
            "INSERT OR REPLACE INTO trials VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                attempt,
                facts.index,
                int(facts.counted),
                trial.seed,
                json.dumps(trial.argv),
                facts.exit_code,
                trial.signal,
                trial.seconds,
                result.asked,
                result.completed,
                result.failed,
                result.output_tokens,
                result.window_s,
                result.reason,
            ),
        )
        _write_metrics(connection, attempt, facts.index, result.metrics)


def _write_metrics(connection: sqlite3.Connection, attempt: str, trial: int, metrics: tuple[Metric, ...]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO metrics VALUES (?,?,?,?,?,?)",
        [(attempt, trial, m.name, m.value, m.unit, m.better) for m in metrics],
    )


def _write_verdict(connection: sqlite3.Connection, attempt: str, verdict: Verdict) -> None:
    if verdict.diagnosis is not None:
        found = verdict.diagnosis
        proof = found.evidence
        connection.execute(
            "INSERT OR REPLACE INTO diagnoses (attempt_id, failure, blame, reason, file, line, text, frame, found) "
            "VALUES (?,?,?,?,?,?,?,?,?)",
            (
                attempt,
                found.failure,
                found.blame,
                found.reason,
                proof.file if proof else "",
                proof.line if proof else 0,
                proof.text if proof else "",
                found.frame,
                json.dumps({"failure": found.failure, "blame": found.blame}),
            ),
        )
    connection.executemany(
        "INSERT OR REPLACE INTO flags (attempt_id, name, effect, text) VALUES (?,?,?,?)",
        [(attempt, flag.name, flag.effect, flag.text) for flag in verdict.flags],
    )


def _settle_job(connection: sqlite3.Connection, attempt: str, ending: Ending) -> None:
    row = connection.execute(
        "SELECT j.id, j.reason FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.id = ?", (attempt,)
    ).fetchone()
    job = row["id"]
    verdict = ending.verdict
    connection.execute(
        "UPDATE jobs SET counted = counted + ?, interruptions = interruptions + ? WHERE id = ?",
        (int(ending.counts), int(verdict.outcome == "interrupted"), job),
    )
    match Skipped(GONE) if row["reason"] == GONE and isinstance(ending.fate, Requeue) else ending.fate:
        case Done():
            failure = verdict.diagnosis.failure if verdict.diagnosis else None
            valid = int(verdict.valid) if verdict.outcome == "success" else None
            connection.execute(
                "UPDATE jobs SET state = 'done', reason = '', outcome = ?, valid = ?, failure = ?, ended_at = ? "
                "WHERE id = ?",
                (verdict.outcome, valid, failure, now(), job),
            )
        case Requeue(where, reason):
            connection.execute("UPDATE jobs SET state = 'queued', reason = ? WHERE id = ?", (reason, job))
            (to_front if where == "front" else behind_task)(connection, job)
        case Skipped(reason):
            connection.execute("UPDATE jobs SET state = 'skipped', reason = ? WHERE id = ?", (reason, job))
        case Held(reason):
            connection.execute("UPDATE jobs SET state = 'held', reason = ? WHERE id = ?", (reason, job))


def _sentence(ending: Ending) -> str:
    verdict = ending.verdict
    text: str = verdict.outcome
    if verdict.diagnosis is not None:
        text += f" ({verdict.diagnosis.failure}): {verdict.diagnosis.reason}"
    bad = [flag.name for flag in verdict.flags if flag.effect == "invalidates"]
    if bad:
        text += f", invalid: {', '.join(bad)}"
    match ending.fate:
        case Requeue(_, reason):
            text += f"; queued again: {reason}"
        case Skipped(reason) | Held(reason):
            text += f"; {type(ending.fate).__name__.lower()}: {reason}"
    return text


def _tell(
    connection: sqlite3.Connection, kind: str, attempt: str, text: str, data: dict[str, Any] | None = None
) -> None:
    row = connection.execute(
        "SELECT j.id, j.arm, j.agent, j.repeat, t.commit_sha, c.name FROM attempts a JOIN jobs j ON j.id = a.job_id "
        "JOIN tasks t ON t.id = j.task_id JOIN campaigns c ON c.id = j.campaign_id WHERE a.id = ?",
        (attempt,),
    ).fetchone()
    who = f"{row['commit_sha'][:8]}:{row['agent'] or row['arm']}#{row['repeat'] + 1}"
    events.add(connection, kind, f"{who} {text}", campaign=row["name"], job=row["id"], attempt=attempt, data=data)
