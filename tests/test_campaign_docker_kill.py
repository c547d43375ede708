"""The runner is killed in each phase of a real campaign; the next one ends it as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaigns import SERVE, WITHIN, A, B, EngineProxy, Images, Site, check_results, site_at, task
from dockerd import Host, until
from proxy import Proxy

pytestmark = pytest.mark.docker

Outcomes = dict[str, tuple[str, str | None]]


def jobs(site: Site, image: str | None = None, engine: str | None = None) -> Path:
    """Three jobs: a good one that serves, a patch that breaks the server, and one without a server."""
    tasks = [task(A, SERVE, patches={"bad": "breaks-server.diff"}), task(B)]
    return site.campaign(*tasks, arms=["baseline", "agent"], image=image, docker_socket=engine)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, docker_host: Host, images: Images) -> Outcomes:
    """How the campaign ends when nobody is killed."""
    with site_at(tmp_path_factory.mktemp("undisturbed"), docker_host, images) as site:
        site.isobench("run", jobs(site), code=1)
        site.idle()
        assert site.outcomes()["a:bad"] == ("failed", "patch_crash")
        return site.outcomes()


def go_on(site: Site, file: Path, expected: Outcomes) -> None:
    """`isobench run` once more: the same outcomes, each once, and nothing is left."""
    site.isobench("run", file, code=1)
    site.idle()
    assert site.outcomes() == expected
    counted = site.rows("SELECT job_id, sum(counts) AS n FROM attempts GROUP BY job_id")
    assert {row["n"] for row in counted} == {1}
    decided = site.rows("SELECT job_id FROM attempts WHERE outcome IN ('success', 'failed')")
    assert len(decided) == len(expected)
    check_results(site)
    site.assert_nothing_left()


@pytest.mark.parametrize("phase", ["server", "measure"])
def test_killed_while_the_driver_works(site: Site, undisturbed: Outcomes, phase: str) -> None:
    """The container goes on, and the next runner adopts it: no attempt is repeated."""
    file = jobs(site)
    site.shut("measure")
    site.start_to_die(file, f"{phase}:kill")
    assert site.attempts()[0]["phases"][phase] is None
    (container,) = site.containers()
    assert container["State"] == "running"
    site.reached("measure")
    site.open("measure")
    go_on(site, file, undisturbed)
    assert len(site.attempts()) == len(undisturbed)
    assert any("adopted" in text or "ended while no runner" in text for text in site.story())


def test_killed_in_cleanup(site: Site, undisturbed: Outcomes) -> None:
    """The result is stored, its container still there."""
    file = jobs(site)
    site.start_to_die(file, "cleanup:kill")
    assert [row["outcome"] for row in site.attempts()] == ["success"]
    assert [container["State"] for container in site.containers()] == ["exited"]
    go_on(site, file, undisturbed)
    assert len(site.attempts()) == len(undisturbed)


def test_killed_while_the_image_comes(site: Site, undisturbed: Outcomes, slow_registry: Proxy) -> None:
    image = site.images.ref("baseline", slow_registry.port)
    site.images.forget(site.host)
    file = jobs(site, image)
    slow_registry.rate = 1 << 20
    site.start(file)
    site.wait("SELECT value FROM live WHERE key LIKE 'pull/%' AND value ->> 'done' > 0")
    site.kill_runner()
    assert not site.host.has_image(image)
    slow_registry.rate = None
    go_on(site, file, undisturbed)
    first, second = site.attempts()[:2]
    assert (first["outcome"], first["phases"]["image"], first["counts"]) == ("interrupted", "cancelled", 0)
    assert second["job_id"] == first["job_id"]
    assert site.one("SELECT brought_by FROM images") == second["id"]


def test_killed_between_create_and_start(site: Site, undisturbed: Outcomes, slow_engine: EngineProxy) -> None:
    rule = slow_engine.rule(r"^POST .*/containers/\w+/start", "request", times=1)
    file = jobs(site, engine=slow_engine.url)
    site.start(file)
    until(lambda: rule.seen, within=WITHIN, what="the start is on its way")
    assert [container["State"] for container in site.containers()] == ["created"]
    site.kill_runner()
    go_on(site, file, undisturbed)
    first, second = site.attempts()[:2]
    assert (first["outcome"], first["phases"]["start"], first["counts"]) == ("interrupted", "cancelled", 0)
    assert second["job_id"] == first["job_id"]


def test_killed_before_it_heard_of_the_start(site: Site, undisturbed: Outcomes, slow_engine: EngineProxy) -> None:
    """The second container runs, but nobody wrote that down; the first one taught the runner the engine's limits."""
    file = jobs(site, engine=slow_engine.url)
    site.shut("measure")
    site.start(file)
    site.reached("measure")
    slow_engine.rule(r"^POST .*/containers/\w+/start", "answer", times=1)
    (site.gates / "driver.reached").unlink()
    site.open("measure")
    site.reached("driver")
    site.kill_runner()
    assert site.attempts()[1]["handle"] is None
    go_on(site, file, undisturbed)
    assert len(site.attempts()) == len(undisturbed)
    assert site.attempts()[1]["phases"]["start"] == "ok"
    assert site.attempts()[1]["handle"]


def test_killed_before_a_container_was_asked_for(site: Site, undisturbed: Outcomes) -> None:
    file = jobs(site)
    site.start_to_die(file, "start:kill")
    assert site.containers() == []
    go_on(site, file, undisturbed)
    assert site.attempts()[0]["outcome"] == "interrupted"
