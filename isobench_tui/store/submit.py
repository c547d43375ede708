"""Take a campaign into the queue, or reconcile an edited one with what is there."""

from __future__ import annotations

import base64
import sqlite3

from isobench_tui.campaign.identity import identity, job_id
from isobench_tui.campaign.models import JobSpec, PlannedTask, Settings, Submission
from isobench_tui.store import events
from isobench_tui.store.answer import Answer, Rejected
from isobench_tui.store.clock import now

GONE = "no longer in the campaign file"
"""Why a queued job was skipped by an edit; the only skip that an edit undoes."""


def submit(connection: sqlite3.Connection, submission: Submission, actor: str) -> Answer:
    """Equal jobs stay as they are, new identities join, queued ones that are gone are skipped.

    A running job ends under its old spec. Raises Rejected where the engine or lanes differ from those of
    unfinished campaigns.
    """
    _check_engine(connection, submission)
    campaign = _campaign(connection, submission)
    known = {
        r["id"]: r
        for r in connection.execute("SELECT id, state, reason FROM jobs WHERE campaign_id = ?", (campaign,))
    }
    tasks = {task.commit: _task(connection, campaign, task) for task in submission.tasks}
    added = kept = revived = 0
    wanted = set()
    for position, job in enumerate(submission.jobs):
        digest = identity(job, submission.settings)
        key = job_id(digest)
        wanted.add(key)
        if key not in known:
            patch = submission.patches.get(job.patch_sha256 or "")
            _insert(connection, campaign, tasks[job.commit], position, digest, job, patch)
            added += 1
            continue
        connection.execute("UPDATE jobs SET position = ? WHERE id = ?", (position, key))
        if known[key]["state"] == "skipped" and known[key]["reason"] == GONE:
            connection.execute("UPDATE jobs SET state = 'queued', reason = '' WHERE id = ?", (key,))
            revived += 1
        else:
            kept += 1
    gone = _skip_gone(connection, [key for key in known if key not in wanted])
    text = f"campaign {submission.name}: {_count(added, revived, kept, gone)}"
    data = {"added": added, "revived": revived, "kept": kept, "gone": gone}
    events.add(connection, "submitted", text, actor=actor, campaign=submission.name, data=data)
    return Answer(text, data=data)


def _count(added: int, revived: int, kept: int, gone: int) -> str:
    parts = [f"{added} jobs queued"]
    if revived:
        parts.append(f"{revived} back in the queue")
    if kept:
        parts.append(f"{kept} unchanged")
    if gone:
        parts.append(f"{gone} skipped ({GONE})")
    return ", ".join(parts)


def _check_engine(connection: sqlite3.Connection, submission: Submission) -> None:
    query = (
        "SELECT c.name, c.settings FROM campaigns c WHERE c.name != ? AND EXISTS "
        "(SELECT 1 FROM jobs j WHERE j.campaign_id = c.id AND j.state IN ('queued', 'held', 'running'))"
    )
    mine = submission.settings
    for row in connection.execute(query, (submission.name,)):
        other = Settings.model_validate_json(row["settings"])
        for key in ("engine", "docker_host", "lanes"):
            if getattr(mine, key) != getattr(other, key):
                raise Rejected(
                    f"{submission.spec_path}: {key} differs from that of the unfinished campaign {row['name']!r}; "
                    "let that one end, cancel it, or use another --workspace"
                )


def _campaign(connection: sqlite3.Connection, submission: Submission) -> int:
    at = now()
    connection.execute(
        "INSERT INTO campaigns (name, spec_path, spec_text, settings, simulated, submitted_at, updated_at) "
        "VALUES (?,?,?,?,?,?,?) ON CONFLICT (name) DO UPDATE SET spec_path = excluded.spec_path, "
        "spec_text = excluded.spec_text, settings = excluded.settings, simulated = excluded.simulated, "
        "updated_at = excluded.updated_at, state = 'active'",
        (
            submission.name,
            submission.spec_path,
            submission.spec_text,
            submission.settings.model_dump_json(),
            int(submission.settings.simulated),
            at,
            at,
        ),
    )
    return int(connection.execute("SELECT id FROM campaigns WHERE name = ?", (submission.name,)).fetchone()[0])


def _task(connection: sqlite3.Connection, campaign: int, task: PlannedTask) -> int:
    connection.execute(
        "INSERT INTO tasks (campaign_id, commit_sha, parent_sha, model, mode, fingerprint, workload) "
        "VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
        (
            campaign,
            task.commit,
            task.parent,
            task.workload.model,
            task.workload.mode,
            task.fingerprint,
            task.workload.model_dump_json(),
        ),
    )
    query = "SELECT id FROM tasks WHERE campaign_id = ? AND commit_sha = ? AND fingerprint = ?"
    return int(connection.execute(query, (campaign, task.commit, task.fingerprint)).fetchone()[0])


def _insert(
    connection: sqlite3.Connection,
    campaign: int,
    task: int,
    position: int,
    digest: str,
    job: JobSpec,
    patch: str | None,
) -> None:
    connection.execute(
        "INSERT INTO jobs (id, identity, campaign_id, task_id, arm, agent, repeat, position, image, spec, patch, "
        "created_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            job_id(digest),
            digest,
            campaign,
            task,
            job.arm,
            job.agent,
            job.repeat,
            position,
            job.image,
            job.model_dump_json(),
            None if patch is None else base64.b64decode(patch),
            now(),
        ),
    )


def _skip_gone(connection: sqlite3.Connection, keys: list[str]) -> int:
    skipped = 0
    for key in keys:
        cursor = connection.execute(
            "UPDATE jobs SET state = 'skipped', reason = ? WHERE id = ? AND state IN ('queued', 'held')", (GONE, key)
        )
        skipped += cursor.rowcount
    return skipped
