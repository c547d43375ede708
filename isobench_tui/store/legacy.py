"""Results of other runners in the store: a campaign of their own, whose jobs have ended and are never compared.

They are written once: a file that is imported again adds nothing. None of them has a run directory or a lane.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from isobench_tui.campaign.identity import canonical, job_id
from isobench_tui.campaign.models import JobSpec, Mode, Settings, Workload
from isobench_tui.results.audit import Audited, recorded
from isobench_tui.results.metrics import metric
from isobench_tui.store import events
from isobench_tui.store.answer import Answer, Rejected
from isobench_tui.store.clock import now
from isobench_tui.store.query import MEAN
from isobench_tui.store.words import NO_IMAGE, count_jobs

SPEC: Final = "# results of another runner, put in by `isobench import`\n"
"""What stands in place of a campaign file."""
NO_LANE: Final = -1


def to_args(name: str, source: str, found: Sequence[Audited], digests: Mapping[str, str]) -> dict[str, Any]:
    """The command that puts audited records into the store; what names no commit is left out."""
    named = [one for one in found if one.record is not None and one.record.commit]
    modes = {one.record.commit[:8]: one.mode for one in named if one.record and one.mode}
    rows = [_row(one, digests, modes) for one in named]
    return {"name": name, "source": source, "rows": rows}


def _row(one: Audited, digests: Mapping[str, str], modes: Mapping[str, Mode]) -> dict[str, Any]:
    record, diagnosis = one.record, one.diagnosis
    assert record is not None
    proof = diagnosis.evidence if diagnosis else None
    values = {} if diagnosis else one.metrics or recorded(one)
    flags = {flag.name: [flag.name, flag.effect, flag.text] for flag in one.flags}
    told = flags.get("legacy_unverified", ["", "", "measured by another runner"])[2]
    flags["legacy_unverified"] = ["legacy_unverified", "invalidates", f"imported from {record.place}: {told}"]
    shown = [metric(name, value) for name, value in values.items()]
    return {
        "file": record.place,
        "digest": digests.get(record.file, ""),
        "part": record.part,
        "commit": record.commit,
        "parent": record.parent,
        "model": record.model,
        "mode": one.mode or modes.get(record.commit[:8], "serving"),
        "arm": record.arm,
        "agent": record.agent if record.arm == "agent" else "",
        "outcome": _outcome(one),
        "diagnosis": {
            "failure": diagnosis.failure,
            "blame": diagnosis.blame,
            "reason": diagnosis.reason,
            "file": proof.file if proof else "",
            "line": proof.line if proof else 0,
            "text": proof.text if proof else "",
        }
        if diagnosis
        else None,
        "flags": [*flags.values()],
        "metrics": [[item.name, item.value, item.unit, item.better] for item in shown],
    }


def _outcome(one: Audited) -> str:
    """What the evidence makes of it: a recorded success with a diagnosis is none."""
    if one.diagnosis is None and one.record is not None and one.record.status == "success":
        return "success"
    timed_out = one.diagnosis is not None and one.diagnosis.failure in {"timeout", "server_timeout"}
    return "timed_out" if timed_out else "failed"


def import_rows(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """Write the rows of `to_args`. Raises Rejected where a campaign of that name was not made by an import."""
    name = str(args["name"])
    campaign = _campaign(connection, name, str(args["source"]))
    known = {row["id"] for row in connection.execute("SELECT id FROM jobs WHERE campaign_id = ?", (campaign,))}
    repeats: Counter[tuple[str, str, str]] = Counter(
        (row["commit_sha"], row["arm"], row["agent"])
        for row in connection.execute(
            "SELECT t.commit_sha, j.arm, j.agent FROM jobs j JOIN tasks t ON t.id = j.task_id "
            "WHERE j.campaign_id = ?",
            (campaign,),
        )
    )
    added = 0
    for row in args["rows"]:
        identity = hashlib.sha256(
            canonical({"legacy": name, "digest": row["digest"] or row["file"], "part": row["part"]}).encode()
        ).hexdigest()
        if job_id(identity) in known:
            continue
        known.add(job_id(identity))
        key = (row["commit"], row["arm"], row["agent"])
        _write(connection, campaign, name, row, identity, repeats[key], len(known))
        repeats[key] += 1
        added += 1
    kept = len(args["rows"]) - added
    text = f"campaign {name}: {count_jobs(added)} imported" + (f", {kept} were there already" if kept else "")
    data = {"added": added, "kept": kept}
    events.add(connection, "imported", text, actor=actor, campaign=name, data=data)
    return Answer(text, data=data)


def _campaign(connection: sqlite3.Connection, name: str, source: str) -> int:
    row = connection.execute("SELECT id, spec_text FROM campaigns WHERE name = ?", (name,)).fetchone()
    if row is not None:
        if row["spec_text"] != SPEC:
            raise Rejected(f"campaign {name!r} was measured here: give imported results another name with --campaign")
        return int(row["id"])
    at = now()
    cursor = connection.execute(
        "INSERT INTO campaigns (name, spec_path, spec_text, settings, simulated, submitted_at, updated_at) "
        "VALUES (?,?,?,?,0,?,?)",
        (name, source, SPEC, Settings(engine="docker").model_dump_json(), at, at),
    )
    return int(cursor.lastrowid or 0)


def _task(connection: sqlite3.Connection, campaign: int, name: str, row: Mapping[str, Any], load: Workload) -> int:
    """The task of a row. Its fingerprint is that of nothing measured here."""
    mark = "legacy-" + hashlib.sha256(canonical([name, row["commit"], load.mode, load.model]).encode()).hexdigest()
    connection.execute(
        "INSERT INTO tasks (campaign_id, commit_sha, parent_sha, model, mode, fingerprint, workload) "
        "VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
        (campaign, row["commit"], row["parent"], load.model, load.mode, mark, load.model_dump_json()),
    )
    query = "SELECT id FROM tasks WHERE campaign_id = ? AND commit_sha = ? AND fingerprint = ?"
    return int(connection.execute(query, (campaign, row["commit"], mark)).fetchone()[0])


def _write(
    connection: sqlite3.Connection, campaign: int, name: str, row: Mapping[str, Any], identity: str, repeat: int,
    position: int,
) -> None:  # fmt: skip
    """One ended job with its one closed attempt."""
    load = Workload(mode=row["mode"], model=row["model"] or NO_IMAGE, client=())
    task = _task(connection, campaign, name, row, load)
    spec = JobSpec(
        campaign=name,
        commit=row["commit"],
        parent=row["parent"],
        arm=row["arm"],
        agent=row["agent"],
        repeat=repeat,
        image=NO_IMAGE,
        workload=load,
        fingerprint="legacy",
    )
    job, at, outcome, found = job_id(identity), now(), row["outcome"], row["diagnosis"]
    valid = 0 if outcome == "success" else None
    failure = found["failure"] if found else None
    connection.execute(
        "INSERT INTO jobs (id, identity, campaign_id, task_id, arm, agent, repeat, position, state, outcome, valid, "
        "failure, image, spec, counted, created_at, ended_at) VALUES (?,?,?,?,?,?,?,?,'done',?,?,?,?,?,1,?,?)",
        (job, identity, campaign, task, row["arm"], row["agent"], repeat, position, outcome, valid, failure, NO_IMAGE,
         spec.model_dump_json(), at, at),
    )  # fmt: skip
    attempt = f"{job}-1"
    connection.execute(
        "INSERT INTO attempts (id, job_id, number, lane, state, outcome, valid, counts, phase, image_ref, files, "
        "started_at, ended_at, closed_at) VALUES (?,?,1,?,'closed',?,?,1,'collect',?,?,?,?,?)",
        (attempt, job, NO_LANE, outcome, valid, NO_IMAGE, json.dumps({}), at, at, at),
    )
    connection.executemany(
        "INSERT INTO metrics (attempt_id, trial, name, value, unit, better) VALUES (?,?,?,?,?,?)",
        [(attempt, MEAN, *item) for item in row["metrics"]],
    )
    connection.executemany(
        "INSERT INTO flags (attempt_id, name, effect, text) VALUES (?,?,?,?)",
        [(attempt, *flag) for flag in row["flags"]],
    )
    if found:
        connection.execute(
            "INSERT INTO diagnoses (attempt_id, failure, blame, reason, file, line, text) VALUES (?,?,?,?,?,?,?)",
            (attempt, *(found[key] for key in ("failure", "blame", "reason", "file", "line", "text"))),
        )
