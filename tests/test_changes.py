"""The queue that a dashboard keeps: after any change it is what a reader finds that starts now."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bench import SERVING, THROUGHPUT, A, B, Bench, C, bench_at, task

from isobench_tui.results.metrics import metric
from isobench_tui.results.models import Diagnosis, Flag, Verdict
from isobench_tui.store import attempts, changes, db, query, schema
from isobench_tui.store.answer import Rejected
from isobench_tui.store.attempts import Done, Ending, Fate, Held, Requeue
from isobench_tui.store.clock import now
from isobench_tui.store.rejudge import rejudge
from isobench_tui.tui.jobs import Jobs
from isobench_tui.tui.snapshot import Job

STEPS = 250
CAMPAIGNS = ("one", "two")
FATES: tuple[Fate, ...] = (Done(), Done(), Requeue("front", "again"), Requeue("behind", "later"), Held("thrice"))
FLAGS = (Flag("short_window", "invalidates", "2 s"), Flag("gpu_busy", "notes", "9 %"))
FAILED = Diagnosis("server_crash", "undetermined", "the server ended with 1")


def submit(bench: Bench, name: str, *commits: str, simulated: bool = False) -> None:
    keys = f'arms = ["baseline", "agent"]\nrepeats = 2\nsimulated = {str(simulated).lower()}'
    tasks = [task(commit, SERVING if commit == B else THROUGHPUT, patch="faster.diff") for commit in commits]
    bench.submit(bench.write(*tasks, name=name, campaign=keys))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        submit(made, "one", A, B)
        submit(made, "two", A)
        yield made


@pytest.fixture
def store(bench: Bench) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(bench.store()) as connection:
        yield connection


def read(jobs: Jobs, connection: sqlite3.Connection) -> tuple[Job, ...]:
    with db.snapshot(connection):
        return jobs.read(connection)


@dataclass
class Life:
    """What operators and a runner do to a workspace, at random."""

    bench: Bench
    store: sqlite3.Connection
    dice: random.Random
    open: list[str] = field(default_factory=list)

    def step(self) -> str:
        """One change; its name."""
        does = self.dice.choice((self.command, self.command, self.begin, self.begin, self.end, self.end, self.phase))
        with contextlib.suppress(Rejected):
            does()
        if self.dice.random() < 0.1:
            self.edit()
        return does.__name__

    def command(self) -> None:
        name = self.dice.choice(("hold", "release", "skip", "retry", "retry", "move", "stop", "pause", "cancel"))
        jobs = query.jobs(self.store)
        chosen, other = (self.dice.choice(jobs)["id"] for _ in range(2))
        campaign = self.dice.choice(CAMPAIGNS)
        if name == "pause":
            self.bench.command(name, campaign=campaign, now=True)
        elif name == "cancel":
            if self.dice.random() < 0.3:
                self.bench.command(name, campaign=campaign)
        elif name == "move":
            self.bench.command(name, chosen, to=self.dice.choice(("first", "last", "after")), after=other)
        else:
            self.bench.command(name, chosen)

    def begin(self) -> None:
        waiting = self.store.execute(
            "SELECT * FROM jobs WHERE state = 'queued' ORDER BY campaign_id, position"
        ).fetchall()
        if waiting:
            with db.transaction(self.store):
                job = self.dice.choice(waiting)
                self.open.append(attempts.open_attempt(self.store, job, len(self.open), "isobench-cpu"))

    def phase(self) -> None:
        if self.open:
            with db.transaction(self.store):
                attempts.start_phase(self.store, self.open[0], self.dice.choice(("image", "measure")), 60.0, now())

    def end(self) -> None:
        if not self.open:
            return
        attempt = self.open.pop(self.dice.randrange(len(self.open)))
        with db.transaction(self.store):
            attempts.finish(self.store, attempt, self.ending(attempt))
            query = "SELECT task_id FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE a.id = ?"
            rejudge(self.store, self.store.execute(query, (attempt,)).fetchone()[0])
        with db.transaction(self.store):
            attempts.close(self.store, attempt)

    def ending(self, attempt: str) -> Ending:
        if self.dice.random() < 0.3:
            return Ending(Verdict("failed", diagnosis=FAILED), self.dice.choice(FATES), counts=True)
        names = ("output_throughput", "tokens_per_second", "mean_ttft_ms")
        values = tuple(metric(name, self.dice.uniform(1, 1000)) for name in names)
        flags = tuple(flag for flag in FLAGS if self.dice.random() < 0.3)
        verdict = Verdict("success", values, flags=flags)
        return Ending(verdict, Done(), counts=True, model_used=attempt, client_sha256="c" * 64)

    def edit(self) -> None:
        commits = self.dice.sample((A, B, C), self.dice.randint(1, 3))
        submit(self.bench, "two", *commits, simulated=self.dice.random() < 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_kept_is_what_is_there(bench: Bench, store: sqlite3.Connection, seed: int) -> None:
    life = Life(bench, store, random.Random(seed))
    everything, one = Jobs(), Jobs("two")
    seen: set[Job] = set()
    for number in range(STEPS):
        done = life.step()
        if life.dice.random() < 0.2:
            continue  # a reader may sleep through a change
        kept = read(everything, store)
        assert kept == read(Jobs(), store), (number, done)
        assert [job.id for job in kept] == [row["id"] for row in query.jobs(store)], (number, done)
        assert [plain(job) for job in kept] == [row_of(row) for row in query.jobs(store)], (number, done)
        assert read(one, store) == tuple(job for job in kept if job.campaign == "two"), (number, done)
        seen.update(kept)
    assert any(job.speedup for job in seen), "the walk came to results that are compared"
    assert len({job.state for job in seen}) == 5, {job.state for job in seen}


def plain(job: Job) -> tuple[object, ...]:
    return job.state, job.outcome, job.valid, job.attempt, job.phase, job.started_at, job.ended_at, job.simulated


def row_of(row: sqlite3.Row) -> tuple[object, ...]:
    valid = None if row["valid"] is None else bool(row["valid"])
    attempt = tuple(row[name] for name in ("attempt", "phase", "started_at", "attempt_ended_at"))
    return row["state"], row["outcome"], valid, *attempt, bool(row["simulated"])


def test_a_job_has_what_its_newest_attempt_and_its_newest_success_say(
    bench: Bench, store: sqlite3.Connection
) -> None:
    def run(name: str, ending: Ending) -> None:
        (job,) = [job for job in read(Jobs("one"), store) if job.name.endswith(name) and job.commit == A]
        row = store.execute("SELECT * FROM jobs WHERE id = ?", (job.id,)).fetchone()
        with db.transaction(store):
            attempt = attempts.open_attempt(store, row, 0, "isobench-cpu")
            attempts.finish(store, attempt, ending)

    def success(value: float, *flags: Flag) -> Ending:
        verdict = Verdict("success", (metric("tokens_per_second", value),), flags=flags)
        return Ending(verdict, Done(), counts=True, client_sha256="c" * 64)

    run(":baseline#1", success(100.0))
    run(":baseline#2", success(300.0))
    run(":one#1", success(500.0, FLAGS[1]))
    run(":one#2", success(900.0, *FLAGS))
    found = {job.name[9:]: job for job in read(Jobs("one"), store) if job.commit == A}
    assert (found["one#1"].value, found["one#1"].unit, found["one#1"].metric) == (500.0, "tok/s", "tokens_per_second")
    assert found["one#1"].speedup == 2.5, "over the mean of both baselines"
    assert (found["one#1"].flags, found["one#1"].invalidating) == (("gpu_busy",), frozenset())
    assert (found["one#2"].valid, found["one#2"].speedup) == (False, None)
    assert found["one#2"].flags == ("gpu_busy", "short_window")
    assert found["one#2"].invalidating == {"short_window"}
    assert found["baseline#1"].speedup is None
    bench.command("retry", found["one#1"].id)
    run(":one#1", Ending(Verdict("failed", diagnosis=FAILED), Done(), counts=True))
    (again,) = [job for job in read(Jobs("one"), store) if job.id == found["one#1"].id]
    assert (again.outcome, again.failure, again.reason) == ("failed", FAILED.failure, FAILED.reason)
    assert (again.value, again.flags, again.attempt) == (500.0, (), f"{again.id}-2")


def test_nothing_changed_is_the_same_tuple(bench: Bench, store: sqlite3.Connection) -> None:
    jobs = Jobs()
    before = read(jobs, store)
    assert before
    bench.command("pause")
    assert read(jobs, store) is before


def test_only_what_was_written_is_read_again(bench: Bench, store: sqlite3.Connection) -> None:
    jobs = Jobs()
    before = {job.id: job for job in read(jobs, store)}
    (first, *_) = (job for job in before.values() if job.commit == B)
    bench.command("hold", first.id)
    after = {job.id: job for job in read(jobs, store)}
    assert {key for key, job in after.items() if job is not before[key]} == {
        job.id for job in before.values() if (job.campaign, job.commit) == (first.campaign, B)
    }
    bench.command("move", first.id, to="last")
    assert all(job is after[job.id] for job in read(jobs, store)), "a place in the queue is no part of a job"


def test_jobs_that_are_gone_are_gone(store: sqlite3.Connection) -> None:
    jobs = Jobs()
    gone = read(jobs, store)[1]
    with db.transaction(store):
        store.execute("DELETE FROM jobs WHERE id = ?", (gone.id,))
    left = read(jobs, store)
    assert left == read(Jobs(), store)
    assert gone.id not in {job.id for job in left}


@pytest.mark.parametrize(
    "write",
    [
        "INSERT INTO flags (attempt_id, name, effect, text) SELECT id, 'drift', 'notes', 'x' FROM attempts",
        "UPDATE flags SET effect = 'notes'",
        "DELETE FROM flags",
        "UPDATE metrics SET value = value * 2",
        "UPDATE diagnoses SET reason = 'another'",
        "UPDATE attempts SET model_used = 'another'",
        "UPDATE tasks SET model = 'another'",
        "UPDATE campaigns SET simulated = 1",
    ],
)
def test_a_write_to_any_table_is_seen(store: sqlite3.Connection, write: str) -> None:
    jobs = store.execute("SELECT * FROM jobs WHERE campaign_id = 1 ORDER BY position").fetchall()
    verdicts = (
        Verdict("success", (metric("tokens_per_second", 5.0),), flags=FLAGS),
        Verdict("failed", diagnosis=FAILED),
    )
    with db.transaction(store):
        for job, verdict in zip(jobs, verdicts, strict=False):
            attempt = attempts.open_attempt(store, job, 0, "isobench-cpu")
            attempts.finish(store, attempt, Ending(verdict, Done(), counts=True))
    kept = Jobs()
    before = read(kept, store)
    with db.transaction(store):
        store.execute(write)
    assert read(kept, store) == read(Jobs(), store) != before


@pytest.mark.parametrize(("table", "apart"), [("jobs", {"position"}), ("tasks", {"id", "rev"})])
def test_every_column_counts_but_these(store: sqlite3.Connection, table: str, apart: set[str]) -> None:
    """A column that a later version adds must be told to the trigger, too."""
    for row in store.execute(f"PRAGMA table_info({table})").fetchall():
        before = changes.marks(store)
        store.execute(f"UPDATE {table} SET {row['name']} = {row['name']}")
        assert (changes.marks(store) != before) is (row["name"] not in apart), row["name"]


def test_a_queue_that_an_older_version_wrote_is_read_and_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench_at(tmp_path) as bench:
        with monkeypatch.context() as older:
            older.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:5])
            older.setattr(schema, "VERSION", 5)
            submit(bench, "one", A, B)
        db.create_store(bench.workspace).close()
        with contextlib.closing(bench.store()) as store:
            jobs = Jobs()
            assert [job.id for job in read(jobs, store)] == [row["id"] for row in query.jobs(store)] != []
            bench.command("hold", jobs.found[0].id)
            assert read(jobs, store)[0].state == "held"
            assert jobs.found == read(Jobs(), store)
