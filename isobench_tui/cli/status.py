"""`status`: the queue, what runs now, and the disk. Reads the store and nothing else, so that it starts at once."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
from dataclasses import asdict
from typing import Any

from isobench_tui.report.text import bytes_text, clock, number, safe, span
from isobench_tui.results.metrics import HEADLINE
from isobench_tui.store import db, live, query
from isobench_tui.store.answer import OK
from isobench_tui.store.clock import ago
from isobench_tui.store.selectors import campaign_id
from isobench_tui.store.words import count_jobs
from isobench_tui.store.workspace import Workspace, find

STALE_S = 20.0
"""A heartbeat older than this is worth a word although the lock is held."""
NO_ROOM = 1024**2
"""Bytes free on the workspace's disk below which a silent runner waits for space, and cannot write that it does."""


def status(options: argparse.Namespace) -> int:
    workspace = find(options.workspace)
    connection = db.open_store(workspace)
    if options.campaign is not None:
        campaign_id(connection, options.campaign)
    if options.json:
        print(json.dumps(gather(workspace, connection, options.campaign), indent=1))
    else:
        show(workspace, connection, options.campaign)
    return OK


def show(workspace: Workspace, connection: sqlite3.Connection, campaign: str | None) -> None:
    """Print it for a person."""
    _print(gather(workspace, connection, campaign))


def gather(workspace: Workspace, connection: sqlite3.Connection, campaign: str | None) -> dict[str, Any]:
    """Everything that `status` shows, for programs."""
    with db.snapshot(connection):
        values = query.metric_of_mode(connection, HEADLINE, campaign)
        names = [row for row in query.campaigns(connection) if campaign in (None, row["name"])]
        return {
            "workspace": str(workspace.root),
            "runner": _runner(workspace, connection),
            "paused": query.pause_state(connection),
            "campaigns": [
                {
                    "name": row["name"],
                    "state": row["state"],
                    "paused": row["paused"] is not None,
                    "simulated": bool(row["simulated"]),
                    "jobs": query.tally_json(query.tally(connection, row["name"])),
                }
                for row in names
            ],
            "running": [_running(connection, row) for row in query.open_attempts(connection)],
            "disk": query.disk(connection),
            "jobs": [_job(row, values.get(row["id"])) for row in query.jobs(connection, campaign)],
        }


def _runner(workspace: Workspace, connection: sqlite3.Connection) -> dict[str, Any]:
    beat = live.get(connection, live.RUNNER_KEY)
    alive = workspace.locked()
    if beat is None:
        return {"alive": alive, "heartbeat": None}
    at, value = beat
    return {
        "alive": alive,
        "heartbeat": at,
        "age_s": round(ago(at), 1),
        "pid": value["pid"],
        "state": value["state"] if alive else "not alive",
        "engine": value["engine"],
        "no_room": alive and ago(at) > STALE_S and _free(workspace) < NO_ROOM,
    }


def _free(workspace: Workspace) -> int:
    found = os.statvfs(workspace.root)
    return found.f_bavail * found.f_frsize


def _running(connection: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    phase = query.live_phase(connection, row["id"])
    pull = query.live_pull(connection, row["id"])
    model = query.live_model(connection, row["id"])
    forecast = query.live_forecast(connection, row["id"])
    return {
        "attempt": row["id"],
        "job": row["job_id"],
        "commit": row["commit_sha"],
        "arm": row["arm"],
        "agent": row["agent"],
        "repeat": row["repeat"] + 1,
        "lane": row["lane"],
        "stopping": row["stop"],
        "phase": row["phase"],
        "phase_s": round(ago(phase.since), 1) if phase else None,
        "deadline_s": phase.deadline_s if phase else None,
        "detail": phase.detail if phase else "",
        "tokens_per_s": phase.tokens_per_s if phase else None,
        "pull": {"done": pull.done, "total": pull.total, "rate": pull.rate, "eta": pull.eta} if pull else None,
        "model": asdict(model) if model else None,
        "forecast": asdict(forecast) if forecast else None,
    }


def _job(row: sqlite3.Row, value: sqlite3.Row | None) -> dict[str, Any]:
    ended_badly = row["state"] == "done" and row["outcome"] != "success"
    return {
        "id": row["id"],
        "campaign": row["campaign"],
        "commit": row["commit_sha"],
        "arm": row["arm"],
        "agent": row["agent"],
        "repeat": row["repeat"] + 1,
        "mode": row["mode"],
        "model": row["model"],
        "model_used": row["model_used"],
        "model_revision": row["model_revision"],
        "state": row["state"],
        "outcome": row["outcome"],
        "valid": None if row["valid"] is None else bool(row["valid"]),
        "failure": row["failure"],
        "reason": row["reason"] or (row["why"] if row["state"] == "done" else "") or "",
        "evidence": {key: row[key] for key in ("file", "line", "text")} if ended_badly and row["text"] else None,
        "metric": value["name"] if value else None,
        "value": value["value"] if value else None,
        "unit": value["unit"] if value else None,
        "attempt": row["attempt"],
    }


def _print(found: dict[str, Any]) -> None:
    for campaign in found["campaigns"]:
        jobs = campaign["jobs"]
        words = [
            f"{jobs[key]} {key}" for key in ("valid", "invalid", "failed", "skipped", "held", "left") if jobs[key]
        ]
        notes = [word for word in ("paused", "simulated") if campaign[word]]
        if campaign["state"] != "active":
            notes.append(campaign["state"])
        print(f"campaign {campaign['name']}{_brackets(notes)}: {count_jobs(jobs['total'])}, {', '.join(words)}")
    _print_runner(found)
    for disk in found["disk"]:
        print(f"disk     {disk['path']}: {bytes_text(disk['free'])} free of {bytes_text(disk['total'])}")
    for now in found["running"]:
        print(f"now      {_who(now)} {_phase(now)}")
    if found["jobs"]:
        names = [_who(job) for job in found["jobs"]]
        width = max(map(len, names))
        modes = max(len(job["mode"]) for job in found["jobs"])
        lines = (
            f"{job['id']}  {name:<{width}}  {job['mode']:<{modes}}  {_outcome(job)}".rstrip()
            for job, name in zip(found["jobs"], names, strict=True)
        )
        print("", *lines, sep="\n")


def _print_runner(found: dict[str, Any]) -> None:
    runner, pause = found["runner"], found["paused"]
    if not runner["alive"]:
        since = f", last heartbeat {clock(runner['heartbeat'])}" if runner.get("heartbeat") else ""
        left = any(campaign["jobs"]["left"] for campaign in found["campaigns"])
        print(f"runner   not alive{since}; " + ("`isobench run` starts it" if left else "nothing is left to do"))
    else:
        late = f", but silent for {span(runner['age_s'])}" if runner.get("age_s", 0) > STALE_S else ""
        late += f": the disk of {found['workspace']} is full, it waits for space" if runner.get("no_room") else ""
        engine = f", {runner['engine']}" if runner.get("engine") else ""
        print(f"runner   {runner.get('state', 'starting')}, pid {runner.get('pid')}{engine}{late}")
    if pause is not None and pause["kind"] == "pause":
        word = "pausing" if found["running"] else "paused"
        print(f"queue    {word} by {pause['by']} since {clock(pause['at'])}; `isobench resume` goes on")
    elif pause is not None:
        print(f"queue    paused itself at {clock(pause['at'])}: {pause['failure']}: {safe(pause['reason'])}")


def _phase(now: dict[str, Any]) -> str:
    text = str(now["phase"])
    if now["phase_s"] is not None:
        text += f" {span(now['phase_s'])} of {span(now['deadline_s'])}"
    if now["detail"]:
        text += f", {safe(now['detail'])}"
    if now["tokens_per_s"] is not None:
        text += f", {now['tokens_per_s']:.0f} tok/s"
    moving = {"image": now["pull"], "model": now["model"]}.get(now["phase"])
    if moving:
        text += f", {bytes_text(moving['done'])}"
        text += f" of {bytes_text(moving['total'])}" if moving["total"] else ""
    if now["forecast"] and now["phase"] in {"preflight", "image"}:
        wanted = [
            f"{bytes_text(x['needed'])} of {bytes_text(x['free'])} free in {x['path']}"
            for x in now["forecast"]["volumes"]
        ]
        text += f"; {bytes_text(now['forecast']['fetch'])} to fetch, needs {', '.join(wanted)}"
    if now["stopping"]:
        text += " (cancelling)"
    return text


def _who(job: dict[str, Any]) -> str:
    return f"{job['commit'][:8]}:{job['agent'] or job['arm']}#{job['repeat']}"


def _outcome(job: dict[str, Any]) -> str:
    if job["state"] != "done":
        return str(job["state"]) + _brackets([safe(job["reason"])] if job["reason"] else [])
    if job["outcome"] == "success":
        value = f" {number(job['value'])} {job['unit']}" if job["value"] is not None else ""
        ran = job["model_used"]
        other = _brackets([f"ran {safe(ran)}"]) if ran and ran != job["model"] else ""
        return f"{'valid' if job['valid'] else 'INVALID'}{value}{other}"
    text = f"{job['outcome'].upper()} {job['failure']}: {safe(job['reason'])}"
    proof = job["evidence"]
    return text + (f" [{proof['file']}:{proof['line']} {safe(proof['text'])}]" if proof and proof["line"] else "")


def _brackets(notes: list[str]) -> str:
    return f" ({', '.join(notes)})" if notes else ""
