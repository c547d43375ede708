"""A database that is damaged, old or gone: what is offered, and what comes back from the run directories."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import SERVING, A, B, Bench, C, bench_at, task, until

from isobench_tui.store import backups, db
from isobench_tui.store.workspace import Workspace

RESULTS = (
    "SELECT a.id, a.outcome, a.valid, a.counts, a.exit_code, a.vllm_version, a.client_sha256, a.model_used, a.files, "
    "a.image_id, a.host, a.state, j.state AS job, j.outcome AS result, j.counted, d.failure, d.blame, d.reason, "
    "d.file, d.line, d.text FROM attempts a JOIN jobs j ON j.id = a.job_id "
    "LEFT JOIN diagnoses d ON d.attempt_id = a.id ORDER BY a.id"
)
NUMBERS = "SELECT * FROM metrics ORDER BY attempt_id, trial, name"
FLAGS = "SELECT * FROM flags ORDER BY attempt_id, name"
TRIALS = "SELECT * FROM trials ORDER BY attempt_id, idx"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


def campaign(bench: Bench) -> Path:
    """A success, a failure that is tried twice, and one that serves."""
    return bench.write(task(A), task(B, FAKE="fail"), task(C, SERVING), limits="max_attempts = 2")


def truth(bench: Bench) -> dict[str, list[dict[str, Any]]]:
    found = {query: bench.rows(query) for query in (RESULTS, NUMBERS, FLAGS, TRIALS)}
    for row in found[RESULTS]:
        row["files"] = json.loads(row["files"])
        row["files"].pop("process.json", None)  # the engine's own note, gone after cleanup
    return found


def wreck(bench: Bench) -> None:
    """Overwrite the middle of the database: it still opens, and is no longer sound."""
    with contextlib.closing(db.connect(bench.workspace.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = [row["rootpage"] for row in connection.execute("SELECT rootpage FROM sqlite_master WHERE rootpage")]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with bench.workspace.database.open("r+b") as file:
        for page in pages[2:]:
            file.seek((page - 1) * size)
            file.write(b"\xa5" * size)


def backup(bench: Bench) -> Path:
    with contextlib.closing(bench.store()) as connection:
        return backups.take(connection, bench.workspace)


def test_a_lost_database_comes_back_from_the_campaign_file_and_the_run_directories(bench: Bench) -> None:
    file = campaign(bench)
    bench.cli("run", file, code=1)
    bench.wait_idle()
    before = truth(bench)
    assert len(before[RESULTS]) == 4
    for path in [*bench.workspace.root.glob("isobench.db*"), *bench.workspace.backups.iterdir()]:
        path.unlink()
    first = bench.cli("rebuild", file).stdout
    assert "4 attempts collected" in first
    assert truth(bench) == before
    assert "0 attempts collected" in bench.cli("rebuild", file).stdout
    assert truth(bench) == before, "nothing is counted twice"
    assert bench.cli("run", file, code=1).stdout.endswith("3 jobs: 2 valid, 1 failed\n")
    assert truth(bench) == before, "nothing is measured again"
    bench.wait_idle()
    bench.assert_nothing_left()


def test_back_to_a_backup_and_what_ended_since(bench: Bench) -> None:
    gate = bench.gate()
    file = bench.write(task(A, GATE=str(gate)), task(B, FAKE="fail"), task(C, SERVING), limits="max_attempts = 2")
    bench.cli("run", file, "--detach")
    bench.reached(gate)
    until(lambda: backups.online(bench.workspace), "the first hour's backup")
    held = backup(bench)  # the first attempt is open in it
    gate.touch()
    bench.cli("run", code=1)
    bench.wait_idle()
    before = truth(bench)
    wreck(bench)
    assert bench.runner().wait(timeout=60) == 2
    assert f"{bench.workspace.database} is damaged" in bench.log()
    said = bench.cli("run", file, code=2).stderr
    assert f"isobench rebuild --workspace {bench.workspace.root} --from {held}" in said
    done = bench.cli("rebuild", "--from", held).stdout
    assert "4 attempts collected" in done
    assert truth(bench) == before
    (old,) = bench.workspace.backups.glob("damaged-*.db")
    assert backups.trouble(old) is not None
    assert bench.cli("run").stdout.startswith("nothing is queued here")


def test_without_a_name_the_newest_sound_backup_is_taken(bench: Bench) -> None:
    bench.cli("run", bench.write(task(A)))
    bench.wait_idle()
    sound = backup(bench)
    broken = sound.with_name("isobench-2099-01-01T000000Z.db")
    broken.write_bytes(sound.read_bytes()[:8192])
    os.utime(broken, (time.time() + 60, time.time() + 60))
    bench.workspace.database.write_bytes(b"no database " * 1000)
    assert f"went back to {sound}" in bench.cli("rebuild").stdout
    assert bench.cli("export").stdout.count("success") == 1


def test_an_attempt_that_still_runs_is_left_to_the_runner(bench: Bench) -> None:
    gate = bench.gate()
    file = bench.write(task(A, GATE=str(gate)))
    bench.submit(file)
    held = backup(bench)
    runner = bench.runner()
    bench.reached(gate)
    runner.kill()
    runner.wait()
    assert "the runner looks" in bench.cli("rebuild", "--from", held).stdout
    run = bench.start("run")
    run.says("adopted: it is still running")
    gate.touch()
    assert run.ends(0).endswith("1 job: 1 valid\n")
    assert len(bench.rows("SELECT id FROM attempts")) == 1
    bench.wait_idle()
    bench.assert_nothing_left()


def test_a_job_tried_again_after_the_backup(bench: Bench) -> None:
    bench.cli("run", bench.write(task(A, FAKE="fail"), limits="max_attempts = 1"), code=1)
    bench.wait_idle()
    held = backup(bench)
    bench.cli("retry", "aaaa")
    bench.cli("run", code=1)
    bench.wait_idle()
    assert "1 attempts collected" in bench.cli("rebuild", "--from", held).stdout
    rows = bench.rows("SELECT number, outcome FROM attempts ORDER BY number")
    assert rows == [{"number": 1, "outcome": "failed"}, {"number": 2, "outcome": "failed"}]
    assert bench.states() == {"a:baseline#1": "done"}


@pytest.mark.parametrize("harm", ["other", "gone", "link", "fifo", "text", "patch"])
def test_directories_that_are_not_what_they_say(bench: Bench, harm: str) -> None:
    bench.cli("run", bench.write(task(A)))
    bench.wait_idle()
    with contextlib.closing(bench.store()) as connection:
        (row,) = connection.execute("SELECT id FROM attempts").fetchall()
        for table in ("trials", "metrics", "phases", "flags", "diagnoses"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM attempts")
        connection.execute("UPDATE jobs SET state = 'queued', outcome = NULL, valid = NULL")
    run_dir = bench.workspace.run_dir(row["id"])
    orders = run_dir / "job.json"
    if harm == "other":
        run_dir.rename(bench.workspace.runs / "j0123456789-1")
    elif harm == "patch":
        orders.write_text(orders.read_text().replace('"patch": null', '"patch": {"path": "x", "sha256": "0"}'))
    else:
        orders.unlink()
        if harm == "link":
            orders.symlink_to(bench.workspace.database)
        elif harm == "fifo":
            os.mkfifo(orders)
        elif harm == "text":
            orders.write_text("[" * 100_000)
    assert "left alone" in bench.cli("rebuild", code=1).stdout
    assert bench.rows("SELECT id FROM attempts") == []


def test_refused_while_a_runner_works(bench: Bench) -> None:
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate))), "--detach")
    bench.reached(gate)
    assert "isobench runner, pid" in bench.refused("rebuild")
    gate.touch()
    bench.wait_idle()


# ----------------------------------------------------------------------------------------------------- backups


def test_a_backup_every_hour_and_not_more_often(bench: Bench) -> None:
    file = bench.write(task(A))
    bench.cli("run", file)
    bench.wait_idle()
    (first,) = backups.online(bench.workspace)
    assert backups.trouble(first) is None
    gate = bench.gate()
    bench.cli("run", bench.write(task(B, GATE=str(gate)), name="second", file="second.toml"), "--detach")
    bench.reached(gate)
    assert backups.online(bench.workspace) == [first]
    long_ago = time.time() - backups.EVERY_S - 60
    old = first.rename(first.with_name("isobench-2026-01-01T000000Z.db"))
    os.utime(old, (long_ago, long_ago))
    until(lambda: len(backups.online(bench.workspace)) == 2, "the next hour's backup")
    gate.touch()
    bench.wait_idle()


@pytest.mark.parametrize("hours", [1, 24, 25, 100, 24 * 40])
def test_what_is_kept(hours: int) -> None:
    names = [time.strftime("isobench-%Y-%m-%dT%H%M%SZ.db", time.gmtime(1.8e9 - 3600 * n)) for n in range(hours)]
    paths = [Path(name) for name in names]
    kept = [path for path in paths if path not in backups.surplus(paths)]
    assert kept[: backups.HOURLY] == paths[: backups.HOURLY]
    assert len(kept) <= backups.HOURLY + backups.DAILY
    assert hours < 100 or len(kept) > backups.HOURLY + 2
    days = [path.name[:19] for path in kept[backups.HOURLY :]]
    assert len(set(days)) == len(days)


def mirrored(bench: Bench, to: Path) -> Workspace:
    (folder,) = to.iterdir()
    return Workspace(folder)


def test_a_copy_on_another_mount_after_every_attempt(bench: Bench) -> None:
    to, gate = bench.root / "mount", bench.gate()
    to.mkdir()
    file = bench.write(task(A, SERVING), task(B, GATE=str(gate)))
    file.write_text(file.read_text() + f'[backup]\nto = "{to}"\n')
    bench.cli("run", file, "--detach")
    bench.reached(gate)
    until(lambda: list(to.glob("*/runs/*-1")), "the first attempt's copy")
    copy = mirrored(bench, to)
    assert '"success"' in bench.cli("export", "--json", "--workspace", copy.root).stdout
    assert "SIMULATED" in bench.cli("logs", "aaaa", "--workspace", copy.root).stdout
    gate.touch()
    bench.wait_idle()
    there = {path.name for path in copy.runs.iterdir()}
    assert there == {row["id"] for row in bench.rows("SELECT id FROM attempts")}, "the runner waited for the last one"
    for attempt in there:
        mine, theirs = bench.workspace.run_dir(attempt), copy.run_dir(attempt)
        files = {path.name: path.read_bytes() for path in mine.iterdir()}
        assert files == {path.name: path.read_bytes() for path in theirs.iterdir()}
    shutil.rmtree(bench.workspace.root)  # the host is gone
    assert bench.cli("run", "--workspace", copy.root).stdout == "nothing is queued here; give a campaign file\n"


def test_a_mount_that_is_not_there_is_told_once_and_holds_nothing_up(bench: Bench) -> None:
    file = bench.write(task(A), task(B))
    file.write_text(file.read_text() + f'[backup]\nto = "{bench.root}/gone"\n')
    assert bench.cli("run", file).stdout.endswith("2 jobs: 2 valid\n")
    bench.wait_idle()
    told = bench.rows("SELECT text FROM events WHERE kind = 'backup'")
    assert [row["text"] for row in told] == [
        f"no copy of the workspace in {bench.root}/gone: {bench.root}/gone does not exist; is it mounted?"
    ]
    assert not (bench.root / "gone").exists()
