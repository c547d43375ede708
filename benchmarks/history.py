"""A workspace with a long campaign behind it, written through the functions that the runner uses."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from isobench_tui.campaign.load import load
from isobench_tui.results.classes import blame_for
from isobench_tui.results.metrics import metric
from isobench_tui.results.models import ClientResult, Diagnosis, Evidence, Flag, TrialFacts, Verdict
from isobench_tui.store import attempts, db, live, samples
from isobench_tui.store.clock import now
from isobench_tui.store.submit import submit
from isobench_tui.store.workspace import Workspace

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo"
REPEATS = 5
ARMS = 2
PHASES = ("preflight", "image", "start", "setup", "server", "measure", "collect", "cleanup")
METRICS = (
    "request_throughput",
    "output_throughput",
    "total_token_throughput",
    *(f"{name}_{what}_ms" for what in ("ttft", "tpot", "itl") for name in ("mean", "median", "p99")),
)
COMMAND = "vllm bench serve --model facebook/opt-125m --dataset-name random --num-prompts 100 --seed 0"


def fill(workspace: Workspace, count: int) -> sqlite3.Connection:
    """Make the workspace and `count` attempts in it: a retry for every other job, one job in ten invalid.

    The jobs have ended, but for a last task that is still in the queue. Returns the open database.
    """
    numbers = random.Random(count)
    tasks = max(1, round(count / (ARMS * REPEATS * 1.5)))
    connection = db.create_store(workspace)
    with db.transaction(connection):
        submit(connection, load(_campaign(workspace.root, tasks + 1)), "benchmark")
        live.put(connection, live.RUNNER_KEY, live.LiveRunner(pid=1, state="running", engine="process"))
        samples.add(connection, [samples.Reading("disk", str(workspace.root), 10**11, 10**12)])
        queue = _turns(connection)
        for _ in range(count):
            job, last = next(queue)
            _attempt(connection, job, numbers, last=last)
    return connection


_COPIED = {
    "tasks": ("id", "commit_sha"),
    "jobs": ("id", "task_id", "identity"),
    "attempts": ("id", "job_id"),
    "phases": ("attempt_id",),
    "trials": ("attempt_id",),
    "metrics": ("attempt_id",),
    "diagnoses": ("attempt_id",),
    "flags": ("attempt_id",),
    "events": ("id", "job_id", "attempt_id"),
}
"""Table -> the columns that tell a copy from its original."""


def multiply(connection: sqlite3.Connection, times: int) -> None:
    """Make the campaign `times` as long: every task again with all that belongs to it, under a commit of its own.

    As plain rows, because writing them as the runner does would take hours.
    """
    last = {table: connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0] for table in ("tasks", "events")}
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    with db.transaction(connection):
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for table, keys in _COPIED.items():
            columns = [row["name"] for row in connection.execute(f"PRAGMA table_info({table})")]
            originals = f"CREATE TEMP TABLE original AS SELECT * FROM {table}"
            connection.execute(originals)
            for copy in range(1, times):
                values = [_copied(table, name, copy, last) if name in keys else name for name in columns]
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM original"
                )
            connection.execute("DROP TABLE original")
        for _, sql in triggers:
            connection.execute(sql)
    connection.execute("ANALYZE")


def _copied(table: str, column: str, copy: int, last: dict[str, int]) -> str:
    """The value of a key in a copy, as SQL."""
    if column == "commit_sha":
        return f"printf('%06x', {copy}) || substr(commit_sha, 7)"
    if column == "task_id" or (column == "id" and table in last):
        return f"{column} + {copy * last['tasks' if column == 'task_id' else table]}"
    text = f"CAST({copy} AS TEXT)"
    if table == "jobs" or column == "job_id":
        return f"{column} || 'x' || {text}"
    return f"substr({column}, 1, instr({column}, '-') - 1) || 'x' || {text} || substr({column}, instr({column}, '-'))"


def _campaign(folder: Path, tasks: int) -> Path:
    lines = ['[campaign]\nname = "history"\narms = ["baseline", "agent"]', f"repeats = {REPEATS}\nsimulated = true"]
    lines += [f'[images]\nbaseline = "{DEMO}/tree"\n[engine]\nkind = "process"']
    for task in range(tasks):
        commit, parent = (hashlib.sha1(f"{name} {task}".encode()).hexdigest() for name in ("commit", "parent"))
        lines += [f'[[tasks]]\ncommit = "{commit}"\nparent = "{parent}"', f'perf_command = "{COMMAND}"']
        lines += [f'patches.someone = "{DEMO}/patches/faster-schedule.diff"']
    file = folder / "campaign.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def _turns(connection: sqlite3.Connection) -> Iterator[tuple[sqlite3.Row, bool]]:
    """Jobs in the order of the queue, every other one twice; with it, whether this attempt is the job's last."""
    for number, job in enumerate(connection.execute("SELECT * FROM jobs ORDER BY position").fetchall()):
        if number % 2:
            yield job, False
        yield job, True


def _attempt(connection: sqlite3.Connection, job: sqlite3.Row, numbers: random.Random, *, last: bool) -> None:
    attempt = attempts.open_attempt(connection, job, 0, "isobench-cpu")
    for phase in PHASES:
        attempts.start_phase(connection, attempt, phase, 60.0, now())
        attempts.end_phase(connection, attempt, phase, "ok")
    attempts.finish(connection, attempt, _success(numbers) if last else _failure())
    attempts.close(connection, attempt)


def _success(numbers: random.Random) -> attempts.Ending:
    values = tuple(metric(name, numbers.uniform(10, 1000)) for name in METRICS)
    result = ClientResult(metrics=values, asked=100, completed=100, failed=0, output_tokens=12_800, window_s=31.0)
    flags = (Flag("short_window", "invalidates", "measured 2 s, at least 30 s"),) if numbers.random() < 0.1 else ()
    return attempts.Ending(
        verdict=Verdict("success", values, flags=flags),
        fate=attempts.Done(),
        counts=True,
        exit_code=0,
        model_used="facebook/opt-125m",
        client_sha256="c" * 64,
        trials=(attempts.Trial(TrialFacts(0, True, 0, result), ("vllm", "bench", "serve"), 0, None, 31.0),),
    )


def _failure() -> attempts.Ending:
    evidence = Evidence("server.log", 812, "RuntimeError: Engine core initialization failed.")
    found = Diagnosis("server_crash", blame_for("server_crash", patched=False), "the server ended with 1", evidence)
    fate = attempts.Requeue("front", "server_crash, once more")
    return attempts.Ending(verdict=Verdict("failed", diagnosis=found), fate=fate, counts=True, exit_code=1)
