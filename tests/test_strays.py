"""Trees of server and client die with their attempt, whatever they do against it; the next attempt starts clean."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import SERVING, Bench, bench_at, until
from bench import task as small_task
from campaigns import SERVE, A, B, Site
from campaigns import task as real_task
from strays import KINDS, left

EVERYTHING = {f"{who}-{kind}" for who in ("server", "client") for kind in KINDS}
ENDS = ["it ends", "it is skipped", "its driver is killed"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


def seen(folder: Path) -> set[str]:
    """How many strays each server found when it started."""
    return set((folder / "seen").read_text().split())


@pytest.mark.parametrize("how", ENDS)
def test_process_trees_die_with_their_attempt(bench: Bench, how: str) -> None:
    folder, first, second = bench.root / "strays", bench.gate("first"), bench.gate("second")
    folder.mkdir()
    tasks = (small_task(A, SERVING, STRAYS=str(folder), GATE=str(first)), small_task(B, SERVING, GATE=str(second)))
    bench.submit(bench.write(*tasks))
    runner = bench.runner()
    bench.reached(first)
    assert set(left(str(folder)).values()) == EVERYTHING
    match how:
        case "it is skipped":
            bench.cli("skip", "aaaa")
        case "its driver is killed":
            (row,) = bench.rows("SELECT handle FROM attempts")
            os.kill(int(row["handle"].split(":")[0]), signal.SIGKILL)
    first.touch()
    bench.reached(second)
    assert left(str(folder)) == {}
    assert seen(folder) == {"0"}
    second.touch()
    assert runner.wait(timeout=60) == 0, bench.log()
    skipped = how == "it is skipped"
    assert [job["outcome"] for job in bench.jobs().values()] == [None if skipped else "success", "success"]
    bench.assert_nothing_left()


@pytest.mark.docker
@pytest.mark.parametrize("how", ENDS)
def test_containers_die_with_all_that_is_in_them(site: Site, how: str) -> None:
    folder = site.gates / f"strays-{uuid.uuid4()}"  # a name of its own: the container's paths are not the host's
    folder.mkdir()
    inside = f"/gates/{folder.name}"
    site.shut("measure")
    site.start(site.campaign(real_task(A, SERVE, STRAYS=inside), real_task(B, SERVE)))
    site.reached("measure")
    assert set(left(inside).values()) == EVERYTHING
    match how:
        case "it is skipped":
            site.isobench("skip", "aaaa")
        case "its driver is killed":
            (found,) = site.containers()
            os.kill(driver_of(site.host.client.inspect_container(found["Id"])["State"]["Pid"]), signal.SIGKILL)
            site.wait("SELECT 1 FROM attempts WHERE outcome = 'interrupted'")
    if how == "it is skipped":
        (site.gates / "measure.reached").unlink()
    else:
        site.open("measure")
        until(lambda: site.one("SELECT 1 FROM jobs WHERE state = 'done'"), "the first job ends")
        site.shut("measure")
    site.reached("measure")
    assert left(inside) == {}
    assert seen(folder) == {"0"}
    site.open("measure")
    site.idle()
    first = "skipped" if how == "it is skipped" else "success"
    assert site.outcomes() == {"a:baseline": (first, None), "b:baseline": ("success", None)}
    site.assert_nothing_left()


def driver_of(init: int) -> int:
    """The child of a container's init, which is the driver."""
    return int(Path(f"/proc/{init}/task/{init}/children").read_text().split()[0])
