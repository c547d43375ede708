"""A private workspace with small campaigns on the process engine, driven through the command line as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import benchtree
from benchtree import SERVING, THROUGHPUT

from isobench_tui.campaign.load import load
from isobench_tui.engine import procs
from isobench_tui.store import attempts, commands, db, query
from isobench_tui.store.answer import Answer
from isobench_tui.store.rejudge import rejudge
from isobench_tui.store.workspace import Workspace

T = TypeVar("T")

__all__ = ["SERVING", "THROUGHPUT", "Bench", "bench_at", "task", "until"]


def name_of(row: sqlite3.Row) -> str:
    """`a:one#1`: first digit of the commit, agent or arm, repeat; behind the campaign's name unless that is small."""
    campaign = "" if row["campaign"] == "small" else f"{row['campaign']}/"
    return f"{campaign}{row['commit_sha'][0]}:{row['agent'] or row['arm']}#{row['repeat'] + 1}"


REPO = Path(__file__).resolve().parents[1]
DEADLINE_S = 60.0
LOCKS = Path("/tmp/isobench-locks")
"""Where the process engine keeps the mutexes of lanes."""
A, B, C, D = (char * 40 for char in "abcd")
"""Commits; the parent of each is its digits with a 1 in front."""


def until(condition: Callable[[], T], what: str, seconds: float = DEADLINE_S) -> T:
    """Poll until it holds and return it; a test that waits in vain says for what."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def task(commit: str, command: str = THROUGHPUT, *, patch: str | None = None, more: str = "", **env: str) -> str:
    """A `[[tasks]]` table; keyword arguments are its env, `patch` the file of agent `one`."""
    lines = [f'commit = "{commit}"', f'parent = "1{commit[1:]}"', f"perf_command = '''{command}'''", more]
    lines += [f"env.{name} = '{value}'" for name, value in env.items()]
    lines += [f'patches.one = "{patch}"'] if patch else []
    return "[[tasks]]\n" + "\n".join(line for line in lines if line) + "\n"


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # of a shell's background job: what it starts inherits that
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Started:
    """A command in the background."""

    process: subprocess.Popen[bytes]
    out_file: Path
    err_file: Path

    @property
    def out(self) -> str:
        return self.out_file.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self.err_file.read_text(errors="replace")

    def says(self, text: str) -> None:
        """Wait until its standard output holds `text`."""
        until(lambda: text in self.out or self.process.poll() is not None, f"{text!r} in {self.out_file}")
        assert text in self.out, (self.out, self.err)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ends(self, code: int) -> str:
        """Wait for its end; what it printed."""
        found = self.process.wait(timeout=DEADLINE_S)
        assert found == code, (found, self.out, self.err)
        assert "Traceback" not in self.err, self.err
        return self.out


class Bench:
    """One workspace and what a user does with it. `close` ends what the test left running."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workspace = Workspace(root / "ws")
        self.lane = f"GPU-{uuid.uuid4()}"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("ISOBENCH_", "DOCKER_", "XDG_"))},
            "XDG_CONFIG_HOME": str(root / "config"),
            "XDG_DATA_HOME": str(root / "data"),
            "ISOBENCH_WORKSPACE": str(self.workspace.root),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._started: list[subprocess.Popen[bytes]] = []
        benchtree.make(root)

    # ------------------------------------------------------------------------------------------ campaigns

    def write(self, *tasks: str, name: str = "small", file: str = "campaign.toml", **tables: str) -> Path:
        """A campaign file. `tables`: the text of `timeouts`, `limits`, `lanes`, or of further keys of `campaign`."""
        path = self.root / file
        keys = tables.get("campaign", 'arms = ["baseline"]')
        path.write_text(
            f'[campaign]\nname = "{name}"\n{keys}\n'
            '[images]\nbaseline = "tree"\n[engine]\nkind = "process"\n'
            f"[timeouts]\n{tables.get('timeouts', GRACE)}\n"
            f'[limits]\nmin_window = "0s"\n{tables.get("limits", "")}\n'
            f"[validity]\n{tables.get('validity', SMALL)}\n"
            f"[[lanes]]\ngpus = [{tables.get('lanes', repr(self.lane))}]\n" + "".join(tasks)
        )
        return path

    def gate(self, name: str = "gate") -> Path:
        """A file whose making lets a client with this GATE go on."""
        return self.root / name

    def reached(self, gate: Path) -> None:
        until(Path(f"{gate}.reached").exists, f"{gate}.reached")

    # -------------------------------------------------------------------- the store's door, with no process

    def submit(self, path: Path) -> Answer:
        """What `run` does before it starts a runner."""
        submission = load(path)
        with contextlib.closing(db.create_store(self.workspace)) as connection:
            return commands.call(self.workspace, connection, "submit", submission.model_dump(mode="json"))

    def command(self, name: str, /, *texts: str, **args: Any) -> Answer:
        """What a control command does; `texts` are selectors."""
        args = {"texts": list(texts), **args} if texts else args
        with contextlib.closing(self.store()) as connection:
            return commands.call(self.workspace, connection, name, args)

    def begin(self, name: str) -> str:
        """Make a job running, as the scheduler does; the attempt's id."""
        with contextlib.closing(self.store()) as connection, db.transaction(connection):
            job = connection.execute("SELECT * FROM jobs WHERE id = ?", (self.id(name),)).fetchone()
            return attempts.open_attempt(connection, job, 0, "isobench-cpu")

    def finish(self, attempt: str, ending: attempts.Ending) -> None:
        """End an attempt, as the runner does."""
        with contextlib.closing(self.store()) as connection, db.transaction(connection):
            attempts.finish(connection, attempt, ending)
            row = connection.execute(
                "SELECT j.task_id FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.id = ?", (attempt,)
            ).fetchone()
            rejudge(connection, row["task_id"])
            attempts.close(connection, attempt)

    def queue(self) -> list[str]:
        """Names of all jobs in the order of the queue."""
        with contextlib.closing(self.store()) as connection:
            return [name_of(row) for row in query.jobs(connection)]

    def job(self, name: str) -> dict[str, Any]:
        with contextlib.closing(self.store()) as connection:
            (found,) = [dict(row) for row in query.jobs(connection) if name_of(row) == name]
        return found

    def id(self, name: str) -> str:
        return str(self.job(name)["id"])

    def states(self) -> dict[str, str]:
        return {name: self.job(name)["state"] for name in self.queue()}

    # --------------------------------------------------------------------------------------------- doors

    def cli(
        self, *argv: str | Path, code: int | None = 0, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """`isobench …` to its end; the exit code must be `code` (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "isobench_tui", *map(str, argv)],
            cwd=options.pop("cwd", REPO),
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DEADLINE_S * 2,
            check=False,
            **options,
        )
        assert code is None or done.returncode == code, (argv, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def refused(self, *argv: str | Path, code: int = 2, **options: Any) -> str:
        """A command that is refused with one clear line; the line."""
        done = self.cli(*argv, code=code, **options)
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("isobench: "), done.stderr
        assert lines[0].isprintable(), done.stderr
        return lines[0]

    def start(self, *argv: str | Path, env: dict[str, str] | None = None) -> Started:
        """`isobench …` in the background, its output in files."""
        base = self.root / f"started-{len(self._started)}"
        out, err = base.with_suffix(".out"), base.with_suffix(".err")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            child = subprocess.Popen(
                [sys.executable, "-m", "isobench_tui", *map(str, argv)],
                cwd=REPO,
                env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        self._started.append(child)
        return Started(child, out, err)

    def runner(self, faults: str = "") -> subprocess.Popen[bytes]:
        """A runner as `isobench run` starts it, but a child of the test, and with faults."""
        env = {**self.env, **({"ISOBENCH_FAULTS": faults} if faults else {})}
        with self.workspace.runner_log.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "isobench_tui.runner", "--workspace", str(self.workspace.root)],
                cwd=REPO,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(child)
        return child

    def status(self, *argv: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cli("status", "--json", *argv).stdout)
        return found

    def jobs(self) -> dict[str, dict[str, Any]]:
        """`commit digit:agent or arm#repeat` -> the job as `status --json` shows it."""
        return {
            f"{job['commit'][0]}:{job['agent'] or job['arm']}#{job['repeat']}": job for job in self.status()["jobs"]
        }

    # -------------------------------------------------------------------------------------------- looking

    def store(self) -> sqlite3.Connection:
        return db.open_store(self.workspace)

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with contextlib.closing(self.store()) as connection:
            return [dict(row) for row in connection.execute(query, values)]

    def wait_idle(self) -> None:
        """Until no runner holds the workspace."""
        until(lambda: not self.workspace.locked(), f"the runner's end\n{self.log()}")

    def log(self) -> str:
        return self.workspace.runner_log.read_text() if self.workspace.runner_log.exists() else ""

    def outcomes(self) -> set[tuple[str, str, str | None]]:
        """(job, outcome, class) of every job."""
        return {
            (name, f"{job['outcome'] or job['state']} {job['valid']}", job["failure"])
            for name, job in self.jobs().items()
        }

    def family(self) -> dict[int, str]:
        """Living processes that carry the mark of an attempt of this workspace."""
        if not self.workspace.database.exists():
            return {}
        mine = {row["id"] for row in self.rows("SELECT id FROM attempts")}
        return {pid: mark for pid, mark in procs.marked().items() if mark in mine}

    def assert_nothing_left(self) -> None:
        """No process of an attempt, no copy of a tree, no record, nothing open in the store."""
        assert self.family() == {}
        trees = self.workspace.trees
        assert not trees.exists() or list(trees.iterdir()) == []
        assert list(self.workspace.runs.glob("*/process.json")) == []
        assert self.rows("SELECT id FROM attempts WHERE state != 'closed' OR closed_at IS NULL") == []
        assert self.rows("SELECT * FROM phases WHERE ended_at IS NULL") == []
        assert self.rows("SELECT * FROM live WHERE attempt_id IS NOT NULL") == []

    def close(self) -> None:
        """End the runner and every process of the workspace."""
        for child in self._started:
            if child.poll() is None:
                child.kill()
            child.wait()
        with contextlib.suppress(OSError, ValueError, KeyError):
            if self.workspace.locked():
                os.kill(json.loads(self.workspace.lock_file.read_text())["pid"], signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            self.wait_idle()
        with contextlib.suppress(Exception):
            for attempt in set(self.family().values()):
                procs.kill(attempt)
        for path in LOCKS.glob(f"*{self.lane}*"):
            path.unlink()
        shutil.rmtree(self.workspace.trees, ignore_errors=True)


SMALL = "min_requests = 1\nmin_warmups = 0"
"""Thresholds of a campaign whose results are not worth more than that they came."""
GRACE = 'setup = "30s"\nserver = "30s"\nmeasure = "30s"\ncleanup = "30s"\nslack = "15s"\ngrace = "500ms"'


@contextlib.contextmanager
def bench_at(root: Path) -> Iterator[Bench]:
    """A Bench that is closed whatever happens."""
    made = Bench(root)
    try:
        yield made
    finally:
        made.close()
