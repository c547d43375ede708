"""Lanes on one engine: each sequential and on its own CPUs, one pull for both, and nobody else's CPUs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaigns import A, B, C, EngineProxy, Images, Site, site_at, task
from dockerd import Host, until

pytestmark = pytest.mark.docker

TWO = '[[lanes]]\ncpus = "0"\n[[lanes]]\ncpus = "1"'


@pytest.fixture
def neighbour(tmp_path: Path, docker_host: Host, images: Images) -> Iterator[Site]:
    """Another workspace on the same engine."""
    with site_at(tmp_path / "neighbour", docker_host, images) as made:
        yield made


def test_two_lanes_share_one_pull_and_never_a_lane(
    site: Site, slow_engine: EngineProxy, images: Images, docker_host: Host
) -> None:
    images.forget(docker_host)
    pull = slow_engine.rule(r"POST \S*/images/create", "request")
    file = site.campaign(task(A), task(B), task(C), docker_socket=slow_engine.url, more=TWO)
    site.start(file)
    site.wait("SELECT count(*) = 2 FROM attempts WHERE state = 'open' AND phase = 'image'")
    until(lambda: pull.seen > 0, what="the pull is asked for")
    pull.release()
    site.isobench("run", file)
    site.idle()

    rows = site.rows("SELECT * FROM attempts ORDER BY lane, started_at")
    assert [row["outcome"] for row in rows] == ["success"] * 3
    assert {(row["lane"], row["container"]) for row in rows} == {(0, "isobench-cpu-0"), (1, "isobench-cpu-1")}
    for before, after in itertools.pairwise(rows):
        assert before["lane"] != after["lane"] or before["closed_at"] <= after["started_at"]
    for row in rows:
        seen = json.loads((site.workspace.run_dir(row["id"]) / "inspect.json").read_text())
        assert seen["HostConfig"]["CpusetCpus"] == str(row["lane"])
    assert pull.seen == 1
    assert [row["brought_by"] in {r["id"] for r in rows} for row in site.rows("SELECT * FROM images")] == [True]
    site.assert_nothing_left()


def test_overlapping_cpus_of_another_workspace_are_waited_for(site: Site, neighbour: Site) -> None:
    """The names differ, so only the labels tell."""
    neighbour.shut("measure")
    neighbour.start(neighbour.campaign(task(A), name="theirs", more='[[lanes]]\ncpus = "0-1"'))
    neighbour.reached("measure")
    uuid = neighbour.one("SELECT value FROM meta WHERE key = 'uuid'")

    file = site.campaign(task(A), task(B), task(C), more=TWO)
    site.start(file)
    site.wait("SELECT count(*) = 2 FROM events WHERE kind = 'waiting'")
    told = site.rows("SELECT text FROM events WHERE kind = 'waiting'")
    assert all(f"isobench-cpu-0-1, held by {uuid}" in row["text"] for row in told)
    assert site.containers() == []

    neighbour.open("measure")
    site.isobench("run", file)
    neighbour.idle()
    site.idle()
    assert [row["outcome"] for row in site.attempts()] == ["success"] * 3
    for one in (site, neighbour):
        one.assert_nothing_left()
