"""What operators do to the queue. Each function runs inside the bus's transaction and answers in one line.

Only rows are changed here. A running attempt gets its wish written into `attempts.stop`; the runner acts on it.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Literal

from isobench_tui.store import events
from isobench_tui.store.answer import Answer, Rejected
from isobench_tui.store.clock import now
from isobench_tui.store.db import meta, set_meta
from isobench_tui.store.selectors import Selector, campaign_id, resolve
from isobench_tui.store.words import NO_IMAGE, count_jobs

PRUNE_ALLOWED = "prune_allowed"
"""Key in `meta`: JSON {at, by} of who let campaigns prune what is not theirs."""

Stop = Literal["stop", "skip", "cancel", "pause"]
Row = sqlite3.Row


def pause(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """Nothing new passes `start`; with `now`, running attempts are stopped and go back to the front."""
    campaign: str | None = args.get("campaign")
    state = json.dumps({"at": now(), "by": actor})
    if campaign is None:
        set_meta(connection, "pause", state)
    else:
        key = campaign_id(connection, campaign)
        connection.execute("UPDATE campaigns SET paused = ? WHERE id = ?", (state, key))
    running = _running(connection, campaign)
    if args.get("now"):
        for row in running:
            _wish(connection, row["attempt"], "pause")
    what = "the queue" if campaign is None else f"campaign {campaign}"
    if not running:
        text = f"paused {what}"
    elif args.get("now"):
        text = f"pausing {what}: stopping {_names(running)}, back to the front of the queue"
    else:
        text = f"pausing {what}: {_names(running)} runs to its end"
    events.add(connection, "paused", text, actor=actor, campaign=campaign)
    return Answer(text, data={"state": "pausing" if running else "paused", "attempts": _attempts(running)})


def resume(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """Undo a pause, also one that the runner made itself."""
    campaign: str | None = args.get("campaign")
    if campaign is None:
        was = meta(connection, "pause") or meta(connection, "breaker")
        set_meta(connection, "pause", None)
        set_meta(connection, "breaker", None)
        set_meta(connection, "same_failure", None)
    else:
        key = campaign_id(connection, campaign)
        was = connection.execute("SELECT paused FROM campaigns WHERE id = ?", (key,)).fetchone()["paused"]
        connection.execute("UPDATE campaigns SET paused = NULL WHERE id = ?", (key,))
    what = "the queue" if campaign is None else f"campaign {campaign}"
    text = f"resumed {what}" if was else f"{what} was not paused"
    events.add(connection, "resumed", text, actor=actor, campaign=campaign)
    return Answer(text, data={"state": "running"})


def skip(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """Every unfinished job of the selection; a running one is cancelled."""
    jobs = [j for j in resolve(connection, Selector.from_args(args)) if j["state"] in ("queued", "held", "running")]
    if not jobs:
        return Answer("nothing to skip: every job of it has ended or was skipped already")
    _check_seen(jobs, args)
    for job in jobs:
        if job["running"]:
            _wish(connection, job["running"], "skip")
        else:
            _set_state(connection, job["id"], "skipped", f"skipped by {actor}")
    running = [job for job in jobs if job["running"]]
    text = f"skipped {count_jobs(len(jobs) - len(running))}"
    if running:
        text += f", cancelling {_names(running)}"
    text += _lonely_agents(connection, jobs)
    events.add(connection, "skipped", text, actor=actor, data={"jobs": [j["id"] for j in jobs]})
    state = "cancelling" if running else "skipped"
    return Answer(text, data={"state": state, "jobs": [j["id"] for j in jobs], "attempts": _attempts(running)})


def cancel(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """Skip all that is left of a campaign."""
    name = str(args["campaign"])
    key = campaign_id(connection, name)
    jobs = [j for j in resolve(connection, Selector(campaign=name)) if j["state"] in ("queued", "held", "running")]
    _check_seen(jobs, args)
    for job in jobs:
        if job["running"]:
            _wish(connection, job["running"], "cancel")
        else:
            _set_state(connection, job["id"], "skipped", f"campaign cancelled by {actor}")
    connection.execute("UPDATE campaigns SET state = 'cancelled' WHERE id = ?", (key,))
    running = [job for job in jobs if job["running"]]
    text = f"cancelled campaign {name}: {count_jobs(len(jobs) - len(running))} skipped"
    if running:
        text += f", cancelling {_names(running)}"
    events.add(connection, "cancelled", text, actor=actor, campaign=name)
    return Answer(text, data={"state": "cancelling" if running else "cancelled", "attempts": _attempts(running)})


def stop(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """Kill the running attempts; their jobs go back to the front of the queue."""
    selector = Selector.from_args(args)
    if selector == Selector():
        jobs = _running(connection, None)
    else:
        jobs = [j for j in resolve(connection, selector) if j["running"]]
    if not jobs:
        return Answer("nothing is running")
    _check_seen(jobs, args)
    for job in jobs:
        _wish(connection, job["running"], "stop")
    text = f"stopping {_names(jobs)}, back to the front of the queue"
    events.add(connection, "stopping", text, actor=actor, data={"jobs": [j["id"] for j in jobs]})
    found = {"jobs": [j["id"] for j in jobs], "attempts": _attempts(jobs)}
    return Answer(text, data={"state": "cancelling", **found})


def retry(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """Undo a skip, or give an ended job a new attempt; the old attempts stay."""
    found = [j for j in resolve(connection, Selector.from_args(args)) if j["state"] in ("done", "skipped")]
    jobs = [j for j in found if j["image"] != NO_IMAGE]
    if found and not jobs:
        raise Rejected("nothing to retry: imported results have neither an image nor a command to run again")
    if not jobs:
        return Answer("nothing to retry: no job of it was skipped or has ended")
    for job in jobs:
        reopen(connection, job["id"])
        behind_task(connection, job["id"])
        connection.execute("UPDATE campaigns SET state = 'active' WHERE id = ?", (job["campaign_id"],))
    text = f"queued {count_jobs(len(jobs))} again: {_names(jobs)}"
    events.add(connection, "retried", text, actor=actor, data={"jobs": [j["id"] for j in jobs]})
    return Answer(text, data={"state": "queued", "jobs": [j["id"] for j in jobs]})


def reopen(connection: sqlite3.Connection, job: str) -> None:
    """An ended or skipped job waits again, as if it had not been tried."""
    connection.execute(
        "UPDATE jobs SET state = 'queued', reason = '', outcome = NULL, valid = NULL, failure = NULL, "
        "ended_at = NULL, counted = 0, interruptions = 0 WHERE id = ?",
        (job,),
    )


def hold(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """Queued jobs stay where they are, but are not started."""
    return _swap(connection, args, actor, "queued", "held", "held")


def release(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """Undo a hold, also one after three interruptions."""
    return _swap(connection, args, actor, "held", "queued", "released")


def move(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """Change the order of queued jobs within their campaign: first, last, or after another selection."""
    jobs = [j for j in resolve(connection, Selector.from_args(args)) if j["state"] in ("queued", "held")]
    if not jobs:
        return Answer("nothing to move: no job of it is waiting")
    campaigns = {j["campaign_id"] for j in jobs}
    if len(campaigns) > 1:
        raise Rejected(
            "these jobs are of several campaigns, which run in the order of their submission; add --campaign"
        )
    campaign = campaigns.pop()
    moved = [j["id"] for j in jobs]
    rest = [
        row["id"]
        for row in connection.execute("SELECT id FROM jobs WHERE campaign_id = ? ORDER BY position", (campaign,))
        if row["id"] not in set(moved)
    ]
    at = _place(connection, args, campaign, rest)
    for position, key in enumerate([*rest[:at], *moved, *rest[at:]]):
        connection.execute("UPDATE jobs SET position = ? WHERE id = ?", (position, key))
    where = f"after {args['after']}" if args["to"] == "after" else args["to"]
    text = f"moved {count_jobs(len(moved))} {where}"
    events.add(connection, "moved", text, actor=actor, data={"jobs": moved})
    return Answer(text, data={"jobs": moved})


def shutdown(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:
    """End the runner: after the attempt, at once (what runs is adopted by the next runner), or before a time."""
    running = _running(connection, None)
    set_meta(connection, "shutdown", json.dumps({"now": bool(args.get("now")), "at": args.get("at"), "by": actor}))
    if args.get("at"):
        text = f"the runner ends at {args['at']} and starts nothing that would overrun it"
    elif not running:
        text = "the runner ends"
    elif args.get("now"):
        text = f"the runner ends now; {_names(running)} goes on, the next `isobench run` adopts it"
    else:
        text = f"the runner ends after {_names(running)}"
    events.add(connection, "shutdown", text, actor=actor)
    return Answer(text, data={"state": "ending"})


def allow_prune(connection: sqlite3.Connection, args: dict[str, Any], actor: str) -> Answer:  # noqa: ARG001
    """Let campaigns with `[images] prune = "all"` remove what they did not bring. Once for a workspace."""
    if meta(connection, PRUNE_ALLOWED) is None:
        set_meta(connection, PRUNE_ALLOWED, json.dumps({"at": now(), "by": actor}))
        text = 'prune = "all" allowed: images, stopped containers and build cache of others may be removed'
        events.add(connection, "image", text, actor=actor)
    return Answer("pruning is allowed")


def to_front(connection: sqlite3.Connection, job: str) -> None:
    """Make a job the first of its campaign."""
    connection.execute(
        "UPDATE jobs SET position = (SELECT min(position) - 1 FROM jobs b WHERE b.campaign_id = jobs.campaign_id) "
        "WHERE id = ?",
        (job,),
    )


def behind_task(connection: sqlite3.Connection, job: str) -> None:
    """Put a job behind the other jobs of its task, or behind all that already ran."""
    row = connection.execute("SELECT campaign_id, task_id FROM jobs WHERE id = ?", (job,)).fetchone()
    last = connection.execute(
        "SELECT max(position) FROM jobs WHERE task_id = ? AND id != ?", (row["task_id"], job)
    ).fetchone()[0]
    if last is None:
        return
    connection.execute(
        "UPDATE jobs SET position = position + 1 WHERE campaign_id = ? AND position > ?", (row["campaign_id"], last)
    )
    connection.execute("UPDATE jobs SET position = ? WHERE id = ?", (last + 1, job))


def _running(connection: sqlite3.Connection, campaign: str | None) -> list[Row]:
    return connection.execute(
        "SELECT j.*, t.commit_sha, a.id AS running, a.id AS attempt FROM attempts a JOIN jobs j ON j.id = a.job_id "
        "JOIN tasks t ON t.id = j.task_id JOIN campaigns c ON c.id = j.campaign_id "
        "WHERE a.state = 'open' AND (? IS NULL OR c.name = ?)",
        (campaign, campaign),
    ).fetchall()


def _attempts(jobs: list[Row]) -> list[str]:
    """The attempts that a command lets end or ends: what `--wait` waits for."""
    return [job["running"] for job in jobs]


def _wish(connection: sqlite3.Connection, attempt: str, stop: Stop) -> None:
    """Ask for an attempt's end. Who skipped its job meant more than who stops or pauses it afterwards."""
    final = "" if stop in {"skip", "cancel"} else " AND coalesce(stop, '') NOT IN ('skip', 'cancel')"
    connection.execute(f"UPDATE attempts SET stop = ? WHERE id = ? AND state = 'open'{final}", (stop, attempt))


def _set_state(connection: sqlite3.Connection, job: str, state: str, reason: str) -> None:
    connection.execute("UPDATE jobs SET state = ?, reason = ? WHERE id = ?", (state, reason, job))


def _check_seen(jobs: list[Row], args: dict[str, Any]) -> None:
    """A destructive command names the attempts that its sender saw; another one running now is not what was meant."""
    if "saw" not in args:
        return
    for job in jobs:
        if job["running"] and job["running"] not in args["saw"]:
            raise Rejected(
                f"{job['running']} has started since you looked; look again and repeat if you still mean it"
            )


def _swap(
    connection: sqlite3.Connection, args: dict[str, Any], actor: str, before: str, after: str, word: str
) -> Answer:
    jobs = [j for j in resolve(connection, Selector.from_args(args)) if j["state"] == before]
    if not jobs:
        return Answer(f"nothing {word}: no job of it is {before}")
    for job in jobs:
        _set_state(connection, job["id"], after, f"held by {actor}" if after == "held" else "")
        if after == "queued":
            connection.execute("UPDATE jobs SET interruptions = 0 WHERE id = ?", (job["id"],))
    text = f"{word} {count_jobs(len(jobs))}: {_names(jobs)}"
    events.add(connection, word, text, actor=actor, data={"jobs": [j["id"] for j in jobs]})
    return Answer(text, data={"state": after, "jobs": [j["id"] for j in jobs]})


def _place(connection: sqlite3.Connection, args: dict[str, Any], campaign: int, rest: list[str]) -> int:
    if args["to"] == "first":
        return 0
    if args["to"] == "last":
        return len(rest)
    anchors = {j["id"] for j in resolve(connection, Selector((str(args["after"]),))) if j["campaign_id"] == campaign}
    places = [index for index, key in enumerate(rest) if key in anchors]
    if not places:
        raise Rejected(f"cannot move after {args['after']}: it is not another job of the same campaign")
    return places[-1] + 1


def _lonely_agents(connection: sqlite3.Connection, jobs: list[Row]) -> str:
    """Without its baseline an agent's number has nothing to be compared with: say so."""
    tasks = {j["task_id"]: j["commit_sha"] for j in jobs if j["arm"] == "baseline"}
    skipped = {j["id"] for j in jobs}
    lonely = []
    for task, commit in tasks.items():
        rows = connection.execute("SELECT id, arm FROM jobs WHERE task_id = ? AND state != 'skipped'", (task,))
        left = {row["arm"] for row in rows if row["id"] not in skipped}
        if "agent" in left and "baseline" not in left:
            lonely.append(commit[:8])
    return f"; without a baseline the agents of {', '.join(lonely)} cannot be compared" if lonely else ""


def _job_name(job: Row) -> str:
    return f"{job['commit_sha'][:8]}:{job['agent'] or job['arm']}"


def _names(rows: list[Row]) -> str:
    return ", ".join(_job_name(row) for row in rows[:4]) + (" …" if len(rows) > 4 else "")
