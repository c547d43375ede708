"""The runner's writer on a disk that fills up: it waits, goes on by itself, and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import SERVING, A, B, Bench, C, bench_at, task, until
from conftest import disk_of
from disks import MB, SmallDisk
from dockerd import eventually
from fakevllm import looks

from isobench_tui.runner.writer import StoreFull, Writer
from isobench_tui.store import db, events
from isobench_tui.store.workspace import Workspace

LONG = "x" * 20_000


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with disk_of(32 * MB) as made:
        yield made


@pytest.fixture
def writer(disk: SmallDisk) -> Iterator[Writer]:
    made = Writer(Workspace(disk.path))
    yield made
    made.leave()
    made.close()


def stored(disk: SmallDisk) -> list[str]:
    with contextlib.closing(db.connect(Workspace(disk.path).database)) as connection:
        rows = connection.execute("SELECT text FROM events WHERE kind = 'test' ORDER BY id")
        return [row["text"].partition(" ")[0] for row in rows]


async def test_a_write_waits_for_space_and_nothing_acknowledged_is_lost(
    disk: SmallDisk, writer: Writer, capfd: pytest.CaptureFixture[str]
) -> None:
    acknowledged: list[str] = []

    async def write(number: int) -> None:
        how = writer.durable if number % 2 else writer.run
        await how(events.add, "test", f"{number:03d} {LONG}")
        acknowledged.append(f"{number:03d}")

    for number in range(5):
        await write(number)
    disk.fill()
    waiting = [asyncio.create_task(write(number)) for number in range(5, 60)]
    await eventually(lambda: writer.waited > 0, "a write finds no space")
    before = list(acknowledged)
    assert len(before) < 60
    # What was acknowledged is what another process reads, also right now.
    assert stored(disk) == before
    waiting[-1].cancel()  # who waits for a write may go; the write stays
    disk.empty()
    await asyncio.gather(*waiting[:-1])
    await writer.run(events.last_id)
    assert stored(disk) == [f"{number:03d}" for number in range(60)]
    told = await writer.run(events.since, 0)
    (text,) = [row["text"] for row in told if row["kind"] == "disk"]
    assert text.startswith("the database could not be written")
    assert "waiting for space" in capfd.readouterr().err


async def test_a_transaction_that_ran_out_of_space_is_run_again_whole(disk: SmallDisk, writer: Writer) -> None:
    calls = []

    def both(connection: sqlite3.Connection) -> None:
        calls.append(1)
        events.add(connection, "test", "first")
        for _ in range(20):
            events.add(connection, "filler", LONG)
        events.add(connection, "test", "last")

    disk.fill(leave=64 * 1024)
    task = asyncio.create_task(writer.durable(both))
    await eventually(lambda: len(calls) > 1, "it is tried again")
    assert stored(disk) == []
    disk.empty()
    await task
    assert stored(disk) == ["first", "last"]


async def test_a_runner_that_leaves_does_not_wait_for_space(disk: SmallDisk, writer: Writer) -> None:
    disk.fill()

    def much(connection: sqlite3.Connection) -> None:
        for _ in range(100):
            events.add(connection, "test", LONG)

    task = asyncio.create_task(writer.run(much))
    await eventually(lambda: writer.waited > 0, "a write finds no space")
    writer.leave()
    with pytest.raises(StoreFull, match="cannot be written"):
        await task
    disk.empty()
    assert stored(disk) == []


async def test_other_errors_are_not_waited_for(writer: Writer) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table: missing"):
        await writer.run(lambda c: c.execute("SELECT * FROM missing"))
    assert writer.waited == 0


def test_a_runner_that_starts_on_a_full_disk_waits_for_it_to_empty() -> None:
    # sparse; with little free the queue would pause for space
    with disk_of(8192 * MB) as disk, bench_at(disk.path) as bench:
        bench.submit(bench.write(task(A)))
        disk.fill()
        runner = bench.runner()
        sleeps = Path(f"/proc/{runner.pid}/wchan")
        until(lambda: runner.poll() is not None or "nanosleep" in sleeps.read_text(), "it waits")
        assert runner.poll() is None
        disk.empty()
        assert runner.wait(60) == 0
        assert bench.rows("SELECT outcome FROM jobs") == [{"outcome": "success"}]
        assert not (bench.workspace.root / ".room").exists()


def campaign(bench: Bench, gates: Path) -> list[Path]:
    """A job that serves, one that fails and a good one, each with a gate of its own that is not on the disk."""
    made = [gates / name for name in "abc"]
    tasks = [
        task(A, SERVING, GATE=str(made[0])), task(B, FAKE="fail", GATE=str(made[1])), task(C, GATE=str(made[2])),
    ]  # fmt: skip
    bench.submit(bench.write(*tasks, limits="max_attempts = 1\nsame_failure = 1000"))
    return made


def test_a_disk_that_fills_under_every_job_changes_no_result(tmp_path: Path) -> None:
    """Database, logs and trees are on it; under every second job the runner is killed while it is full."""
    with bench_at(tmp_path / "calm") as calm:
        for gate in campaign(calm, tmp_path):
            gate.touch()
        assert calm.runner().wait(60) == 0, calm.log()
        expected = calm.outcomes()
        for path in tmp_path.glob("[abc]*"):
            if path.is_file():
                path.unlink()
    # sparse; with less the queue would wait for space before it is filled
    with disk_of(8192 * MB) as disk, bench_at(disk.path) as bench:
        gates = campaign(bench, tmp_path)
        runner = bench.runner()
        for number, gate in enumerate(gates):
            bench.reached(gate)
            disk.fill()
            gate.touch()
            until(lambda: not bench.family(), "what ran has ended on the full disk")
            if number % 2 == 0:
                runner.kill()
                runner.wait()
                runner = bench.runner()
            disk.empty()
        assert runner.wait(120) == 0, bench.log()
        assert bench.outcomes() == expected
        counted = bench.rows("SELECT sum(counts) AS n FROM attempts GROUP BY job_id")
        assert counted == [{"n": 1}] * 3
        assert bench.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        bench.assert_nothing_left()


def test_a_result_that_found_no_room_while_no_runner_lived_is_measured_again(tmp_path: Path) -> None:
    """Though the client ended with 0, and there was space again long before."""
    gate, end = tmp_path / "gate", tmp_path / "end"
    with disk_of(8192 * MB) as disk, bench_at(disk.path) as bench:
        bench.submit(bench.write(task(A, FAKE="no-room", GATE=str(gate), END=str(end)), limits="max_attempts = 1"))
        runner = bench.runner()
        bench.reached(gate)
        runner.kill()
        runner.wait()
        (run_dir,) = bench.workspace.runs.iterdir()
        driver = json.loads((run_dir / "events.jsonl").read_text().partition("\n")[0])["pid"]
        disk.fill()
        gate.touch()
        until(end.with_suffix(".reached").exists, "its words found no room")
        looks(driver)
        disk.empty()
        end.touch()
        until(lambda: not bench.family(), "it has ended")
        assert bench.runner().wait(60) == 0, bench.log()
        rows = bench.rows(
            "SELECT a.outcome, a.counts, a.exit_code, d.reason FROM attempts a "
            "LEFT JOIN diagnoses d ON d.attempt_id = a.id ORDER BY a.id"
        )
        assert [(row["outcome"], row["counts"], row["exit_code"]) for row in rows] == [
            ("interrupted", 0, 75),
            ("success", 1, 0),
        ]
        assert "disk was full" in rows[0]["reason"]
        bench.assert_nothing_left()
