"""Take a campaign into the queue, or reconcile an edited one with what is there."""

from __future__ import annotations

import base64
import sqlite3

from isobench_tui.campaign.identity import identity, job_id
from isobench_tui.campaign.models import JobSpec, PlannedTask, Settings, Submission
from isobench_tui.store import events
from isobench_tui.store.answer import Answer, Rejected
from isobench_tui.store.attempts import GONE
from isobench_tui.store.clock import now
from isobench_tui.store.words import count_jobs


def submit(connection: sqlite3.Connection, submission: Submission, actor: str) -> Answer:
    """Equal jobs stay as they are, new identities join behind their neighbour, queued ones that are gone are skipped.

    A running job ends under its old spec. Raises Rejected where the engine or lanes differ from those of other
    unfinished campaigns, or from its own while an attempt of it is on the engine.
    """
    _check_engine(connection, submission)
    campaign = _campaign(connection, submission)
    query = "SELECT id, state, reason FROM jobs WHERE campaign_id = ? ORDER BY position"
    known = {row["id"]: row for row in connection.execute(query, (campaign,))}
    tasks = {task.commit: _task(connection, campaign, task) for task in submission.tasks}
    added = kept = revived = 0
    wanted = set()
    before: str | None = None
    joining: dict[str | None, list[str]] = {}
    for job in submission.jobs:
        digest = identity(job, submission.settings)
        key = job_id(digest)
        wanted.add(key)
        if key not in known:
            patch = submission.patches.get(job.patch_sha256 or "")
            _insert(connection, campaign, tasks[job.commit], digest, job, patch)
            joining.setdefault(before, []).append(key)
            added += 1
            continue
        before = key
        if known[key]["reason"] != GONE:
            kept += 1
            continue
        state = "queued" if known[key]["state"] == "skipped" else known[key]["state"]
        connection.execute("UPDATE jobs SET state = ?, reason = '' WHERE id = ?", (state, key))
        revived += 1
    if joining:
        _order(connection, list(known), joining)
    gone = _skip_gone(connection, [key for key in known if key not in wanted])
    text = f"campaign {submission.name}: {_count(added, revived, kept, gone)}"
    data = {"added": added, "revived": revived, "kept": kept, "gone": gone}
    events.add(connection, "submitted", text, actor=actor, campaign=submission.name, data=data)
    return Answer(text, data=data)


def _order(connection: sqlite3.Connection, known: list[str], joining: dict[str | None, list[str]]) -> None:
    """Put each new job behind the one that precedes it in the file; what an operator moved stays where it is."""
    order = [*joining.get(None, []), *(key for old in known for key in (old, *joining.get(old, [])))]
    connection.executemany("UPDATE jobs SET position = ? WHERE id = ?", enumerate(order))


def _count(added: int, revived: int, kept: int, gone: int) -> str:
    parts = [f"{count_jobs(added)} queued"]
    if revived:
        parts.append(f"{revived} back in the queue")
    if kept:
        parts.append(f"{kept} unchanged")
    if gone:
        parts.append(f"{gone} skipped ({GONE})")
    return ", ".join(parts)


def _check_engine(connection: sqlite3.Connection, submission: Submission) -> None:
    query = (
        "SELECT c.name, c.settings FROM campaigns c WHERE EXISTS "
        "(SELECT 1 FROM jobs j WHERE j.campaign_id = c.id AND (EXISTS "
        "(SELECT 1 FROM attempts a WHERE a.job_id = j.id AND a.state != 'closed') "
        "OR c.name != ? AND j.state IN ('queued', 'held', 'running')))"
    )
    mine = submission.settings
    for row in connection.execute(query, (submission.name,)):
        other = Settings.model_validate_json(row["settings"])
        for key in ("engine", "docker_host", "lanes", "flatten", "blob_cache"):
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
    digest: str,
    job: JobSpec,
    patch: str | None,
) -> None:
    connection.execute(
        "INSERT INTO jobs (id, identity, campaign_id, task_id, arm, agent, repeat, position, image, spec, patch, "
        "created_at) VALUES (?,?,?,?,?,?,?,0,?,?,?,?)",
        (
            job_id(digest),
            digest,
            campaign,
            task,
            job.arm,
            job.agent,
            job.repeat,
            job.image,
            job.model_dump_json(),
            None if patch is None else base64.b64decode(patch),
            now(),
        ),
    )


def _skip_gone(connection: sqlite3.Connection, keys: list[str]) -> int:
    """Skip what waits; what runs is marked, so that it is not queued again after its attempt."""
    skipped = 0
    for key in keys:
        cursor = connection.execute(
            "UPDATE jobs SET state = 'skipped', reason = ? WHERE id = ? AND state IN ('queued', 'held')", (GONE, key)
        )
        skipped += cursor.rowcount
        connection.execute("UPDATE jobs SET reason = ? WHERE id = ? AND state = 'running'", (GONE, key))
    return skipped
