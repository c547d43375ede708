"""Run directories back into a store that has lost, or never had, their attempts.

The driver's files are collected again as a runner collects them: the same parser, judge and retry policy. What the
runner alone had seen is gone with the old store - why an attempt was stopped, its phases on the host - and an attempt
that never reached its container left no directory.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from dataclasses import dataclass
from typing import Any, get_args

from isobench_tui.campaign.models import Settings
from isobench_tui.engine.base import Exit
from isobench_tui.engine.job import EXIT_STOPPED, INSPECT_FILE, JOB_FILE
from isobench_tui.runner import collect, recovery
from isobench_tui.runner.eventlog import EventLog
from isobench_tui.runner.scheduler import order_of
from isobench_tui.runner.services import container_name
from isobench_tui.store import attempts, db, events
from isobench_tui.store.clock import seconds, stamp
from isobench_tui.store.queue import Stop, reopen
from isobench_tui.store.rejudge import rejudge
from isobench_tui.store.rundir import Hostile, RunDir
from isobench_tui.store.workspace import Workspace

_NAME = re.compile(r"(j[0-9a-f]{10})-([1-9][0-9]{0,5})")
_JOB_CAP = 16 * 1024**2
_PHASES = ("setup", "server", "measure")


@dataclass(frozen=True, slots=True)
class Lost:
    """An attempt that the store lacks, or holds as still open, as a backup does of what ran when it was made."""

    attempt: str
    job: str
    number: int
    began: float
    """Unix seconds, by the store or the driver's first event."""
    open: bool
    """The store has it."""
    last: bool
    """No later attempt of its job is known."""


@dataclass(frozen=True, slots=True)
class Found:
    """What `rebuild` did with one run directory."""

    attempt: str
    outcome: str | None
    """None: left to the runner, or not ours."""
    text: str


def lost(connection: sqlite3.Connection, workspace: Workspace) -> tuple[list[Lost], list[Found]]:
    """The attempts to collect, in the order in which they ran, and the directories that are none."""
    rows = connection.execute("SELECT id, job_id, number, state, started_at FROM attempts")
    known = {row["id"]: row for row in rows}
    still_open = {key for key, row in known.items() if row["state"] == "open"}
    newest: dict[str, int] = {}
    for row in known.values():
        newest[row["job_id"]] = max(row["number"], newest.get(row["job_id"], 0))
    others: list[Found] = []
    mine: dict[str, tuple[str, int]] = {key: (known[key]["job_id"], known[key]["number"]) for key in still_open}
    for name in RunDir(workspace.runs).names():
        match = _NAME.fullmatch(name)
        if name in known or match is None:
            continue
        wrong = _not_ours(connection, RunDir(workspace.run_dir(name)), name, match[1])
        if wrong:
            others.append(Found(name, None, wrong))
        else:
            mine[name] = (match[1], int(match[2]))
            newest[match[1]] = max(int(match[2]), newest.get(match[1], 0))
    found = []
    for key, (job, number) in mine.items():
        here = key in still_open
        began = seconds(known[key]["started_at"]) if here else _began(RunDir(workspace.run_dir(key)))
        found.append(Lost(key, job, number, began, here, number == newest[job]))
    return sorted(found, key=lambda one: (one.job, one.number)), others


def collect_again(connection: sqlite3.Connection, workspace: Workspace, one: Lost) -> Found:
    """Open the attempt, judge its files, end it - in one transaction, so that a second call finds nothing to do."""
    run_dir = RunDir(workspace.run_dir(one.attempt))
    log = EventLog(run_dir)
    log.read()
    exit_ = _exit(run_dir)
    with db.transaction(connection, durable=True):
        if not one.open:
            _open(connection, run_dir, one)
        if exit_ is None and one.last:
            if not one.open:
                _tell(connection, one, "is back from its run directory; it had not ended")
            return Found(one.attempt, None, "had not ended; the runner looks whether it still runs")
        stopped = exit_ is not None and exit_.code == EXIT_STOPPED
        if stopped:
            connection.execute("UPDATE attempts SET stop = coalesce(stop, 'stop') WHERE id = ?", (one.attempt,))
        if not one.open:
            _write_phases(connection, one.attempt, log.seen)
        order = order_of(connection, one.attempt)
        interrupted = None if exit_ else "it never ended"
        facts = collect.HostFacts(exit=exit_, stopped=stopped, interrupted=interrupted)
        ending = collect.read(order, run_dir, facts)
        ending = collect.decide(connection, one.attempt, ending, order.spec.max_attempts)
        attempts.finish(connection, one.attempt, ending)
        rejudge(connection, order.task)
        attempts.close(connection, one.attempt)
        last = float(log.seen[-1]["at"]) if log.seen else one.began
        ended = stamp(min(max(last, one.began), time.time()))
        attempts.update(connection, one.attempt, ended_at=ended, closed_at=ended)
        outcome = ending.verdict.outcome
        text = f"{outcome} ({ending.verdict.diagnosis.failure})" if ending.verdict.diagnosis else outcome
        _tell(connection, one, f"collected again from its run directory: {text}")
    return Found(one.attempt, outcome, text)


def _not_ours(connection: sqlite3.Connection, run_dir: RunDir, name: str, job: str) -> str:
    """Why a directory cannot be collected; empty if it can."""
    row = connection.execute(
        "SELECT patch, json_extract(spec, '$.patch_sha256') AS sha FROM jobs WHERE id = ?", (job,)
    )
    found = row.fetchone()
    if found is None:
        return "no campaign here has its job; name the campaign file of it: `isobench rebuild FILE`"
    orders = _json(run_dir, JOB_FILE)
    if not orders:
        return f"its {JOB_FILE} is missing or damaged"
    patch = orders.get("patch")
    sha = patch.get("sha256") if isinstance(patch, dict) else None
    if orders.get("attempt") != name or sha != found["sha"]:
        return f"its {JOB_FILE} is that of another job"
    return ""


def _began(run_dir: RunDir) -> float:
    """When the driver began, else when the directory was made; never later than now."""
    log = EventLog(run_dir)
    log.read()
    claimed = float(log.seen[0]["at"]) if log.seen else 0.0
    with contextlib.suppress(OSError):
        made = run_dir.path.stat().st_mtime
        return min(claimed or made, time.time())
    return min(claimed, time.time())


def _open(connection: sqlite3.Connection, run_dir: RunDir, one: Lost) -> None:
    job = connection.execute("SELECT * FROM jobs WHERE id = ?", (one.job,)).fetchone()
    settings = Settings.model_validate_json(
        connection.execute("SELECT settings FROM campaigns WHERE id = ?", (job["campaign_id"],)).fetchone()[
            "settings"
        ]
    )
    if job["state"] in {"done", "skipped"}:  # it was tried again after the backup
        counted, broken = job["counted"], job["interruptions"]
        reopen(connection, one.job)
        connection.execute("UPDATE jobs SET counted = ?, interruptions = ? WHERE id = ?", (counted, broken, one.job))
    attempts.open_attempt(connection, job, 0, container_name(settings.lanes[0]), number=one.number)
    attempts.update(connection, one.attempt, **_columns(connection, run_dir, one, job["image"]))


def _columns(connection: sqlite3.Connection, run_dir: RunDir, one: Lost, image: str) -> dict[str, Any]:
    """What the old store knew, by the runner's note in inspect.json; else what can be said without it."""
    noted = _json(run_dir, INSPECT_FILE).get(collect.OURS)
    if isinstance(noted, dict):
        known = {key: noted.get(key) for key in collect.OURS_COLUMNS}
        if all(value is None or isinstance(value, str) for value in known.values()):
            stop = known["stop"] if known["stop"] in get_args(Stop) else None
            return {**known, "stop": stop, "started_at": _time(known["started_at"], one.began)}
    columns: dict[str, Any] = {"started_at": stamp(one.began)}
    row = connection.execute("SELECT digest, id FROM images WHERE ref = ?", (image,)).fetchone()
    if row is not None:
        columns |= {"image_digest": row["digest"], "image_id": row["id"]}
    query = "SELECT host FROM attempts WHERE id != ? ORDER BY started_at DESC"
    elsewhere = connection.execute(query, (one.attempt,)).fetchone()
    if elsewhere is not None:  # a workspace is one host's; we may be on the one that took it over
        columns["host"] = elsewhere["host"]
    return columns


def _time(text: str | None, otherwise: float) -> str:
    try:
        return stamp(seconds(text or ""))
    except (ValueError, OverflowError):
        return stamp(otherwise)


def _exit(run_dir: RunDir) -> Exit | None:
    """The engine's word where the runner wrote it down, else the driver's own."""
    claimed = recovery.claimed_end(run_dir)
    state = _json(run_dir, INSPECT_FILE).get("State")
    if not isinstance(state, dict) or not isinstance(state.get("ExitCode"), int) or state.get("Status") != "exited":
        return claimed
    code = state["ExitCode"]
    signal = code - 128 if 128 < code <= 128 + 64 else None
    return Exit(code, signal, state.get("OOMKilled") is True, claimed=True)


def _json(run_dir: RunDir, name: str) -> dict[str, Any]:
    try:
        found = json.loads(run_dir.read(name, _JOB_CAP))
    except (Hostile, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_phases(connection: sqlite3.Connection, attempt: str, seen: list[dict[str, Any]]) -> None:
    for event in seen:
        if event["event"] != "phase" or event.get("phase") not in _PHASES:
            continue
        phase, at = str(event["phase"]), stamp(float(event["at"]))
        if event.get("state") == "start":
            attempts.start_phase(connection, attempt, phase, 0.0, at)
        else:
            outcome = "ok" if event.get("ok") else "failed"
            attempts.end_phase(connection, attempt, phase, outcome, str(event.get("reason") or "")[:500], at)


def _tell(connection: sqlite3.Connection, one: Lost, text: str) -> None:
    events.add(connection, "rebuilt", f"{one.attempt} {text}", job=one.job, attempt=one.attempt)
