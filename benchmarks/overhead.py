"""What a job costs beyond its command: in isobench, and in a bare `docker run --rm`, in turn on one engine.

    python benchmarks/overhead.py [--quick]

Both sides run the demo's simulated throughput client, with the same argv, in containers of the same image, on a
private dockerd (overlay2; needs root) or on the one that is reachable. For isobench it is one attempt, from its first
row in the store until nothing of it is left on the engine, less the seconds for which the driver saw its client run.
For docker it is the wall time of its command line, less the time from the container's start to its end as the engine
tells it. The queue is paused while the bare side runs. One pair goes before those that count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bars import Bar, print_table, settle

from isobench_tui.store import commands, db
from isobench_tui.store.answer import OK
from isobench_tui.store.clock import seconds
from isobench_tui.store.workspace import Workspace

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests"))

from baseimage import CannotBuild  # noqa: E402
from dockerd import CannotStart, Host, host, until  # noqa: E402

TREE = REPO / "examples" / "demo" / "tree"
ROOT = "/opt/isobench-demo"
IMAGE = "isobench-benchmark/demo:1"
COMMAND = "python benchmarks/benchmark_throughput.py --model facebook/opt-125m --input-len 256 --output-len 256"
"""Simulated; about 1.2 s, so that there is time to pause the queue behind a job that runs."""
PAIRS, QUICK_PAIRS = 20, 4
LIMIT_S = 1.0
WITHIN = 120.0
"""Seconds after which a wait has failed."""


class CannotMeasure(Exception):
    """Why there is nothing to compare; plain words."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command on one side; all in seconds."""

    wall: float
    command: float
    parts: dict[str, float]
    """What the wall time is made of, in order."""

    @property
    def extra(self) -> float:
        return self.wall - self.command


class Bare:
    """`docker run --rm` of an argv."""

    def __init__(self, engine: Host, argv: Sequence[str], folder: Path) -> None:
        self._engine = engine
        self._argv = argv
        self._cid = folder / "cid"

    def run(self) -> Run:
        self._cid.unlink(missing_ok=True)
        argv = ["docker", "-H", self._engine.url, "run", "--rm", "--network", "none", "--cidfile", str(self._cid)]
        began = time.time()
        done = subprocess.run(
            [*argv, IMAGE, *self._argv], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        ended = time.time()
        if done.returncode != 0:
            raise CannotMeasure(f"docker run ended with {done.returncode}: {done.stderr[-500:]}")
        at = self._story(began)
        parts = {
            "client, create": at["create"] - began,
            "start": at["start"] - at["create"],
            "command": at["die"] - at["start"],
            "remove": ended - at["die"],
        }
        return Run(ended - began, parts["command"], parts)

    def _story(self, since: float) -> dict[str, float]:
        """When the engine did what with the container; unix seconds."""
        filters = {"type": "container", "container": self._cid.read_text()}
        told = self._engine.client.events(
            since=int(since), until=int(time.time()) + 1, filters=filters, decode=True
        )  # fmt: skip
        return {event["Action"]: event["timeNano"] / 1e9 for event in told}


class Queue:
    """A campaign of equal jobs on the same engine, let go one at a time."""

    def __init__(self, engine: Host, folder: Path, jobs: int) -> None:
        self._workspace = Workspace(folder / "workspace")
        file = folder / "campaign.toml"
        file.write_text(
            f'[campaign]\nname = "overhead"\nsimulated = true\narms = ["baseline"]\nrepeats = {jobs}\n'
            f'[images]\nbaseline = "{IMAGE}"\nkeep = "all"\n[engine]\nkind = "docker"\nhost = "{engine.url}"\n'
            '[limits]\nmin_window = "0s"\nmax_attempts = 1\n'
            f'[[tasks]]\ncommit = "{"a" * 40}"\nparent = "{"b" * 40}"\nperf_command = "{COMMAND}"\n'
        )
        where = ["--workspace", str(self._workspace.root)]
        env = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config")}
        argv = [sys.executable, "-m", "isobench_tui", "run", *where, "--detach", str(file)]
        subprocess.run(argv, check=True, cwd=REPO, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self._store = db.open_store(self._workspace)
        self._seen: list[str] = []

    def run(self) -> Run:
        """The next job's attempt, from its start to its end. Raises CannotMeasure unless it is a valid success."""
        self._command("resume", campaign=None)
        attempt = str(self._wait("SELECT attempt_id FROM phases WHERE phase = 'start'", new=True)[0])
        self._seen.append(attempt)
        # The next one waits for the bare side; this one is past the point where a pause would stop it.
        self._command("pause", campaign=None)
        row = self._wait("SELECT * FROM attempts WHERE state = 'closed' AND id = ?", attempt)
        if row["outcome"] != "success" or not row["valid"]:
            raise CannotMeasure(f"attempt {attempt} is no valid success but {row['outcome']}")
        trial = self._wait("SELECT seconds FROM trials WHERE attempt_id = ?", attempt)
        began, ended = seconds(row["started_at"]), seconds(row["closed_at"])
        return Run(ended - began, trial["seconds"], self._parts(attempt, began, ended, trial["seconds"]))

    def argv(self) -> list[str]:
        """What the driver executed as the client in the newest attempt."""
        row = self._wait("SELECT argv FROM trials WHERE attempt_id = ?", self._seen[-1])
        found: list[str] = json.loads(row["argv"])
        return found

    def close(self) -> None:
        """End the runner; return when it is gone."""
        with contextlib.closing(self._store):
            if self._workspace.locked():
                self._command("shutdown", now=True, at=None)
            until(lambda: not self._workspace.locked(), within=WITHIN, what="the runner ends")

    def _parts(self, attempt: str, began: float, ended: float, command: float) -> dict[str, float]:
        """Each phase, and what lies between them; the command apart from the rest of its phase."""
        parts: dict[str, float] = {}
        last, at = "taken", began
        for row in self._store.execute("SELECT * FROM phases WHERE attempt_id = ? ORDER BY seq", (attempt,)):
            start, end = seconds(row["started_at"]), seconds(row["ended_at"])
            parts[f"{last} .. {row['phase']}"] = start - at
            if row["phase"] == "measure":
                parts["measure: command"] = command
                parts["measure: rest"] = end - start - command
            else:
                parts[row["phase"]] = end - start
            last, at = row["phase"], end
        parts[f"{last} .. closed"] = ended - at
        return parts

    def _command(self, name: str, **args: object) -> None:
        answer = commands.call(self._workspace, self._store, name, args)
        if answer.exit_code != OK:
            raise CannotMeasure(f"{name}: {answer.text}")

    def _wait(self, query: str, *values: object, new: bool = False) -> sqlite3.Row:
        """Poll until the query has a row; `new`: one whose first column was not seen before."""
        found: list[sqlite3.Row] = []

        def look() -> bool:
            rows = self._store.execute(query, values).fetchall()
            found[:] = [row for row in rows if not new or row[0] not in self._seen]
            return bool(found)

        until(look, within=WITHIN, what=query)
        return found[0]


def image(engine: Host) -> None:
    """Build the demo's image: Debian with python3 and the tree, about 150 MB."""
    files = {f"{ROOT}/{path.relative_to(TREE)}": path.read_bytes() for path in TREE.rglob("*.py")}
    engine.image(IMAGE, [files], extra=[f"ENV PYTHONPATH={ROOT} PYTHONUNBUFFERED=1", f"WORKDIR {ROOT}"])


@contextlib.contextmanager
def queue(engine: Host, folder: Path, jobs: int) -> Iterator[Queue]:
    made = Queue(engine, folder, jobs)
    try:
        yield made
    finally:
        made.close()


def measure(engine: Host, folder: Path, pairs: int) -> tuple[list[Run], list[Run], Run]:
    """The bare side, isobench, and isobench's first attempt, in which its runner loads what it needs."""
    image(engine)
    ours: list[Run] = []
    theirs: list[Run] = []
    with queue(engine, folder, pairs + 1) as jobs:
        first = jobs.run()
        # Where the container has no run directory the result goes elsewhere.
        bare = Bare(engine, [token.replace("/isobench/run/", "/tmp/") for token in jobs.argv()], folder)
        bare.run()
        for pair in range(pairs):
            turns = [(theirs, bare.run), (ours, jobs.run)]
            for runs, run in turns if pair % 2 else reversed(turns):
                runs.append(run())
            print(f"pair {pair + 1}: bare {theirs[-1].extra:.2f}, isobench {ours[-1].extra:.2f}", file=sys.stderr)
    return theirs, ours, first


def cells(values: Sequence[float]) -> list[str]:
    """Median, 90th percentile, least and greatest."""
    p90 = statistics.quantiles(values, n=10, method="inclusive")[-1]
    return [f"{value:.3f}" for value in (statistics.median(values), p90, min(values), max(values))]


def show(theirs: Sequence[Run], ours: Sequence[Run], first: Run) -> float:
    """Print the tables; the median over the pairs of how much more isobench adds, in seconds."""
    more = [mine.extra - other.extra for mine, other in zip(ours, theirs, strict=True)]
    rows = []
    for name, runs in (("docker run --rm", theirs), ("isobench", ours)):
        rows.append((f"{name}: wall", *cells([run.wall for run in runs])))
        rows.append((f"{name}: its command", *cells([run.command for run in runs])))
        rows.append((f"{name}: the rest", *cells([run.extra for run in runs])))
    rows.append(("isobench's rest - docker's rest", *cells(more)))
    print_table(("seconds", "median", "p90", "least", "most"), rows)
    print(f"the rest of isobench's first attempt, before the pairs: {first.extra:.3f}\n")
    for name, runs in (("docker run --rm", theirs), ("isobench", ours)):
        parts = [(part, *cells([run.parts[part] for run in runs])) for part in runs[0].parts]
        print_table((f"{name}: where the time goes", "median", "p90", "least", "most"), parts)
        print()
    return statistics.median(more)


def main() -> int:
    parser = argparse.ArgumentParser(description="What a job costs beyond its command, against a bare docker run.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs instead of {PAIRS}")
    pairs = QUICK_PAIRS if parser.parse_args().quick else PAIRS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with host() as engine, tempfile.TemporaryDirectory(prefix="isb-overhead-") as folder:
            info: dict[str, Any] = engine.client.info()
            theirs, ours, first = measure(engine, Path(folder), pairs)
    except (CannotStart, CannotBuild, CannotMeasure) as reason:
        print(f"cannot measure: {reason}", file=sys.stderr)
        return 2
    client = subprocess.run(["docker", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    print(f"{pairs} pairs, bare side by the command line ({client}), engine {info['ServerVersion']} {info['Driver']}")
    return settle(Bar("overhead_s", show(theirs, ours, first), "<=", LIMIT_S))


if __name__ == "__main__":
    sys.exit(main())
