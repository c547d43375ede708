"""Bad input of any kind: one clear line, the documented exit code, no traceback, and nothing lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import A, B, Bench, bench_at, task
from member import Member

from isobench_tui.store import db, schema

READING = [("status",), ("attach",), ("logs", "aaaa"), ("export",), ("snapshot", "copy")]
STEERING = [
    ("pause",), ("resume",), ("skip", "aaaa"), ("stop",), ("cancel", "small"), ("retry", "aaaa"), ("hold", "aaaa"),
    ("release", "aaaa"), ("move", "aaaa", "--first"), ("shutdown",),
]  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


@pytest.fixture
def queued(bench: Bench) -> Bench:
    """A workspace with two queued jobs and no runner."""
    bench.submit(bench.write(task(A), task(B)))
    return bench


# ------------------------------------------------------------------------------------------- campaign files


def test_campaign_files_that_cannot_be_read(bench: Bench) -> None:
    binary, empty, folder = bench.root / "binary.toml", bench.root / "empty.toml", bench.root / "folder"
    binary.write_bytes(bytes(range(256)) * 10)
    empty.write_text("")
    folder.mkdir()
    os.mkfifo(bench.root / "fifo.toml")
    for path, words in (
        (bench.root / "missing.toml", "missing.toml"),
        (folder, "folder"),
        (binary, "not UTF-8"),
        (empty, "campaign"),
        (bench.root / "fifo.toml", "fifo.toml"),
        (Path("/dev/zero"), "/dev/zero"),
        (Path("/proc/self/mem"), "/proc/self/mem"),
        (Path("x" * 5000), "xxx"),
    ):
        assert words in bench.refused("run", path)
    assert "missing.toml" in bench.refused("plan", bench.root / "missing.toml")
    assert not bench.workspace.root.exists()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("[campaign]", "[campaign", "not TOML"),
        ('name = "small"', 'name = "small"\nnmae = "x"', "campaign.nmae"),
        ('name = "small"', "name = 3", "campaign.name"),
        ('name = "small"', 'name = "a/b"', "campaign.name"),
        ('kind = "process"', 'kind = "podman"', "engine.kind"),
        ('kind = "process"', 'kind = "docker"\nhost = "ssh://somewhere"', "engine.host"),
        ('baseline = "tree"', 'baseline = "no-such-folder"', "images.baseline"),
        ("--num-prompts 4", "--num-prompts 4 | tee x", "tasks[0].perf_command"),
        ('setup = "30s"', 'setup = "soon"', "timeouts.setup"),
    ],
)
def test_campaign_files_that_are_wrong_name_the_key(queued: Bench, before: str, after: str, words: str) -> None:
    path = queued.write(task(A), file="edited.toml")
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    rows = queued.rows("SELECT * FROM jobs"), queued.rows("SELECT * FROM events")
    for command in ("run", "plan"):
        line = queued.refused(command, path)
        assert line.startswith(f"isobench: {path}: ")
        assert words in line
    assert (queued.rows("SELECT * FROM jobs"), queued.rows("SELECT * FROM events")) == rows
    assert not queued.workspace.locked()


def test_several_problems_are_several_lines(bench: Bench) -> None:
    path = bench.write(task(A), task(A), limits="max_attempts = 0\nsame_failure = 0")
    lines = bench.cli("run", path, code=2).stderr.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith(f"isobench: {path}: ") for line in lines)


def test_lanes_that_differ_from_an_unfinished_campaign(queued: Bench) -> None:
    other = queued.write(task(A), name="other", file="other.toml", lanes='"GPU-another"')
    assert "lanes differs from that of the unfinished campaign 'small'" in queued.refused("run", other)
    assert len(queued.rows("SELECT * FROM campaigns")) == 1


def test_a_secret_that_the_environment_lacks(bench: Bench) -> None:
    path = bench.write(task(A))
    path.write_text(path.read_text() + '[model]\nsecrets = ["SOME_TOKEN"]\n')
    assert "SOME_TOKEN, which the environment lacks" in bench.refused("run", path)
    bench.cli("run", path, env={"SOME_TOKEN": "hunter2-hunter2"})
    stored = bench.root / "config" / "isobench" / "secrets" / "SOME_TOKEN"
    assert (stored.read_text(), stored.stat().st_mode & 0o777) == ("hunter2-hunter2", 0o600)
    for found in bench.workspace.root.rglob("*"):
        assert found.is_dir() or b"hunter2" not in found.read_bytes(), found
    bench.cli("run", path)


# --------------------------------------------------------------------------------------------------- engines


def test_an_engine_that_is_not_there_is_3_and_queues_nothing(queued: Bench) -> None:
    path = queued.write(task(A), name="other", file="docker.toml")
    text = path.read_text().replace('baseline = "tree"', 'baseline = "tree:1"')
    path.write_text(text.replace('kind = "process"', f'kind = "docker"\nhost = "unix://{queued.root}/absent.sock"'))
    assert "absent.sock" in queued.refused("run", path, code=3)
    assert "absent.sock" in queued.refused("run", path, "--detach", code=3)
    path.write_text(path.read_text().replace("host = ", "# host = "))
    absent = {"DOCKER_HOST": f"unix://{queued.root}/other.sock"}
    assert "other.sock" in queued.refused("run", path, code=3, env=absent)
    queued.refused("run", path, code=3, env={"DOCKER_HOST": "tcp://127.0.0.1:1"})
    (queued.root / "plain").touch()
    queued.refused("run", path, code=3, env={"DOCKER_HOST": f"unix://{queued.root}/plain"})
    assert len(queued.rows("SELECT * FROM campaigns")) == 1
    assert not queued.workspace.locked()


def test_a_runner_whose_engine_went_away_still_obeys(bench: Bench) -> None:
    path = bench.write(task(A), task(B))
    text = path.read_text().replace('baseline = "tree"', 'baseline = "tree:1"')
    path.write_text(text.replace('kind = "process"', f'kind = "docker"\nhost = "unix://{bench.root}/gone.sock"'))
    assert bench.submit(path).exit_code == 0
    runner = bench.runner()
    while bench.status()["paused"] is None:
        assert runner.poll() is None, bench.log()
    assert "queue    paused itself" in bench.cli("status").stdout
    assert "gone.sock" in bench.status()["paused"]["reason"]
    assert bench.cli("skip", "aaaa").stdout == "skipped 1 job\n"
    assert bench.cli("hold", "bbbb").stdout == "held 1 job: bbbbbbbb:baseline\n"
    assert bench.rows("SELECT * FROM attempts") == [], "nothing was burnt"
    bench.cli("shutdown", "--wait")
    assert runner.wait(timeout=60) == 0


# ------------------------------------------------------------------------------------------ selectors and options


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("skip",), 2, "say which jobs"),
        (("skip", "zzzz"), 2, "is no selector"),
        (("skip", ""), 2, "is no selector"),
        (("skip", "a\nb"), 2, "is no selector"),
        (("skip", "\x1b[2J"), 2, "is no selector"),
        (("skip", "dddd"), 4, "no task has commit dddd"),
        (("skip", "aaaa", "--campaign", "nowhere"), 4, "no campaign named 'nowhere'"),
        (("skip", "--failed"), 4, "no job matches --failed"),
        (("retry", "aaaa:human"), 4, "no job matches aaaa:human"),
        (("hold", "j0000000000"), 4, "no job matches j0000000000"),
        (("move", "aaaa", "--after", "dddd"), 4, "no task has commit dddd"),
        (("move", "aaaa", "--after", "aaaa"), 2, "not another job"),
        (("cancel", "nowhere"), 4, "no campaign named 'nowhere' here; there is: small"),
        (("cancel", ""), 4, "no campaign named ''"),
        (("pause", "--campaign", "no\x07where"), 4, "no campaign named 'no\\x07where'"),
        (("status", "--campaign", "nowhere"), 4, "no campaign named 'nowhere'"),
        (("export", "--campaign", "nowhere"), 4, "no campaign named 'nowhere'"),
        (("attach", "--campaign", "nowhere"), 4, "no campaign named 'nowhere'"),
        (("logs", "aaaa"), 4, "has not run yet"),
        (("logs", "nonsense"), 2, "is no selector"),
        (("logs", "dddd"), 4, "no task has commit dddd"),
        (("shutdown", "--at", "soon"), 2, "'soon' is no time"),
        (("shutdown", "--at", "25:00"), 2, "'25:00' is no time"),
        (("shutdown", "--at", "2020-01-01T00:00"), 2, "is over already"),
        (("shutdown", "--at", "0001-01-01"), 2, "is"),
        (("export", "-o", "/proc/table.md"), 2, "/proc/"),
        (("export", "-o", "/"), 2, "isobench"),
        (("export", "-o", "no/such/folder/table.md"), 2, "no/such/folder"),
        (("snapshot", "/"), 2, "exists already"),
        (("snapshot", "/proc/copy"), 2, "cannot use /proc/copy as a workspace"),
        (("snapshot", "/dev/null/copy"), 2, "/dev/null/copy"),
    ],
)
def test_what_is_refused_with_one_line(queued: Bench, argv: tuple[str, ...], code: int, words: str) -> None:
    before = queued.rows("SELECT * FROM jobs")
    assert words in queued.refused(*argv, code=code, cwd=queued.root)
    assert queued.rows("SELECT * FROM jobs") == before


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("dance",),
        ("run", "--no-such-option"),
        ("export", "--format", "xml"),
        ("move", "aaaa"),
        ("move", "aaaa", "--first", "--last"),
        ("logs", "aaaa", "--attempt", "x"),
        ("cancel",),
    ],
)
def test_usage_is_2_with_the_usage(bench: Bench, argv: tuple[str, ...]) -> None:
    done = bench.cli(*argv, code=2)
    assert done.stderr.startswith("usage: isobench")
    assert done.stdout == ""


def test_help_and_version(bench: Bench) -> None:
    assert "exit codes: 0 done and all valid" in bench.cli("--help").stdout
    assert bench.cli("--version").stdout.startswith("isobench ")
    assert "SEL names jobs" in bench.cli("skip", "--help").stdout


# ---------------------------------------------------------------------------------------------- workspaces


@pytest.mark.parametrize("argv", READING + STEERING, ids=lambda argv: argv[0])
def test_without_a_workspace_each_command_says_how_to_begin(bench: Bench, argv: tuple[str, ...]) -> None:
    assert bench.refused(*argv).endswith("start one with `isobench run FILE`")
    assert not bench.workspace.root.exists()


@pytest.mark.parametrize("place", ["file", "/dev/null", "/proc/isobench", "~nobody-of-that-name/x", "loop", "long"])
def test_places_that_cannot_be_a_workspace(bench: Bench, place: str) -> None:
    (bench.root / "file").write_text("mine")
    (bench.root / "loop").symlink_to(bench.root / "loop")
    chosen = {"file": f"{bench.root}/file", "loop": f"{bench.root}/loop", "long": "x" * 5000}.get(place, place)
    path = bench.write(task(A))
    bench.refused("run", path, "--workspace", chosen)
    bench.refused("status", "--workspace", chosen)
    bench.refused("pause", "--workspace", chosen)
    assert (bench.root / "file").read_text() == "mine"


@pytest.mark.parametrize("damage", ["text", "pages", "empty", "newer", "foreign", "folder"])
def test_a_database_that_cannot_be_used(queued: Bench, damage: str) -> None:
    path = queued.workspace.database
    with contextlib.closing(db.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if damage == "newer":
            connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        connection.execute("PRAGMA journal_mode = DELETE")
    if damage == "text":
        path.write_bytes(b"no database\n" * 1000)
    elif damage == "pages":
        data = path.read_bytes()
        path.write_bytes(data[:100] + b"\xa5" * (len(data) - 100))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE recipes (x)")
            other.execute(f"PRAGMA user_version = {schema.VERSION}")
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    before = path.read_bytes() if path.is_file() else b""
    for argv in [("status",), ("export",), ("skip", "aaaa"), ("snapshot", "copy")]:
        assert "database" in queued.refused(*argv, cwd=queued.root)
    assert not (queued.root / "copy").exists()
    if damage != "empty":  # that is what a crash leaves between making the file and its tables
        queued.refused("run", queued.root / "campaign.toml")
        assert (path.read_bytes() if path.is_file() else b"") == before
    if damage == "newer":
        assert "newer isobench" in queued.refused("status")


def test_a_database_with_a_broken_page(queued: Bench) -> None:
    path = queued.workspace.database
    with contextlib.closing(db.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
    for argv in [("status",), ("export",), ("skip", "aaaa"), ("logs", "aaaa")]:
        assert "the workspace's database cannot be used" in queued.refused(*argv)
    said = queued.cli("run", code=2).stderr  # it may meet the page itself, or the runner's check does
    assert "the workspace's database cannot be used" in said or "isobench.db is damaged" in said


def test_an_empty_database_is_filled_by_run(queued: Bench) -> None:
    for path in queued.workspace.root.glob("isobench.db*"):
        path.unlink()
    queued.workspace.database.touch()
    assert queued.cli("run", queued.root / "campaign.toml").stdout.endswith("2 jobs: 2 valid\n")


def test_somebody_who_may_only_read(queued: Bench, member: Member) -> None:
    """A folder of another user: what reads works or says why, what writes is refused."""
    copy = queued.root / "copy"
    queued.cli("snapshot", copy)
    place = member.root / "ws"
    shutil.copytree(copy, place)
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    argv = [member.python, "-m", "isobench_tui"]
    more = {"ISOBENCH_WORKSPACE": str(place)}
    done = member.run([*argv, "status"], more=more)
    assert (done.returncode, done.stderr) == (0, "")
    assert "aaaaaaaa:baseline#1" in done.stdout
    for command in (["skip", "aaaa"], ["run"], ["pause"]):
        done = member.run([*argv, *command], more=more)
        assert done.returncode == 2, done
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("isobench: ")
    place.chmod(0o700)
    for path in (place, *place.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    for command in (["status"], ["skip", "aaaa"], ["export"]):
        done = member.run([*argv, *command], more=more)
        assert done.returncode == 2, done
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "ermission denied" in done.stderr
