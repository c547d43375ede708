"""A run directory is hostile: whatever lies in it, reading neither follows, nor blocks, nor fills the memory."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.runner.eventlog import MAX_EVENTS, EventLog
from isobench_tui.store import rundir
from isobench_tui.store.rundir import Hostile, RunDir

SECRET = b"the host's own file"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    (tmp_path / "secret").write_bytes(SECRET)
    found = RunDir(tmp_path / "run")
    found.create(("server.log",))
    return found


def symlink(path: Path) -> None:
    path.symlink_to(path.parent.parent / "secret")


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nothing")


def loop(path: Path) -> None:
    path.symlink_to(path)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def sock(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_bytes(b"x")


def device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("this root may not make devices")


KINDS = [symlink, dangling, loop, fifo, sock, folder, device]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_is_no_plain_file_is_hostile(run: RunDir, make: object) -> None:
    assert callable(make)
    (run.path / "server.log").unlink()
    make(run.path / "server.log")
    for door in (
        lambda: run.read("server.log"),
        lambda: run.read_at("server.log", 0, 10),
        lambda: run.extent("server.log", 0),
    ):
        with pytest.raises(Hostile, match=r"server\.log is not a plain file"):
            door()
    assert run.size("server.log") == 0
    assert run.names() == ["server.log"]
    assert "is not a plain file" in run.digest()["server.log"]["hostile"]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_we_write_is_a_plain_file_of_ours_whatever_lay_there(run: RunDir, make: object) -> None:
    assert callable(make)
    for name in ("inspect.json", ".inspect.json.part"):
        make(run.path / name)
    run.write("inspect.json", b"{}")
    assert run.read("inspect.json") == b"{}"
    assert stat.S_IMODE((run.path / "inspect.json").stat().st_mode) == 0o600
    assert (run.path.parent / "secret").read_bytes() == SECRET


@pytest.mark.parametrize("make", [symlink, loop, fifo, device], ids=lambda make: make.__name__)
def test_the_directory_itself_may_have_been_replaced(run: RunDir, make: object) -> None:
    assert callable(make)
    (run.path / "server.log").unlink()
    run.path.rmdir()
    (run.path.parent.parent / "secret").write_bytes(SECRET)
    make(run.path)
    assert run.names() == []
    assert run.digest() == {}
    assert run.size("server.log") == 0
    with pytest.raises(Hostile):
        run.read("server.log")
    assert EventLog(run).read() == []


def test_a_symlink_to_a_folder_is_not_listed(run: RunDir, tmp_path: Path) -> None:
    link = RunDir(tmp_path / "link")
    link.path.symlink_to(run.path)
    assert link.names() == []
    with pytest.raises(Hostile):
        link.read("server.log")


def test_what_is_absent_is_empty(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "never")
    assert (run.names(), run.digest(), run.size("x"), run.read("x"), run.read_at("x", 5, 5)) == ([], {}, 0, b"", b"")
    with pytest.raises(FileNotFoundError):
        run.extent("x", 0)


def test_it_is_made_private(run: RunDir) -> None:
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((run.path / "server.log").stat().st_mode) == 0o600


def test_a_sparse_file_of_terabytes_costs_nothing(run: RunDir) -> None:
    with (run.path / "server.log").open("wb") as file:
        file.write(b"head")
        file.truncate(4 * 1024**4)
    assert run.read("server.log", cap=1024) == b"head" + bytes(508) + b"\n" + bytes(512)
    assert run.read_at("server.log", 2, 2) == b"ad"
    assert run.digest() == {"server.log": {"size": 4 * 1024**4, "sha256": None}}
    assert run.extent("server.log", 0)[0] == 0
    start, end = run.extent("server.log", 1024**3)
    assert start == end == 4 * 1024**4


@given(st.binary(max_size=300), st.integers(2, 400), st.integers(0, 310), st.integers(0, 310))
def test_reading(tmp_path_factory: pytest.TempPathFactory, data: bytes, cap: int, offset: int, length: int) -> None:
    run = RunDir(tmp_path_factory.mktemp("run"))
    run.write("x", data)
    assert run.read_at("x", offset, length) == data[offset : offset + length]
    assert run.size("x") == len(data)
    got = run.read("x", cap)
    if len(data) <= cap:
        assert got == data
    else:
        half = cap // 2
        assert got == data[:half] + b"\n" + data[len(data) - half :]
    assert run.digest()["x"] == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_hashing_has_a_budget_for_the_whole_directory(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundir, "HASH_CAP", 100)
    for name, size in (("a", 60), ("b", 60), ("c", 40)):
        run.write(name, bytes(size))
    found = run.digest()
    assert [name for name in "abc" if found[name]["sha256"]] == ["a", "c"]
    assert found["b"] == {"size": 60, "sha256": None}


def test_a_million_names_are_not_looked_at(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundir, "MOST_NAMES", 10)
    for number in range(20):
        (run.path / f"{number}").touch()
    assert len(run.names()) == 10


def test_a_name_that_is_no_text(run: RunDir) -> None:
    os.close(os.open(os.fsencode(run.path) + b"/\xff.log", os.O_CREAT | os.O_WRONLY))
    assert "\udcff.log" in run.names()
    assert run.digest()["\udcff.log"]["size"] == 0


# ------------------------------------------------------------------------------------------------------ events


def log_of(run: RunDir, data: bytes) -> EventLog:
    run.write("events.jsonl", data)
    log = EventLog(run)
    log.read()
    return log


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"event": 3, "at": 1}',
        b'{"event": "end"}',
        b'{"event": "end", "at": "now"}',
        b'{"event": "end", "at": NaN}',
        b'{"event": "end", "at": 1e300}',
        b'{"event": "end", "at": -1}',
        b'{"event": "end", "at": 1, "x": "\\ud800"}',
        b'{"event": "end", "at": 1, "x": ' + b"9" * 5000 + b"}",
        b'{"event": "end", "at": 1, "x": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_lines_that_are_no_event_of_ours_are_passed_over(run: RunDir, line: bytes) -> None:
    log = log_of(run, line + b'\n{"event": "start", "at": 1}\n')
    assert [event["event"] for event in log.seen] == ["start"]
    assert log.lines == [2]


def test_only_complete_lines_are_events(run: RunDir) -> None:
    log = log_of(run, b'{"event": "start", "at": 1}\n{"event": "en')
    assert len(log.seen) == 1
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'd", "at": 2, "exit_code": 0}\n')
    assert log.read() == [{"event": "end", "at": 2, "exit_code": 0}]
    assert log.read() == []
    assert log.lines == [1, 2]
    assert log.last("end") == {"event": "end", "at": 2, "exit_code": 0}
    assert log.last("nothing") is None


def test_a_flood_of_events_is_cut(run: RunDir) -> None:
    log = log_of(run, b'{"event": "x", "at": 1}\n' * (5 * MAX_EVENTS))
    assert MAX_EVENTS <= len(log.seen) < 4 * MAX_EVENTS
    assert log.read() == []


def test_one_endless_line_is_not_kept(run: RunDir) -> None:
    run.write("events.jsonl", b"x" * 5 * 1024**2)
    log = EventLog(run)
    log.read()
    assert len(log._rest) <= 1024**2
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'\n{"event": "end", "at": 1}\n')
    assert [event["event"] for event in log.read()] == ["end"]
