"""What the runner does for logs that others write: the time index, and the middle that goes when one is too large."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from isobench_tui.runner.logs import LogKeeper
from isobench_tui.store.rundir import RunDir
from isobench_tui.store.runlogs import INDEX

CAP = 1024**2
BLOCK = 4096


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    found = RunDir(tmp_path / "run")
    found.create(("server.log", "client-00.log"))
    return found


def keeper(run: RunDir, cap: int = CAP) -> LogKeeper:
    return LogKeeper(run, ("server.log", "client-00.log"), cap)


def append(run: RunDir, data: bytes, name: str = "server.log") -> None:
    with (run.path / name).open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def index(run: RunDir, name: str = "server.log") -> list[tuple[float, int]]:
    path = run.path / f"{name}.idx"
    return list(INDEX.iter_unpack(path.read_bytes())) if path.exists() else []


def on_disk(run: RunDir, name: str = "server.log") -> int:
    return (run.path / name).stat().st_blocks * 512


def test_the_index_says_how_long_a_log_was_when(run: RunDir) -> None:
    keep = keeper(run)
    keep.tick()
    assert index(run) == []
    before = time.time()
    for data in (b"one\n", b"two\n", b""):
        append(run, data)
        keep.tick()
    append(run, b"x", "client-00.log")
    keep.tick()
    entries = index(run)
    assert [size for _, size in entries] == [4, 8], "no entry where nothing was written"
    assert before <= entries[0][0] <= entries[1][0] <= time.time()
    assert [size for _, size in index(run, "client-00.log")] == [1]


def test_a_log_over_its_cap_loses_its_middle_and_nothing_else(run: RunDir) -> None:
    keep = keeper(run)
    line = b"%07d " + b"x" * 1015 + b"\n"
    total = 0
    for number in range(8 * 1024):  # 8 MiB
        append_fast(run, line % number)
        total += 1024
        if number % 64 == 63:
            keep.tick()
            assert on_disk(run) <= CAP + 64 * 1024 + 4 * BLOCK
    log = run.path / "server.log"
    assert log.stat().st_size == total == 8 * 1024**2, "offsets stay"
    hole = keep.dropped["server.log"]
    assert CAP // 2 < hole < total
    with log.open("rb") as file:
        assert file.read(8) == b"0000000 "
        file.seek(CAP // 2 - 1024)
        assert file.read(8) == b"%07d " % (CAP // 2 // 1024 - 1), "the head is whole"
        file.seek(CAP // 2 + BLOCK)
        assert file.read(hole - CAP // 2 - 2 * BLOCK).strip(b"\0") == b"", "the middle is gone"
        file.seek(hole)
        assert file.read(8) == b"%07d " % (hole // 1024), "the tail is whole"
    assert run.extent("server.log", CAP // 2 + BLOCK) == (hole // BLOCK * BLOCK, total)
    assert [size for _, size in index(run)][-1] == total


def append_fast(run: RunDir, data: bytes) -> None:
    with (run.path / "server.log").open("ab") as file:
        file.write(data)


def test_a_log_below_its_cap_is_left_alone(run: RunDir) -> None:
    keep = keeper(run)
    append(run, b"x" * CAP)
    keep.tick()
    assert keep.dropped == {}
    append(run, b"x")
    keep.tick()
    assert keep.dropped == {"server.log": CAP + 1 - CAP // 4}


def test_a_new_runner_goes_on_with_a_log_that_has_a_hole(run: RunDir) -> None:
    for _ in range(3):
        append(run, b"x" * 2 * CAP)
        keeper(run).tick()
        assert on_disk(run) <= CAP
    assert len(index(run)) == 3


@pytest.mark.parametrize("hostile", ["symlink", "fifo", "folder"])
def test_measured_code_cannot_end_or_misuse_the_keeper(run: RunDir, tmp_path: Path, hostile: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 3 * CAP)
    for name in ("server.log", "client-00.log.idx"):
        path = run.path / name
        path.unlink(missing_ok=True)
        if hostile == "symlink":
            path.symlink_to(victim)
        elif hostile == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
    append(run, b"x" * 2 * CAP, "client-00.log")
    keep = keeper(run)
    keep.tick()
    keep.tick()
    assert victim.read_bytes() == b"x" * 3 * CAP
    assert victim.stat().st_blocks * 512 >= 3 * CAP
    assert "server.log" not in keep.dropped
    assert "client-00.log" in keep.dropped, "the cap holds also where the index cannot be written"


def test_a_log_that_was_never_written_is_no_trouble(tmp_path: Path) -> None:
    keeper(RunDir(tmp_path / "never")).tick()
