"""The driver on a disk without room: it goes on, and its exit code says that the disk was full."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import disk_of
from disks import MB, SmallDisk
from fakevllm import Run, looks, until

from isobench_tui.engine.job import EXIT_FAILED, EXIT_FULL, EXIT_OK

LONG = "x" * 8192
"""In an argv: no event that names it fits into what is left of a block."""


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with disk_of(64 * MB) as made:
        yield made


@pytest.fixture
def run(tmp_path: Path, disk: SmallDisk) -> Iterator[Run]:
    """The run directory, with what the driver itself prints, is on the disk; the tree is not."""
    made = Run(tmp_path)
    made.dir = disk.path / "run"
    made.dir.mkdir()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def starts(run: Run, *client: str) -> int:
    """Run one client until it waits; the driver's pid."""
    process = run.start(run.trial(*client))
    until(lambda: run.log("client-00.log"))
    return process.pid


def told(run: Run, kind: str) -> list[dict[str, Any]]:
    """The events of a kind that had room."""
    found = []
    for line in run.log("events.jsonl").splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [event for event in found if event["event"] == kind]


@pytest.mark.parametrize("freed", [True, False])
def test_a_client_that_failed_for_want_of_space(run: Run, disk: SmallDisk, freed: bool) -> None:
    """Whether or not there is space again when it ends at last."""
    pid = starts(run, "write")
    disk.fill()
    (run.tree / "go").touch()
    until((run.tree / "failed").exists)
    looks(pid)
    if freed:
        disk.empty()
    (run.tree / "end").touch()
    assert run.process is not None
    assert run.process.wait(60) == EXIT_FULL
    disk.empty()
    if freed:
        (fail,), (end,) = told(run, "fail"), told(run, "end")
        assert (fail["failure"], fail["disk_full"]) == ("client_failed", True)
        assert (end["exit_code"], end["outcome"]) == (EXIT_FULL, "failed")


def test_an_event_without_room_ends_nothing_and_is_told(run: Run, disk: SmallDisk) -> None:
    """Not even where the driver's own words have no room either."""
    starts(run, "quiet", LONG)
    disk.fill()
    (run.tree / "go").touch()
    assert run.process is not None
    assert run.process.wait(60) == EXIT_FULL
    disk.empty()
    assert [event["state"] for event in told(run, "trial")] == ["start"]
    assert told(run, "fail") == []
    assert [event["outcome"] for event in told(run, "end")] == ["ok"]


@pytest.mark.parametrize(("client", "code"), [("fail", EXIT_FAILED), ("ok", EXIT_OK)])
def test_with_room_the_code_is_that_of_the_attempt(run: Run, client: str, code: int) -> None:
    assert run.run(run.trial(client)) == code
