"""The short form of `scripts/chaos`; its schedule is a pure function of the seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from campaigns import Images, site_at
from chaos import DISK, Chaos, judge, schedule, undisturbed
from conftest import disk_of
from dockerd import Dockerd

from isobench_tui.runner import faults

JOBS = 4


def test_the_schedule_is_that_of_its_seed() -> None:
    one = schedule(200, 7, engines=6, drivers=20, freezes=1)
    assert one == schedule(200, 7, engines=6, drivers=20, freezes=1)
    assert one != schedule(200, 8, engines=6, drivers=20, freezes=1)
    kinds = Counter(blow.how for blow in one)
    assert kinds["point"] + kinds["random"] == 200
    assert (kinds["engine"], kinds["driver"], kinds["freeze"]) == (6, 20, 1)
    points = {blow.point for blow in one if blow.how == "point"}
    assert points == {*faults.PHASES, *faults.BETWEEN, *faults.WRITES}, "every point is struck"


@pytest.mark.docker
def test_ten_kills_change_nothing(tmp_path: Path, own_dockerd: Dockerd, images: Images) -> None:
    with site_at(tmp_path / "calm", own_dockerd, images) as calm:
        expected = undisturbed(calm, JOBS)
    assert len(expected) == JOBS
    with site_at(tmp_path / "storm", own_dockerd, images) as site:
        chaos = Chaos(site, schedule(10, 20260101, engines=1, drivers=2, freezes=1), freeze_s=2.0, say=False)
        chaos.run(JOBS)
        judge(expected, chaos)
        assert chaos.fallen == 14


@pytest.mark.docker
def test_a_disk_that_fills_and_empties_changes_nothing(tmp_path: Path, own_dockerd: Dockerd, images: Images) -> None:
    """Database, run directories and temporary files are on it; under some of the fills the runner is killed."""
    blows = schedule(0, 20260102, engines=0, drivers=0, freezes=0, disks=4)
    assert len({blow.after > 1.0 for blow in blows}) == 2, "both kinds"
    with site_at(tmp_path / "calm", own_dockerd, images) as calm:
        expected = undisturbed(calm, JOBS)
    with disk_of(DISK) as disk, site_at(disk.path / "storm", own_dockerd, images) as site:
        chaos = Chaos(site, blows, 0.0, disk, say=False)
        chaos.run(JOBS)
        judge(expected, chaos)
        assert chaos.struck == {"disk": 4}
