"""The database: how it is made, grown, refused, and what moves when something is written."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bench import A, Bench, bench_at, task, until
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.store import clock, commands, db, events, live, query, samples, schema
from isobench_tui.store.workspace import Locked, Workspace, WorkspaceError, find

TABLES = {
    "campaigns", "tasks", "jobs", "attempts", "phases", "trials", "metrics", "diagnoses", "flags", "images",
    "commands", "events", "samples", "live", "meta",
}  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture
def store(workspace: Workspace) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(db.create_store(workspace)) as connection:
        yield connection


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        made.submit(made.write(task(A)))
        yield made


def columns(connection: sqlite3.Connection) -> set[str]:
    return {row["name"] for row in connection.execute("PRAGMA table_info(jobs)")}


# ------------------------------------------------------------------------------------------------- made, grown


def test_a_new_store_is_private_and_has_the_tables(store: sqlite3.Connection, workspace: Workspace) -> None:
    found = {row["name"] for row in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert found == TABLES
    assert len(str(db.meta(store, "uuid"))) == 36
    assert store.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert store.execute("PRAGMA foreign_keys").fetchone()[0] == 1
    for path in (workspace.root, workspace.runs, workspace.backups):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    store.execute("BEGIN IMMEDIATE")
    db.set_meta(store, "x", 1)
    store.execute("COMMIT")
    for path in workspace.root.glob("isobench.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_processes_that_make_it_at_once_make_one_store(workspace: Workspace) -> None:
    code = (
        "import sys; from pathlib import Path; from isobench_tui.store import db; "
        "from isobench_tui.store.workspace import Workspace; "
        "print(db.meta(db.create_store(Workspace(Path(sys.argv[1]))), 'uuid'))"
    )
    argv = [sys.executable, "-c", code, str(workspace.root)]
    children = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0] * 4
    assert len(set(said)) == 1


def test_a_migration_keeps_everything_and_makes_a_backup(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(db.create_store(workspace)) as old, db.transaction(old):
        events.add(old, "test", "before")
    assert list(workspace.backups.iterdir()) == []
    grown = "ALTER TABLE jobs ADD COLUMN mood TEXT;\nCREATE TABLE extra (x INTEGER);\n"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, grown))
    last = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", last + 1)
    said = f"has schema {last}, this isobench has {last + 1}; `isobench run` migrates it"
    with pytest.raises(db.StoreError, match=said):
        db.open_store(workspace)
    with contextlib.closing(db.create_store(workspace)) as new:
        assert "mood" in columns(new)
        assert events.since(new, 0)[0]["text"] == "before"
    (backup,) = workspace.backups.iterdir()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with contextlib.closing(db.connect(backup)) as before:
        assert before.execute("PRAGMA user_version").fetchone()[0] == last
        assert "mood" not in columns(before)
        assert events.since(before, 0)[0]["text"] == "before"
    with contextlib.closing(db.create_store(workspace)):
        assert len(list(workspace.backups.iterdir())) == 1


def test_a_migration_that_fails_changes_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    db.create_store(workspace).close()
    with monkeypatch.context() as patched:
        patched.setattr(
            schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE extra (x);\nCREATE TABLE jobs (x);\n")
        )
        patched.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(db.StoreError, match="already exists"):
            db.create_store(workspace)
    with contextlib.closing(db.open_store(workspace)) as connection:
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'extra'").fetchone() is None


def test_a_newer_store_is_refused_and_untouched(store: sqlite3.Connection, workspace: Workspace) -> None:
    store.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = workspace.database.read_bytes()
    for door in (db.open_store, db.create_store):
        with pytest.raises(
            db.StoreError,
            match=rf"by a newer isobench \(schema {schema.VERSION + 1}, this one knows {schema.VERSION}\); upgrade",
        ):
            door(workspace)
    assert workspace.database.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is no database " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_database_is_refused_and_untouched(workspace: Workspace, content: bytes) -> None:
    workspace.create()
    workspace.database.write_bytes(content)
    for door in (db.open_store, db.create_store):
        with pytest.raises(db.StoreError):
            door(workspace)
    assert workspace.database.read_bytes() == content


def test_no_store_says_how_to_make_one(workspace: Workspace) -> None:
    with pytest.raises(db.NoStore, match="isobench run FILE"):
        db.open_store(workspace)
    assert not workspace.root.exists()


# ------------------------------------------------------------------------------------------------ transactions


def test_a_transaction_is_all_or_nothing(store: sqlite3.Connection) -> None:
    with pytest.raises(ZeroDivisionError), db.transaction(store):
        events.add(store, "test", "never")
        _ = 1 / 0
    assert events.since(store, 0) == []
    for durable in (False, True):
        with db.transaction(store, durable=durable):
            events.add(store, "test", "kept")
        assert store.execute("PRAGMA synchronous").fetchone()[0] == 1
    assert [row["text"] for row in events.since(store, 0)] == ["kept", "kept"]


def test_a_full_disk_undoes_the_transaction_and_the_next_one_works(store: sqlite3.Connection) -> None:
    pages = store.execute("PRAGMA page_count").fetchone()[0]
    store.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"), db.transaction(store):
        events.add(store, "test", "x" * 1_000_000)
    store.execute("PRAGMA max_page_count = 1000000")
    assert not store.in_transaction
    with db.transaction(store):
        events.add(store, "test", "after")
    assert [row["text"] for row in events.since(store, 0)] == ["after"]


def test_a_commit_that_fails_leaves_no_transaction_open(store: sqlite3.Connection) -> None:
    store.execute("PRAGMA defer_foreign_keys = ON")
    with pytest.raises(sqlite3.IntegrityError), db.transaction(store):
        store.execute("PRAGMA defer_foreign_keys = ON")
        store.execute("INSERT INTO phases (attempt_id, seq, phase, started_at) VALUES ('none', 0, 'x', 'y')")
    with db.transaction(store):
        events.add(store, "test", "after")
    assert store.execute("SELECT count(*) FROM phases").fetchone()[0] == 0


def test_a_reader_sees_one_state(store: sqlite3.Connection, workspace: Workspace) -> None:
    with contextlib.closing(db.open_store(workspace)) as reader, db.snapshot(reader):
        assert events.last_id(reader) == 0
        with db.transaction(store):
            events.add(store, "test", "meanwhile")
        assert events.last_id(reader) == 0
    with contextlib.closing(db.open_store(workspace)) as reader:
        assert events.last_id(reader) == 1


def test_a_backup_of_a_store_under_load_is_sound(store: sqlite3.Connection, workspace: Workspace) -> None:
    stop = threading.Event()
    wrote = threading.Event()

    def write() -> None:
        with contextlib.closing(db.open_store(workspace)) as writer:
            while not stop.is_set():
                with db.transaction(writer):
                    for _ in range(20):
                        events.add(writer, "test", "x" * 500)
                wrote.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        wrote.wait(30)
        for index in range(5):
            target = workspace.root / f"copy-{index}.db"
            db.backup(store, target)
            with contextlib.closing(db.connect(target)) as copy:
                assert copy.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
                assert copy.execute("SELECT count(*) FROM events").fetchone()[0] % 20 == 0
    finally:
        stop.set()
        thread.join()


def test_a_job_is_done_exactly_when_it_has_an_outcome(bench: Bench) -> None:
    with contextlib.closing(bench.store()) as connection:
        for change in ("state = 'done'", "outcome = 'success'", "state = 'lost'"):
            with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
                connection.execute(f"UPDATE jobs SET {change}")


# ----------------------------------------------------------------------------------------- what moves, what stays


def _live(connection: sqlite3.Connection) -> None:
    live.put(connection, live.RUNNER_KEY, live.LiveRunner(1, "idle"))


def _event(connection: sqlite3.Connection) -> None:
    events.add(connection, "test", "text")


def _command(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO commands (name, args, actor, at) VALUES ('x', '{}', 'me', 'now')")


def _job(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE jobs SET reason = 'x'")


def _campaign(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE campaigns SET paused = 'x'")


def _attempt(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO attempts (id, job_id, number, lane, image_ref, started_at) "
        "SELECT 'a', id, 1, 0, 'i', 't' FROM jobs"
    )
    connection.execute("INSERT INTO flags VALUES ('a', 'x', 'notes', 'y', 0)")
    connection.execute("DELETE FROM flags")


@pytest.mark.parametrize(
    ("write", "moved"),
    [
        (_live, "live"),
        (_event, "events"),
        (_command, "events"),
        (_job, "jobs"),
        (_campaign, "jobs"),
        (_attempt, "attempts"),
    ],
)
def test_a_write_moves_the_counter_of_its_slice_alone(
    bench: Bench, write: Callable[[sqlite3.Connection], None], moved: str
) -> None:
    with contextlib.closing(bench.store()) as reader, contextlib.closing(bench.store()) as writer:
        before, version = query.revisions(reader), query.data_version(reader)
        with db.transaction(writer):
            write(writer)
        after = query.revisions(reader)
        assert [name for name in query.COUNTERS if getattr(before, name) != getattr(after, name)] == [moved]
        assert getattr(after, moved) > getattr(before, moved)
        assert query.data_version(reader) != version
        version = query.data_version(reader)
        assert query.data_version(reader) == version


def test_every_table_but_the_static_ones_has_a_counter() -> None:
    watched = {table for tables in schema._SLICES.values() for table in tables}
    assert TABLES - watched == {"meta", "images"}


def test_live_rows_are_replaced_and_go_with_their_attempt(store: sqlite3.Connection) -> None:
    phase = live.LivePhase("measure", clock.now(), 60.0, detail="trial 1", tokens_per_s=1.5)
    pull = live.LivePull((live.LiveLayer("x", "done", 1, 2),), 1, 2, None, None, None)
    with db.transaction(store):
        live.put(store, "phase/a-1", live.LivePhase("image", clock.now(), 1.0), "a-1")
        live.put(store, "phase/a-1", phase, "a-1")
        live.put(store, "pull/a-1", pull, "a-1")
        live.put(store, live.RUNNER_KEY, live.LiveRunner(1, "idle"))
    assert query.live_phase(store, "a-1") == phase
    assert query.live_pull(store, "a-1") == pull
    assert store.execute("SELECT count(*) FROM live").fetchone()[0] == 3
    with db.transaction(store):
        live.drop(store, "a-1")
    assert [row["key"] for row in store.execute("SELECT key FROM live")] == [live.RUNNER_KEY]


def test_a_forecast_of_an_older_version_is_read(store: sqlite3.Connection) -> None:
    forecast = live.LiveForecast(5, (), (), ("image",), (), 7)
    with db.transaction(store):
        live.put(store, "forecast/a-1", forecast, "a-1")
    assert query.live_forecast(store, "a-1") == forecast
    store.execute("UPDATE live SET value = json_remove(value, '$.fetch')")
    assert query.live_forecast(store, "a-1") == replace(forecast, fetch=0)


MACHINE = live.LiveMachine(
    host=live.LiveHost(cpus=2, cpu_percent=None, load=(0.5, 1.0, 2.0), memory_total=8, memory_available=4),
    disks=(live.LiveDisk("/", ("workspace", "images"), "ext4", 9, 7),),
    gpus=(
        live.LiveGpu(
            index=0,
            uuid="GPU-1",
            name="a GPU",
            memory_used=3,
            memory_total=80,
            utilization=None,
            temperature=40,
            sm_clock=1980,
            sm_clock_max=1980,
            power=70.5,
            power_limit=700.0,
            throttle=("sw_power_cap", "hw_slowdown"),
            processes=(live.LiveProcess(7, "python", "me", None, attempt="a-1"), live.LiveProcess(8, "x", "you", 2)),
        ),
    ),
    driver="550.1",
)


def test_a_reading_of_the_machine_comes_back_whole(store: sqlite3.Connection) -> None:
    assert query.live_machine(store) is None
    with db.transaction(store):
        live.put(store, live.MACHINE_KEY, MACHINE)
    at, seen = query.live_machine(store) or ("", None)
    assert clock.ago(at) < 60
    assert seen == MACHINE
    assert [process.ours for process in seen.gpus[0].processes] == [True, False]


def test_samples_move_no_counter_of_their_own(bench: Bench) -> None:
    with contextlib.closing(bench.store()) as connection:
        before = query.revisions(connection)
        with db.transaction(connection):
            samples.add(connection, [samples.Reading("disk", "/", 1, 2)])
            samples.thin(connection)
        assert query.revisions(connection) == before


def test_samples_become_means_as_they_age(store: sqlite3.Connection) -> None:
    now = clock.seconds(clock.now())
    hour, day = 3600.0, 86400.0
    ages = [
        *(10.0 * n for n in range(1, 30)),  # the last minutes: all stay
        *(2 * hour + 5 * n for n in range(120)),  # ten minutes, hours ago: one a minute
        *(8 * day + 60 * n for n in range(180)),  # three hours of last week: one in ten minutes
    ]
    with db.transaction(store):
        for place, age in enumerate(ages):
            samples.add(store, [samples.Reading("disk", "/", place % 2, 9)], clock.stamp(now - age))
        samples.add(store, [samples.Reading("disk", "/other", 5, 9)], clock.stamp(now - 8 * day))
        samples.add(store, [samples.Reading("disk", "/", 7, 9)])
        samples.thin(store)
    rows = store.execute("SELECT * FROM samples WHERE key = '/' ORDER BY at").fetchall()
    kept = [clock.ago(row["at"]) for row in rows]
    assert len([age for age in kept if age < hour]) == 30
    assert len([age for age in kept if hour < age < day]) in {10, 11}
    assert len([age for age in kept if age > 7 * day]) in {18, 19}
    inner = [row["value"] for row in rows if 7 * day < clock.ago(row["at"])][1:-1]
    assert inner == [0.5] * len(inner), "every other reading was 0 or 1"
    assert {row["step"] for row in rows} == {10, 60, 600}
    newest = {"path": "/", "at": rows[-1]["at"], "free": 7, "total": 9}
    assert query.disk(store)[0] == newest
    with db.transaction(store):
        samples.thin(store)
    assert store.execute("SELECT count(*) FROM samples WHERE key = '/'").fetchone()[0] == len(rows)


def test_a_history_has_as_many_points_as_asked_for(store: sqlite3.Connection) -> None:
    until = "2026-01-24T12:00:00.000Z"
    end = clock.seconds(until)
    with db.transaction(store):
        for second in (*range(10, 301, 10), *range(600, 901, 10)):  # nothing between 5 and 10 minutes ago
            samples.add(store, [samples.Reading("cpu", "host", second, 100)], clock.stamp(end - second))
        samples.add(store, [samples.Reading("cpu", "other", 1, 100)], clock.stamp(end - 5))
    found = samples.history(store, "cpu", "host", span_s=900, points=9, until=until)
    assert [None if point is None else point.value for point in found] == [
        855.0, 755.0, 655.0, 600.0, None, None, 255.0, 155.0, 55.0,
    ]  # fmt: skip
    assert found[0] == samples.Point("host", "2026-01-24T11:45:00.000Z", 855.0, 100.0)
    assert samples.history(store, "gpu_power", "host", span_s=900, points=3) == [None] * 3


def test_a_merged_sample_fills_all_its_steps(store: sqlite3.Connection) -> None:
    with db.transaction(store):
        store.execute("INSERT INTO samples VALUES ('2026-01-24T11:00:00.000Z', 'cpu', 'host', 7, 100, 600)")
        store.execute("INSERT INTO samples VALUES ('2026-01-24T11:40:00.000Z', 'cpu', 'host', 9, 100, 600)")
    found = samples.history(store, "cpu", "host", span_s=3600, points=12, until="2026-01-24T12:00:00.000Z")
    values = [None if point is None else point.value for point in found]
    assert values == [7, 7, None, None, None, None, None, None, 9, 9, None, None]


@given(st.floats(min_value=0, max_value=4e9))
def test_times_survive_the_store(at: float) -> None:
    text = clock.stamp(at)
    assert text.endswith("Z")
    assert abs(clock.seconds(text) - at) <= 0.0011
    assert clock.stamp(at + 1) > text


# ------------------------------------------------------------------------------------------------- the workspace


def test_one_holds_the_lock_and_says_who(workspace: Workspace) -> None:
    workspace.create()
    assert not workspace.locked()
    with workspace.lock("isobench runner"):
        assert workspace.locked()
        assert workspace.holder() == os.getpid()
        with pytest.raises(Locked, match=rf"isobench runner, pid {os.getpid()}"), workspace.lock("another"):
            pass
        assert json.loads(workspace.lock_file.read_text())["who"] == "isobench runner"
    assert not workspace.locked()
    assert workspace.holder() is None


def test_the_lock_goes_with_its_holder(workspace: Workspace) -> None:
    workspace.create()
    code = (
        "import sys, time; from pathlib import Path; from isobench_tui.store.workspace import Workspace\n"
        "with Workspace(Path(sys.argv[1])).lock('child'): time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(workspace.root)])
    try:
        until(lambda: workspace.holder() == child.pid, "the child's lock")
    finally:
        child.kill()
        child.wait()
    with workspace.lock("us"):
        assert workspace.holder() == os.getpid()


def test_those_who_look_at_the_lock_do_not_keep_a_runner_from_it(workspace: Workspace) -> None:
    workspace.create()
    workspace.lock_file.touch()
    stop = threading.Event()
    looking = [threading.Thread(target=_look, args=(workspace, stop)) for _ in range(3)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(200):
            with workspace.lock("us"):
                pass
    finally:
        stop.set()
        for thread in looking:
            thread.join()


def _look(workspace: Workspace, stop: threading.Event) -> None:
    while not stop.is_set():
        workspace.locked()


def test_where_the_workspace_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOBENCH_WORKSPACE", str(tmp_path / "env"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find(str(tmp_path / "option")).root == tmp_path / "option"
    assert find("~/home").root == tmp_path / "home"
    assert find(None).root == tmp_path / "env"
    monkeypatch.delenv("ISOBENCH_WORKSPACE")
    assert find(None).root == tmp_path / "data" / "isobench"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for bad in ("~nobody-of-that-name/x", str(tmp_path / "loop" / "x"), "x" * 5000):
        with pytest.raises(WorkspaceError):
            find(bad).create()


def test_a_command_of_a_newer_command_line_is_refused_not_fatal(bench: Bench) -> None:
    assert "older than the command line" in bench.command("dance").text
    answer = bench.command("cancel")
    assert (answer.exit_code, answer.text) == (2, "cancel failed and changed nothing: KeyError: 'campaign'")
    answer = bench.command("submit", name="broken")
    assert answer.exit_code == 2
    assert "\n" not in answer.text
    with contextlib.closing(bench.store()) as connection:
        assert not commands.pending(connection)
