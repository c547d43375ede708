"""The flags of a task's successes that depend on each other, written again whenever an attempt of it ends."""

from __future__ import annotations

import sqlite3
from collections import defaultdict

from isobench_tui.campaign.models import Settings
from isobench_tui.results.metrics import headline
from isobench_tui.results.models import Flag
from isobench_tui.results.sibling_flags import Measured, flags_among
from isobench_tui.store import events
from isobench_tui.store.clock import seconds
from isobench_tui.store.query import MEAN

_SUCCESSES = """
SELECT a.id, a.number, a.host, a.valid, a.image_ref, a.image_digest, a.image_id, a.client_sha256, a.model_used,
       a.model_revision, a.started_at, coalesce(a.ended_at, a.started_at) AS ended_at, j.id AS job, j.arm, j.agent,
       j.repeat, t.commit_sha, t.mode, c.name AS campaign, c.settings,
       NOT EXISTS (SELECT 1 FROM flags f WHERE f.attempt_id = a.id AND f.effect = 'invalidates' AND NOT f.sibling)
           AS sound,
       (SELECT avg(r.completed) FROM trials r WHERE r.attempt_id = a.id AND r.counted) AS requests,
       EXISTS (SELECT 1 FROM trials r WHERE r.attempt_id = a.id AND r.counted AND r.seed IS NULL) AS unseeded
FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN tasks t ON t.id = j.task_id
     JOIN campaigns c ON c.id = j.campaign_id
WHERE j.task_id = ? AND a.outcome = 'success' ORDER BY a.started_at, a.id
"""
_METRICS = """
SELECT m.attempt_id, m.name, m.value FROM metrics m JOIN attempts a ON a.id = m.attempt_id
     JOIN jobs j ON j.id = a.job_id
WHERE j.task_id = ? AND a.outcome = 'success' AND m.trial = ?
      AND m.name IN ('total_input_tokens', 'total_output_tokens', ?)
"""
_FLAGS = """
SELECT f.attempt_id, f.name, f.effect, f.text, f.sibling FROM flags f JOIN attempts a ON a.id = f.attempt_id
     JOIN jobs j ON j.id = a.job_id
WHERE j.task_id = ? AND a.outcome = 'success'
"""


def reflag(connection: sqlite3.Connection, task: int) -> None:
    """Raise and take back the flags among a task's successes; each change of one, and of validity, is an event.

    A name that the attempt's own files raised stays as they say. Runs inside the transaction that ends an attempt.
    """
    rows = connection.execute(_SUCCESSES, (task,)).fetchall()
    if not rows:
        return
    settings = Settings.model_validate_json(rows[0]["settings"])
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for attempt, name, value in connection.execute(_METRICS, (task, MEAN, headline(rows[0]["mode"]))):
        values[attempt][name] = value
    hosts: dict[str | None, list[Measured]] = defaultdict(list)
    for row in rows:
        hosts[row["host"]].append(_measured(row, values[row["id"]]))
    own: dict[str, set[str]] = defaultdict(set)
    before: dict[str, dict[str, Flag]] = defaultdict(dict)
    for attempt, name, effect, text, sibling in connection.execute(_FLAGS, (task,)):
        if sibling:
            before[attempt][name] = Flag(name, effect, text)
        else:
            own[attempt].add(name)
    known = {row["id"]: row for row in rows}
    for mine in hosts.values():
        for attempt, flags in flags_among(mine, settings.validity, settings.noise_floor).items():
            now = {flag.name: flag for flag in flags if flag.name not in own[attempt]}
            _write(connection, known[attempt], before[attempt], now)


def _measured(row: sqlite3.Row, values: dict[str, float]) -> Measured:
    def each(name: str) -> float | None:
        return values[name] / row["requests"] if row["requests"] and name in values else None

    metric = headline(row["mode"])
    return Measured(
        attempt=row["id"],
        arm=row["arm"],
        agent=row["agent"],
        repeat=row["repeat"],
        ref=row["image_ref"],
        digest=row["image_digest"],
        image_id=row["image_id"],
        client=row["client_sha256"],
        unseeded=bool(row["unseeded"]),
        model=row["model_used"],
        revision=row["model_revision"],
        requests=row["requests"],
        prompt_tokens=each("total_input_tokens"),
        output_tokens=each("total_output_tokens"),
        metric=metric,
        value=values.get(metric),
        valid=bool(row["sound"]),
        started=seconds(row["started_at"]),
        ended=seconds(row["ended_at"]),
    )


def _write(connection: sqlite3.Connection, row: sqlite3.Row, before: dict[str, Flag], now: dict[str, Flag]) -> None:
    if before == now:
        return
    connection.execute("DELETE FROM flags WHERE attempt_id = ? AND sibling", (row["id"],))
    connection.executemany(
        "INSERT INTO flags (attempt_id, name, effect, text, sibling) VALUES (?,?,?,?,1)",
        [(row["id"], flag.name, flag.effect, flag.text) for flag in now.values()],
    )
    raised = [flag for flag in now.values() if flag.name not in before or before[flag.name].effect != flag.effect]
    told = [f"{flag.name} ({flag.effect}): {flag.text}" for flag in raised]
    told += [f"no longer {name}" for name in before if name not in now]
    valid = row["sound"] and not any(flag.effect == "invalidates" for flag in now.values())
    if bool(valid) != bool(row["valid"]):
        connection.execute("UPDATE attempts SET valid = ? WHERE id = ?", (int(valid), row["id"]))
        connection.execute(
            "UPDATE jobs SET valid = EXISTS (SELECT 1 FROM attempts a WHERE a.job_id = jobs.id AND a.valid = 1) "
            "WHERE id = ? AND state = 'done' AND outcome = 'success'",
            (row["job"],),
        )
        told.append("it counts again" if valid else "it no longer counts")
    if told:
        who = f"{row['commit_sha'][:8]}:{row['agent'] or row['arm']}#{row['repeat'] + 1} attempt {row['number']}"
        events.add(
            connection,
            "flags",
            f"{who} {'; '.join(told)}",
            campaign=row["campaign"],
            job=row["job"],
            attempt=row["id"],
        )
