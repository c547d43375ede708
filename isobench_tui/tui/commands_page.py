"""The exact commands of a job: what its newest attempt ran, else what it would run."""

from __future__ import annotations

import json
import shlex
import sqlite3

from rich.text import Text

from isobench_tui.campaign.models import JobSpec
from isobench_tui.report.text import safe
from isobench_tui.tui.snapshot import Job
from isobench_tui.tui.source import Source
from isobench_tui.tui.views.words import DIM, HEAD


def page(source: Source, job: Job) -> tuple[str, tuple[Text, ...], str]:
    """(title, lines, the same as text to copy). Raises WorkspaceError, sqlite3.Error."""
    parts = source.ask(lambda connection: _commands(connection, job))
    lines: list[Text] = []
    for title, command in parts:
        lines += [Text(title, HEAD), Text(safe(command), no_wrap=True), Text()]
    lines.append(Text("long lines: scroll with the arrow keys", DIM))
    return f"Commands of {safe(job.name)}", tuple(lines), "\n".join(f"# {what}\n{text}" for what, text in parts)


def _commands(connection: sqlite3.Connection, job: Job) -> list[tuple[str, str]]:
    row = connection.execute("SELECT spec FROM jobs WHERE id = ?", (job.id,)).fetchone()
    spec = JobSpec.model_validate_json(row["spec"])
    load = spec.workload
    env = [f"{name}={value}" for name, value in sorted(load.env.items())]
    found = [("image", spec.image)]
    found += [("setup", command) for command in load.setup]
    if load.server:
        found.append(("server", shlex.join([*env, *load.server])))
    ran = connection.execute(
        "SELECT idx, argv FROM trials WHERE attempt_id = ? ORDER BY idx", (job.attempt or "",)
    ).fetchall()
    if ran:
        found += [(f"client, run {idx} of {job.attempt}", shlex.join(json.loads(argv))) for idx, argv in ran]
    else:
        found.append(("client, as planned", shlex.join([*env, *load.client])))
    return found
