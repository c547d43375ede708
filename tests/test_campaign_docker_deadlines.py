"""A missed deadline in every phase of a real attempt: it is named, the container is gone, the logs are kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from campaigns import CPU, SERVE, WITHIN, A, EngineProxy, Site, check_logs, task
from dockerd import Dockerd, until
from proxy import Proxy

pytestmark = pytest.mark.docker

SLEEP = '[[setup]]\nrun = "echo before; sleep 600"'


def missed(site: Site, phase: str, failure: str = "timeout", *, late: Sequence[str] = ()) -> dict[str, Any]:
    """The one attempt, which missed the deadline of `phase` (and of `late`) alone, and nothing of it is left."""
    site.idle()
    (attempt,) = site.attempts()
    assert (attempt["outcome"], attempt["failure"]) == ("timed_out", failure), site.tell()
    assert attempt["phases"][phase] in {"timed_out", "failed"}
    others = {name: outcome for name, outcome in attempt["phases"].items() if outcome != "ok" and name != phase}
    assert others == dict.fromkeys(late, "timed_out")
    assert site.outcomes() == {"a:baseline": ("timed_out", failure)}
    assert site.isobench("run", code=0).stdout.startswith("nothing is queued")
    check_logs(site, attempt["id"])
    site.assert_nothing_left()
    return attempt


@pytest.mark.parametrize("phase", ["preflight", "collect"])
def test_a_phase_on_the_host(site: Site, phase: str) -> None:
    site.start(site.campaign(task(A), timeouts={phase: "1s"}), faults=f"{phase}:hang")
    assert phase in missed(site, phase)["reason"]


def test_the_image_does_not_come(site: Site, slow_registry: Proxy) -> None:
    ref = site.images.ref("baseline", slow_registry.port)
    site.images.forget(site.host)
    slow_registry.rate = 256 << 10
    site.start(site.campaign(task(A), image=ref, timeouts={"image": "3s"}))
    site.wait("SELECT 1 FROM live WHERE key LIKE 'pull/%' AND value ->> 'done' > 0")
    slow_registry.stalled = True
    assert "image" in missed(site, "image")["reason"]
    site.images.check_given_up(site.host, slow_registry, ref)


@pytest.mark.parametrize("held", ["request", "answer"])
def test_the_engine_is_slow_to_create(site: Site, slow_engine: EngineProxy, held: Any) -> None:
    """Whether the container appears before or after the deadline: the lane waits for it, and it never starts."""
    rule = slow_engine.rule(r"^POST .*/containers/create", held)
    deadlines = {"start": "1500ms", "cleanup": "1500ms"}
    site.start(site.campaign(task(A), docker_socket=slow_engine.url, timeouts=deadlines))
    site.wait("SELECT 1 FROM phases WHERE phase = 'cleanup' AND outcome = 'timed_out'")
    assert site.host.exists(CPU) == (held == "answer")
    assert site.one("SELECT state FROM attempts") == "collected"
    rule.release()
    assert "start" in missed(site, "start", late=["cleanup"])["reason"]
    *_, story = " ".join(site.host.story(CPU)).split("create")
    assert "start" not in story
    assert "destroy" in story


@pytest.fixture(params=["alive", "dead"])
def runner(request: pytest.FixtureRequest) -> str:
    """Whether a runner lives when the driver's deadline comes."""
    return str(request.param)


def overrun(site: Site, file: Path, runner: str, phase: str) -> dict[str, Any]:
    """Run a campaign that hangs in `phase` of the driver; the attempt after its end."""
    site.start(file)
    site.wait("SELECT 1 FROM attempts WHERE phase = ?", phase)
    if runner == "dead":
        site.kill_runner()
        until(lambda: [c["State"] for c in site.containers()] == ["exited"], within=WITHIN, what="the driver ends it")
        (container,) = site.containers()
        assert site.host.client.inspect_container(container["Id"])["State"]["ExitCode"] == 124
        site.isobench("run", file, code=1)
    attempt = missed(site, phase, "server_timeout" if phase == "server" else "timeout")
    assert (attempt["exit_code"], attempt["signal"]) == (124, None)
    return attempt


def test_setup(site: Site, runner: str) -> None:
    attempt = overrun(site, site.campaign(task(A), more=SLEEP, timeouts={"setup": "2s"}), runner, "setup")
    assert "setup" in attempt["reason"]
    assert "before" in (site.workspace.run_dir(attempt["id"]) / "setup.log").read_text()


def test_server(site: Site, runner: str) -> None:
    site.shut("server")
    attempt = overrun(site, site.campaign(task(A, SERVE), timeouts={"server": "2s"}), runner, "server")
    assert "server" in attempt["reason"]


def test_measure(site: Site, runner: str) -> None:
    site.shut("measure")
    attempt = overrun(site, site.campaign(task(A, SERVE), timeouts={"measure": "2s"}), runner, "measure")
    assert "SIMULATED" in (site.workspace.run_dir(attempt["id"]) / "server.log").read_text()


def test_a_client_that_says_nothing(site: Site) -> None:
    site.shut("measure")
    attempt = overrun(site, site.campaign(task(A), timeouts={"stall": "1s"}), "alive", "measure")
    assert "wrote nothing for 1 s" in attempt["reason"]


def test_a_driver_that_stands_still(site: Site, own_dockerd: Dockerd) -> None:
    """It cannot keep its deadlines, so the runner does, a little later."""
    site.shut("measure")
    site.start(site.campaign(task(A, SERVE), timeouts={"measure": "2s", "slack": "1s"}))
    site.reached("measure")
    (container,) = site.containers()
    rows = own_dockerd.client.top(container["Id"], "-eo pid,args")["Processes"]
    (driver,) = [int(pid) for pid, args in rows if args.startswith("python3 -u /isobench/driver.py")]
    os.kill(driver, signal.SIGSTOP)
    site.idle()
    (attempt,) = site.attempts()
    assert (attempt["outcome"], attempt["failure"], attempt["signal"]) == ("timed_out", "timeout", signal.SIGKILL)
    assert "measure" in attempt["reason"]
    check_logs(site, attempt["id"])
    site.assert_nothing_left()


def test_cleanup(site: Site, slow_engine: EngineProxy) -> None:
    """The result was there already; the queue pauses until the engine removes containers again."""
    site.shut("measure")
    site.start(site.campaign(task(A), docker_socket=slow_engine.url, timeouts={"cleanup": "1500ms"}))
    site.reached("measure")
    slow_engine.rule(r"^DELETE .*/containers/", "request", times=1)
    site.open("measure")
    site.wait("SELECT value FROM meta WHERE key = 'breaker'")
    site.idle()
    (attempt,) = site.attempts()
    assert (attempt["outcome"], attempt["phases"]["cleanup"]) == ("success", "timed_out")
    assert any("paused itself" in text and "cleanup" in text for text in site.story())
    check_logs(site, attempt["id"])
    site.assert_nothing_left()
