"""The power goes at 200 points of a run: the database opens clean and holds what was acknowledged before."""

from __future__ import annotations

import contextlib
import random
import sys
from pathlib import Path

import pytest
from bench import A, B, Bench, C, bench_at, task
from powercut import CannotTrace, Disk, Op, contents, record

from isobench_tui.store import backups, db
from isobench_tui.store.workspace import Workspace

CUTS = 200
SEED = 20260101
NAMES = ("isobench.db", "isobench.db-wal", "isobench.db-journal")

WITNESS = '''"""An operator: submits, skips a job, lets the rest run, and notes what the store acknowledged."""
import os, sqlite3, subprocess, sys, time
from pathlib import Path

said, database, file = sys.argv[1:4]
heard = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def isobench(*argv):
    subprocess.run([sys.executable, "-m", "isobench_tui", *argv], check=True)

isobench("run", file, "--detach")
os.write(heard, b"submitted\\n")
isobench("skip", "cccc")
os.write(heard, b"skipped\\n")
store = sqlite3.connect(database)
known = set()
while store.execute("SELECT 1 FROM jobs WHERE state NOT IN ('done', 'skipped')").fetchone():
    for row in store.execute("SELECT id, outcome FROM attempts WHERE outcome IS NOT NULL"):
        if row not in known:
            known.add(row)
            os.write(heard, f"attempt {row[0]} {row[1]}\\n".encode())
    time.sleep(0.02)
'''


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> list[Op]:
    """A run of two good jobs and a failing one, and one that is skipped."""
    with bench_at(tmp_path_factory.mktemp("power")) as bench:
        return _story(bench)


def _story(bench: Bench) -> list[Op]:
    file = bench.write(task(A), task(B, FAKE="fail"), task(C), limits="max_attempts = 2")
    program, said = bench.root / "witness.py", bench.root / "said"
    program.write_text(WITNESS)
    argv = [sys.executable, str(program), str(said), str(bench.workspace.database), str(file)]
    try:
        return record(argv, bench.workspace.root, NAMES, said, bench.env)
    except CannotTrace as reason:
        pytest.skip(str(reason))


def cuts(ops: list[Op]) -> list[int]:
    """Half of them anywhere, half just before or after an fsync or an acknowledgement; always the very end."""
    dice = random.Random(SEED)
    turns = [at + step for at, op in enumerate(ops) for step in (0, 1) if op.kind in {"sync", "say"}]
    some = [dice.randint(1, len(ops)) for _ in range(CUTS // 2)] + dice.choices(turns, k=CUTS - CUTS // 2 - 1)
    return sorted([*some, len(ops)])


def test_every_acknowledged_attempt_is_there(story: list[Op], tmp_path: Path) -> None:
    dice = random.Random(SEED)
    disk, done, heard, checked = Disk(), 0, list[str](), 0
    for number, at in enumerate(cuts(story)):
        for op in story[done:at]:
            disk.do(op)
            if op.kind == "say":
                heard += op.data.decode().splitlines()
        done = at
        workspace = Workspace(tmp_path / str(number))
        workspace.create()
        for name, data in disk.cut(dice).items():
            (workspace.root / name).write_bytes(data)
        (workspace.root / "isobench.db-shm").write_bytes(dice.randbytes(32768))  # mapped memory: anything
        checked += _check(workspace, heard)
    assert checked > CUTS, "most cuts come after something was acknowledged"
    assert [line.split()[2] for line in heard if line.startswith("attempt")].count("success") == 1
    assert sum(line.startswith("attempt") for line in heard) >= 2


def _check(workspace: Workspace, heard: list[str]) -> int:
    """That a runner would start on it, and it holds all of this; how many things that were."""
    backups.verify(workspace)
    with contextlib.closing(db.create_store(workspace)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        outcomes = dict(connection.execute("SELECT id, outcome FROM attempts").fetchall())
        states = {row["state"] for row in connection.execute("SELECT state FROM jobs")}
        jobs = connection.execute("SELECT count(*) AS n FROM jobs").fetchone()["n"]
    for line in heard:
        word, *rest = line.split()
        if word == "attempt":
            assert outcomes.get(rest[0]) == rest[1], (line, outcomes)
        else:
            assert jobs == 3, line
            assert word == "submitted" or "skipped" in states, line
    return len(heard)


def test_the_model_of_the_disk_can_lose() -> None:
    """What is not synced may be gone, and a write may be torn."""
    ops = [
        Op("make", "x"),
        Op("write", "x", 0, b"a" * 1024),
        Op("sync", "x"),
        Op("sync", ""),
        Op("write", "x", 0, b"b" * 1024),
    ]
    disk = Disk()
    for op in ops[:3]:
        disk.do(op)
    found = [disk.cut(random.Random(seed)) for seed in range(50)]
    assert {} in found
    assert {"x": b"a" * 1024} in found
    for op in ops[3:]:
        disk.do(op)
    seen = {disk.cut(random.Random(seed))["x"] for seed in range(100)}
    assert seen == {one * 512 + two * 512 for one in (b"a", b"b") for two in (b"a", b"b")}
    assert (
        contents(b"abc", [Op("truncate", "x", 5), Op("write", "x", 6, b"z"), Op("truncate", "x", 7)]) == b"abc\0\0\0z"
    )
