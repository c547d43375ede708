"""Lanes: each sequential, none on another's GPUs or CPUs, one pull for all that wait for the same image."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bench import A, B, Bench, bench_at, task

from isobench_tui.campaign.load import SpecError, load
from isobench_tui.campaign.models import Lane, cpu_ids
from isobench_tui.engine.base import ImageInfo, PullProgress
from isobench_tui.runner.pulls import SharedPulls
from isobench_tui.runner.services import container_name

TWO_CPUS = '[[lanes]]\ncpus = "0"\n[[lanes]]\ncpus = "1"'
IMAGE = ImageInfo("repo:tag", "repo@sha256:1", "sha256:1", None, present=False)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


def _campaign(bench: Bench, lanes: str) -> Path:
    """Two tasks with two repeats each, on these lanes."""
    path = bench.write(campaign='arms = ["baseline"]\nrepeats = 2')
    head = path.read_text().split("[[lanes]]")[0]
    path.write_text(f"{head}{lanes}\n{task(A)}{task(B)}")
    return path


@pytest.mark.parametrize(
    ("lane", "name"),
    [
        (Lane(), "isobench-cpu"),
        (Lane(gpus=("1", "0")), "isobench-gpu-0-1"),
        (Lane(gpus=("0",), cpus="0-7"), "isobench-gpu-0"),
        (Lane(cpus="0-3,8"), "isobench-cpu-0-3_8"),
    ],
)
def test_a_lane_has_a_name_of_its_own(lane: Lane, name: str) -> None:
    assert container_name(lane) == name


def test_cpu_lists_are_read_as_the_kernel_writes_them() -> None:
    assert cpu_ids("0-2,7") == {0, 1, 2, 7}


@pytest.mark.parametrize(
    ("lanes", "complaint"),
    [
        ('[[lanes]]\ngpus = ["0"]\n[[lanes]]\ngpus = ["0"]', "GPU 0 is already in lanes[0]"),
        ('[[lanes]]\ncpus = "0-1"\n[[lanes]]\ncpus = "1-2"', "CPU 1 is already in lanes[0]"),
        ('[[lanes]]\ncpus = "0"\n[[lanes]]\n', "a lane without GPUs and CPUs of its own"),
        ('[[lanes]]\ncpus = "3-1"', "has no CPU in it"),
    ],
)
def test_lanes_that_would_disturb_each_other_are_refused(bench: Bench, lanes: str, complaint: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(_campaign(bench, lanes))
    assert complaint in str(caught.value)


class _SlowEngine:
    """Fetches until the test lets it; everything else of an engine is not asked here."""

    def __init__(self) -> None:
        self.pulls = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def fetch(self, image: ImageInfo, on_progress: Callable[[PullProgress], None]) -> ImageInfo:
        self.pulls += 1
        try:
            on_progress(PullProgress((), 1, 2))
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return replace(image, present=True)


async def _waiting(pulls: SharedPulls, engine: _SlowEngine, ref: str) -> asyncio.Task[tuple[ImageInfo, bool]]:
    task = asyncio.ensure_future(
        pulls.fetch(engine, replace(IMAGE, ref=ref), lambda _: None)  # type: ignore[arg-type]
    )
    await asyncio.sleep(0)
    return task


async def test_two_lanes_wait_for_one_pull_and_only_the_first_brought_the_image() -> None:
    pulls, engine = SharedPulls(), _SlowEngine()
    first, second = await _waiting(pulls, engine, "a:1"), await _waiting(pulls, engine, "b:1")
    engine.go.set()
    assert (await first, await second) == (
        (replace(IMAGE, ref="a:1", present=True), True),
        (replace(IMAGE, ref="b:1", present=True), False),
    )
    assert engine.pulls == 1


async def test_a_pull_goes_on_while_one_lane_waits_and_ends_with_the_last() -> None:
    pulls, engine = SharedPulls(), _SlowEngine()
    first, second = await _waiting(pulls, engine, "a:1"), await _waiting(pulls, engine, "a:1")
    first.cancel()
    await asyncio.wait({first})
    assert not engine.cancelled
    second.cancel()
    third = await _waiting(pulls, engine, "a:1")
    await asyncio.wait({second})
    engine.go.set()
    assert (await third)[0].present
    assert (engine.pulls, engine.cancelled) == (2, 1)


def test_two_lanes_on_two_cpus_share_the_queue_and_never_a_lane(bench: Bench) -> None:
    """The process engine pins each lane's driver; what ran where and when is read from the store."""
    bench.cli("run", _campaign(bench, TWO_CPUS))
    rows = bench.rows("SELECT lane, container, started_at, closed_at FROM attempts ORDER BY lane, started_at")
    assert len(rows) == 4
    assert {(row["lane"], row["container"]) for row in rows} == {(0, "isobench-cpu-0"), (1, "isobench-cpu-1")}
    for before, after in itertools.pairwise(rows):
        if before["lane"] == after["lane"]:
            assert before["closed_at"] <= after["started_at"]
    first, second = ([r for r in rows if r["lane"] == lane] for lane in (0, 1))
    assert first[0]["started_at"] < second[0]["closed_at"]
    assert second[0]["started_at"] < first[0]["closed_at"], "the lanes did not overlap"
