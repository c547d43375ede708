"""The story of a job as facts: what ran, what happened, the lines that prove it, whose fault, what was done."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from isobench_tui.results.metrics import headline
from isobench_tui.results.redact import redact
from isobench_tui.results.rules import remedy, rule
from isobench_tui.results.text import clean, clip
from isobench_tui.store import query, secrets
from isobench_tui.store.rundir import Hostile, RunDir
from isobench_tui.store.selectors import Selector, resolve
from isobench_tui.store.workspace import Workspace

AROUND: Final = 3
"""Lines shown before and after the one that proves it."""
MAX_LINE: Final = 400
"""Characters of a log line that are shown."""
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log, cleaned and cut to MAX_LINE characters; `line` is 1-based."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What proves a diagnosis."""

    file: str
    line: int
    """0 where there is no line: an engine's word."""
    text: str
    context: tuple[Line, ...] = ()
    """The lines around it, itself among them; none where the file is gone or is no plain file."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The diagnosis of one attempt, with what its class means."""

    failure: str
    blame: str
    reason: str
    siblings: str
    """What the task's other arms say of it."""
    frame: str
    evidence: Proof | None
    remedy: str
    retry: str
    """What the retry policy does about the class; empty for a class that the table does not know."""
    most: int | None
    """Attempts that a job may spend on the class; None where it burns none, or the class is not known."""


@dataclass(frozen=True, slots=True)
class PhaseTold:
    """One phase of an attempt; `seconds` and `outcome` are None while it runs."""

    phase: str
    seconds: float | None
    outcome: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class FlagTold:
    """One finding about validity."""

    name: str
    effect: str
    text: str


@dataclass(frozen=True, slots=True)
class MetricTold:
    """The metric that stands for the result."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class EventTold:
    """One event of the job."""

    at: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt. What is not known yet is None."""

    attempt: str
    number: int
    outcome: str | None
    valid: bool | None
    phase: str
    stop: str | None
    exit_code: int | None
    signal: int | None
    oom_killed: bool
    vllm_version: str | None
    model_used: str | None
    image_digest: str | None
    started_at: str
    ended_at: str | None
    run_dir: str
    phases: tuple[PhaseTold, ...]
    flags: tuple[FlagTold, ...]
    metric: MetricTold | None
    diagnosis: Finding | None


@dataclass(frozen=True, slots=True)
class Story:
    """A job with all its attempts, oldest first, and its events."""

    job: str
    name: str
    campaign: str
    simulated: bool
    commit: str
    arm: str
    agent: str
    repeat: int
    """1-based."""
    model: str
    mode: str
    image: str
    state: str
    reason: str
    outcome: str | None
    valid: bool | None
    counted: int
    """Attempts that count against `max_attempts`."""
    max_attempts: int | None
    """None for imported results."""
    attempts: tuple[Try, ...]
    events: tuple[EventTold, ...]

    @property
    def last(self) -> Try | None:
        """The newest attempt that has ended."""
        return next((one for one in reversed(self.attempts) if one.outcome), None)


def stories(workspace: Workspace, connection: sqlite3.Connection, selector: Selector) -> list[Story]:
    """Of all jobs that are meant, in queue order. Raises Rejected where there is none."""
    return [_story(workspace, connection, job) for job in resolve(connection, selector)]


def to_json(story: Story) -> dict[str, Any]:
    """One object; the class and blame of the newest ended attempt stand at the top of it."""
    found = story.last.diagnosis if story.last else None
    out = asdict(story)
    attempts, events = out.pop("attempts"), out.pop("events")
    for one in attempts:
        if one["diagnosis"]:
            one["diagnosis"] = {"class": one["diagnosis"].pop("failure"), **one["diagnosis"]}
    about = {
        "class": found.failure if found else None,
        "blame": found.blame if found else None,
        "remedy": found.remedy if found else None,
    }
    return {**out, **about, "attempts": attempts, "events": events}


def _story(workspace: Workspace, connection: sqlite3.Connection, job: sqlite3.Row) -> Story:
    task = connection.execute(
        "SELECT t.model, t.mode, c.simulated, json_extract(?, '$.max_attempts') AS most "
        "FROM tasks t JOIN campaigns c ON c.id = t.campaign_id WHERE t.id = ?",
        (job["spec"], job["task_id"]),
    ).fetchone()
    told = connection.execute("SELECT at, kind, text FROM events WHERE job_id = ? ORDER BY id", (job["id"],))
    return Story(
        job=job["id"],
        name=f"{job['commit_sha'][:8]}:{job['agent'] or job['arm']}#{job['repeat'] + 1}",
        campaign=job["campaign"],
        simulated=bool(task["simulated"]),
        commit=job["commit_sha"],
        arm=job["arm"],
        agent=job["agent"],
        repeat=job["repeat"] + 1,
        model=task["model"],
        mode=task["mode"],
        image=job["image"],
        state=job["state"],
        reason=job["reason"],
        outcome=job["outcome"],
        valid=None if job["valid"] is None else bool(job["valid"]),
        counted=job["counted"],
        max_attempts=task["most"],
        attempts=tuple(
            _try(workspace, connection, row, task["mode"]) for row in query.attempts(connection, job["id"])
        ),
        events=tuple(EventTold(*row) for row in told),
    )


def _try(workspace: Workspace, connection: sqlite3.Connection, row: sqlite3.Row, mode: str) -> Try:
    key = row["id"]
    phases = connection.execute(
        "SELECT phase, seconds, outcome, detail FROM phases WHERE attempt_id = ? ORDER BY seq", (key,)
    )
    flags = connection.execute("SELECT name, effect, text FROM flags WHERE attempt_id = ? ORDER BY name", (key,))
    metric = connection.execute(
        "SELECT name, value, unit FROM metrics WHERE attempt_id = ? AND trial = ? AND name = ?",
        (key, query.MEAN, headline(mode)),  # type: ignore[arg-type]
    ).fetchone()
    return Try(
        attempt=key,
        number=row["number"],
        outcome=row["outcome"],
        valid=None if row["valid"] is None else bool(row["valid"]),
        phase=row["phase"],
        stop=row["stop"],
        exit_code=row["exit_code"],
        signal=row["signal"],
        oom_killed=bool(row["oom_killed"]),
        vllm_version=row["vllm_version"],
        model_used=row["model_used"],
        image_digest=row["image_digest"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        run_dir=str(workspace.run_dir(key)),
        phases=tuple(PhaseTold(*phase) for phase in phases),
        flags=tuple(FlagTold(name, effect, redact(text)) for name, effect, text in flags),
        metric=MetricTold(*metric) if metric else None,
        diagnosis=_finding(RunDir(workspace.run_dir(key)), connection, key),
    )


def _finding(run_dir: RunDir, connection: sqlite3.Connection, attempt: str) -> Finding | None:
    row = connection.execute("SELECT * FROM diagnoses WHERE attempt_id = ?", (attempt,)).fetchone()
    if row is None:
        return None
    known = rule(row["failure"])
    proof = None
    if row["file"]:
        text = redact(row["text"])
        around = _around(run_dir, row["file"], row["line"], text) if row["line"] else ()
        proof = Proof(row["file"], row["line"], text, tuple(around))
    return Finding(
        failure=row["failure"],
        blame=row["blame"],
        reason=redact(row["reason"]),
        siblings=row["why"],
        frame=row["frame"],
        evidence=proof,
        remedy=remedy(row["failure"]),
        retry=str(known.retry) if known else "",
        most=known.retry.attempts if known and not known.retry.pauses else None,
    )


def _around(run_dir: RunDir, file: str, line: int, proof: str) -> Iterable[Line]:
    """The lines around one of a log, itself among them; none where the file is gone or is no plain file."""
    first, hide = max(1, line - AROUND), secrets.redactor()
    found: list[Line] = []
    try:
        with run_dir.open(file) as fd, os.fdopen(os.dup(fd), "rb") as log:
            at = 1
            while at < first and (chunk := log.read(_CHUNK)):
                count = chunk.count(b"\n")
                if at + count < first:
                    at += count
                    continue
                end = -1
                while at < first:  # the line begins in this chunk
                    end = chunk.index(b"\n", end + 1)
                    at += 1
                log.seek(end + 1 - len(chunk), os.SEEK_CUR)
            for number in range(first, line + AROUND + 1):
                raw = log.readline(_CHUNK)
                if not raw:
                    break
                last = raw.rstrip(b"\r\n").rpartition(b"\r")[2]  # a progress bar: what a terminal would show
                text = proof if number == line else hide(clean(last.decode("utf-8", "replace")))
                found.append(Line(number, clip(text, MAX_LINE)))
    except (OSError, Hostile):
        return []
    return found
