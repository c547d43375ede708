"""`why`: the story of a job in plain words: what ran, what happened, what proves it, what was done, what to do."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
from typing import Any

from isobench_tui.report.text import clock, safe, span
from isobench_tui.results.metrics import headline
from isobench_tui.results.redact import redact
from isobench_tui.results.rules import remedy, rule
from isobench_tui.results.text import clean, clip
from isobench_tui.store import db, query, secrets
from isobench_tui.store.answer import OK
from isobench_tui.store.clock import seconds
from isobench_tui.store.rundir import Hostile, RunDir
from isobench_tui.store.selectors import Selector, resolve
from isobench_tui.store.workspace import Workspace, find

AROUND = 3
"""Lines shown before and after the one that proves it."""
MAX_LINE = 400
"""Characters of a log line that are shown."""
_CHUNK = 1 << 20
_LAST = 12
"""Events of a job that are told; the older ones are in `--json`."""


def why(options: argparse.Namespace) -> int:
    workspace = find(options.workspace)
    connection = db.open_store(workspace)
    with db.snapshot(connection):
        stories = [_story(workspace, connection, job) for job in resolve(connection, Selector((options.selector,)))]
    if options.json:
        print(json.dumps(stories, indent=1))
        return OK
    print("\n\n".join("\n".join(_tell(story)) for story in stories))
    return OK


# ------------------------------------------------------------------------------------------------------- facts


def _story(workspace: Workspace, connection: sqlite3.Connection, job: sqlite3.Row) -> dict[str, Any]:
    task = connection.execute("SELECT model, mode FROM tasks WHERE id = ?", (job["task_id"],)).fetchone()
    attempts = [_attempt(workspace, connection, row, task["mode"]) for row in query.attempts(connection, job["id"])]
    told = connection.execute(
        "SELECT at, kind, text FROM events WHERE job_id = ? ORDER BY id", (job["id"],)
    ).fetchall()
    last = next((one for one in reversed(attempts) if one["outcome"]), None)
    found = last["diagnosis"] if last else None
    return {
        "job": job["id"],
        "name": f"{job['commit_sha'][:8]}:{job['agent'] or job['arm']}#{job['repeat'] + 1}",
        "campaign": job["campaign"],
        "commit": job["commit_sha"],
        "arm": job["arm"],
        "agent": job["agent"],
        "repeat": job["repeat"] + 1,
        "model": task["model"],
        "mode": task["mode"],
        "image": job["image"],
        "state": job["state"],
        "reason": job["reason"],
        "outcome": job["outcome"],
        "valid": None if job["valid"] is None else bool(job["valid"]),
        "class": found["class"] if found else None,
        "blame": found["blame"] if found else None,
        "remedy": found["remedy"] if found else None,
        "attempts": attempts,
        "events": [dict(row) for row in told],
    }


def _attempt(workspace: Workspace, connection: sqlite3.Connection, row: sqlite3.Row, mode: str) -> dict[str, Any]:
    key = row["id"]
    phases = connection.execute(
        "SELECT phase, seconds, outcome, detail FROM phases WHERE attempt_id = ? ORDER BY seq", (key,)
    )
    flags = connection.execute("SELECT name, effect, text FROM flags WHERE attempt_id = ? ORDER BY name", (key,))
    metric = connection.execute(
        "SELECT name, value, unit FROM metrics WHERE attempt_id = ? AND trial = ? AND name = ?",
        (key, query.MEAN, headline(mode)),  # type: ignore[arg-type]
    ).fetchone()
    return {
        "attempt": key,
        "number": row["number"],
        "outcome": row["outcome"],
        "valid": None if row["valid"] is None else bool(row["valid"]),
        "phase": row["phase"],
        "stop": row["stop"],
        "exit_code": row["exit_code"],
        "signal": row["signal"],
        "oom_killed": bool(row["oom_killed"]),
        "vllm_version": row["vllm_version"],
        "model_used": row["model_used"],
        "image_digest": row["image_digest"],
        "started_at": row["started_at"],
        "ended_at": row["ended_at"],
        "run_dir": str(workspace.run_dir(key)),
        "phases": [dict(phase) for phase in phases],
        "flags": [{**dict(flag), "text": redact(flag["text"])} for flag in flags],
        "metric": dict(metric) if metric else None,
        "diagnosis": _diagnosis(workspace, connection, key),
    }


def _diagnosis(workspace: Workspace, connection: sqlite3.Connection, attempt: str) -> dict[str, Any] | None:
    row = connection.execute("SELECT * FROM diagnoses WHERE attempt_id = ?", (attempt,)).fetchone()
    if row is None:
        return None
    known = rule(row["failure"])
    evidence = None
    if row["file"]:
        run_dir = RunDir(workspace.run_dir(attempt))
        around = _around(run_dir, row["file"], row["line"], redact(row["text"])) if row["line"] else []
        evidence = {"file": row["file"], "line": row["line"], "text": redact(row["text"]), "context": around}
    return {
        "class": row["failure"],
        "blame": row["blame"],
        "reason": redact(row["reason"]),
        "siblings": row["why"],
        "frame": row["frame"],
        "evidence": evidence,
        "remedy": remedy(row["failure"]),
        "retry": str(known.retry) if known else "",
    }


def _around(run_dir: RunDir, file: str, line: int, proof: str) -> list[dict[str, Any]]:
    """The lines around one of a log, itself among them; none where the file is gone or is no plain file."""
    first, hide = max(1, line - AROUND), secrets.redactor()
    found: list[dict[str, Any]] = []
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
                found.append({"line": number, "text": clip(text, MAX_LINE)})
    except (OSError, Hostile):
        return []
    return found


# ------------------------------------------------------------------------------------------------------- words


def _tell(story: dict[str, Any]) -> list[str]:
    ended = [one for one in story["attempts"] if one["outcome"]]
    out = [f"{story['name']}  job {story['job']} of {story['campaign']}"]
    out += _part("what ran", [_what_ran(story)])
    if not ended:
        return out + _part("what happened", [_waits(story)])
    last = ended[-1]
    out += _part("what happened", [*_happened(story, last), *_waits_again(story)])
    found = last["diagnosis"]
    if found is not None:
        out += _part("what proves it", _proof(found))
        out += _part("whose fault", [_fault(found)])
    elif last["flags"]:
        out += _part(
            "what proves it", [f"{flag['name']} ({flag['effect']}): {flag['text']}" for flag in last["flags"]]
        )
    out += _part("what was done", _done(story, found))
    if found is not None:
        out += _part("what to do", [found["remedy"], f"all of it: {last['run_dir']}"])
    return out


def _part(title: str, body: list[str]) -> list[str]:
    return [f"{title + ':':16}{safe(body[0])}", *(" " * 16 + safe(line) for line in body[1:])] if body else []


def _what_ran(story: dict[str, Any]) -> str:
    whose = {
        "baseline": "the unpatched baseline",
        "human": "the human's commit",
        "agent": f"the baseline with the patch of {story['agent']}",
    }[story["arm"]]
    last = story["attempts"][-1] if story["attempts"] else None
    version = f", vLLM {last['vllm_version']}" if last and last["vllm_version"] else ""
    model = last["model_used"] if last and last["model_used"] else story["model"]
    count = len(story["attempts"])
    how_often = f"; {count} attempt{'s' * (count != 1)}" if count else ""
    return f"{whose}, {story['mode']} of {model} in {story['image']}{version}{how_often}"


def _waits(story: dict[str, Any]) -> str:
    if story["attempts"]:
        last = story["attempts"][-1]
        return f"attempt {last['number']} is running, in its phase {last['phase']}"
    return f"it has not run yet, it is {story['state']}" + (f": {story['reason']}" if story["reason"] else "")


def _waits_again(story: dict[str, Any]) -> list[str]:
    if story["state"] == "done":
        return []
    if story["attempts"][-1]["outcome"] is None:
        return [f"attempt {story['attempts'][-1]['number']} is running now"]
    return [f"the job is {story['state']}" + (f": {story['reason']}" if story["reason"] else "")]


def _happened(story: dict[str, Any], last: dict[str, Any]) -> list[str]:
    took = span(max(0.0, seconds(last["ended_at"]) - seconds(last["started_at"])))
    which = f"attempt {last['number']}" if len(story["attempts"]) > 1 else "it"
    if last["outcome"] == "success":
        metric = last["metric"]
        number = f": {metric['name']} {metric['value']:.6g} {metric['unit']}" if metric else ""
        invalid = "" if last["valid"] else ", but the result does not count"
        return [f"{which} succeeded after {took}{number}{invalid}"]
    found = last["diagnosis"]
    word = {"timed_out": "timed out"}.get(last["outcome"], last["outcome"])
    failed = next((phase["phase"] for phase in last["phases"] if phase["outcome"] in {"failed", "timed_out"}), None)
    where = f" in its phase {failed}" if failed else ""
    name = f": {found['class']}" if found else ""
    how = [f"exit code {last['exit_code']}"] if last["exit_code"] else []
    how += [f"signal {last['signal']}"] if last["signal"] else []
    how += ["killed for memory"] if last["oom_killed"] else []
    detail = f" ({', '.join(how)})" if how else ""
    return [f"{which} {word} after {took}{where}{name}{detail}", *([found["reason"]] if found else [])]


def _proof(found: dict[str, Any]) -> list[str]:
    evidence = found["evidence"]
    if evidence is None:
        return ["no log line; that it ended so is all there is"]
    if not evidence["line"]:
        return [f"{evidence['file']}: {evidence['text']}"]
    if not any(one["line"] == evidence["line"] for one in evidence["context"]):
        return [f"{evidence['file']}:{evidence['line']}: {evidence['text']}"]
    lines = [
        f"{'>' if one['line'] == evidence['line'] else ' '} {one['line']:6} | {one['text']}"
        for one in evidence["context"]
    ]
    return [f"{evidence['file']}:{evidence['line']}", *lines]


def _fault(found: dict[str, Any]) -> str:
    says = f": {found['siblings']}" if found["siblings"] else ""
    leads = f"; the traceback leads to {found['frame']} of the patch" if found["frame"] and not says else ""
    return f"{found['blame']}{says}{leads}"


def _done(story: dict[str, Any], found: dict[str, Any] | None) -> list[str]:
    events = [event for event in story["events"] if event["kind"] != "started"]
    out = [f"{len(events) - _LAST} older events are in --json"] if len(events) > _LAST else []
    out += [f"{clock(event['at'])} {event['text']}" for event in events[-_LAST:]]
    if found is not None and found["retry"]:
        out.append(f"the policy for {found['class']}: {found['retry']}")
    return out
