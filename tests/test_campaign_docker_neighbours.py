"""Real campaigns beside others: whose name it is, an engine that goes and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dockerd
import pytest
from campaigns import CPU, SERVE, A, B, Images, Site, check_results, site_at, task
from dockerd import Dockerd, Host

pytestmark = pytest.mark.docker


@pytest.fixture
def neighbour(tmp_path: Path, docker_host: Host, images: Images) -> Iterator[Site]:
    """Another workspace on the same engine."""
    with site_at(tmp_path / "neighbour", docker_host, images) as made:
        yield made


def test_a_name_that_another_workspace_holds(site: Site, neighbour: Site) -> None:
    """The attempt waits and says for whom, longer than `start` may take; neither touches the other's container."""
    neighbour.shut("measure")
    neighbour.start(neighbour.campaign(task(A), name="theirs"))
    neighbour.reached("measure")
    (theirs,) = neighbour.containers()
    uuid = neighbour.one("SELECT value FROM meta WHERE key = 'uuid'")

    file = site.campaign(task(A, SERVE), task(B), timeouts={"start": "5s"})
    site.start(file)
    assert uuid in site.wait("SELECT text FROM events WHERE kind = 'waiting'")
    assert f"held by {uuid}" in site.isobench("status").stdout
    deadline = site.one("SELECT started_at FROM phases WHERE phase = 'start'")
    site.wait("SELECT julianday('now') - julianday(?) > 5.5 / 86400", deadline)
    assert site.attempts()[0]["phases"]["start"] is None

    # A runner that dies and its successor, too, leave the neighbour alone.
    site.kill_runner()
    site.isobench("run", file, "--detach")
    site.wait("SELECT 1 FROM events WHERE kind = 'waiting' AND attempt_id LIKE '%-2'")
    site.isobench("pause")
    site.wait("SELECT 1 FROM attempts WHERE number = 2 AND state = 'closed'")
    assert [container["Id"] for container in neighbour.containers()] == [theirs["Id"]]
    assert neighbour.host.client.inspect_container(CPU)["State"]["Status"] == "running"
    site.isobench("resume")

    neighbour.open("measure")
    site.isobench("run", file)
    site.idle()
    neighbour.idle()
    assert site.outcomes() == {"a:baseline": ("success", None), "b:baseline": ("success", None)}
    assert [row["outcome"] for row in site.attempts()] == ["interrupted", "cancelled", "success", "success"]
    assert neighbour.outcomes() == {"a:baseline": ("success", None)}
    assert [row["outcome"] for row in neighbour.attempts()] == ["success"]
    for one in (site, neighbour):
        check_results(one)
        one.assert_nothing_left()


@pytest.mark.parametrize("how", ["stopped", "crashed", "crashed for longer than a measurement may take"])
def test_an_engine_that_goes_away_and_comes_back(site: Site, own_dockerd: Dockerd, how: str) -> None:
    """Its containers die with it; no attempt is counted, and the queue goes on by itself."""
    site.shut("measure")
    site.start(
        site.campaign(task(A), task(B), timeouts={} if how == "crashed" else {"measure": "30s", "slack": "5s"})
    )
    site.reached("measure")
    try:
        if how == "stopped":
            own_dockerd.stop()
        else:
            own_dockerd.crash()
        if how != "crashed":
            site.wait("SELECT value FROM meta WHERE key = 'breaker'")
            assert "paused itself" in site.isobench("status").stdout
            assert site.isobench("run", site.root / "real.toml", code=3).stderr.startswith("isobench: ")
    finally:
        own_dockerd.start()
    # Docker 28 is gone before it has told how its containers ended, 20.10 is not.
    site.wait("SELECT 1 FROM diagnoses WHERE failure IN ('interrupted', 'engine_error')")
    site.open("measure")
    site.idle()
    assert site.outcomes() == {"a:baseline": ("success", None), "b:baseline": ("success", None)}
    first, *others = site.attempts()
    assert first["counts"] == 0
    assert [(row["outcome"], row["counts"]) for row in others] == [("success", 1)] * 2
    if how == "stopped":
        assert any("the fault is gone" in text for text in site.story())
    check_results(site)
    site.assert_nothing_left()


def test_an_engine_with_live_restore(site: Site, own_dockerd: Dockerd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers outlive it, so nothing is interrupted."""
    program = site.root / "dockerd"
    program.write_text(f'#!/bin/sh\nexec {dockerd.PROGRAM} --live-restore "$@"\n')
    program.chmod(0o755)
    try:
        own_dockerd.stop()
        monkeypatch.setattr(dockerd, "PROGRAM", str(program))
        own_dockerd.start()
        site.shut("measure")
        site.start(site.campaign(task(A, SERVE)))
        site.reached("measure")
        own_dockerd.stop()
        assert site.attempts()[0]["state"] == "open"
        own_dockerd.start()
        site.open("measure")
        site.idle()
        assert site.outcomes() == {"a:baseline": ("success", None)}
        assert len(site.attempts()) == 1
        check_results(site)
        site.assert_nothing_left()
    finally:
        monkeypatch.undo()
        own_dockerd.restart()
