"""Operators steer a real campaign: pauses in a pull, stops, skips."""

from __future__ import annotations

import pytest
from campaigns import CPU, SERVE, A, B, EngineProxy, Site, check_results, task
from dockerd import until
from proxy import Proxy

pytestmark = pytest.mark.docker


def test_pause_in_a_pull(site: Site, slow_registry: Proxy) -> None:
    """The pull ends and is kept, nothing is started; after the pause the image is there."""
    ref = site.images.ref("baseline", slow_registry.port)
    site.images.forget(site.host)
    slow_registry.rate = 1 << 20
    site.start(site.campaign(task(A), task(B), image=ref))
    site.wait("SELECT 1 FROM live WHERE key LIKE 'pull/%' AND value ->> 'done' > 0")
    slow_registry.stalled = True
    assert "runs to its end" in site.isobench("pause").stdout
    assert not site.host.has_image(ref)
    slow_registry.stalled, slow_registry.rate = False, None
    site.wait("SELECT 1 FROM attempts WHERE state = 'closed'")
    (attempt,) = site.attempts()
    assert (attempt["outcome"], attempt["counts"], attempt["phases"]["image"]) == ("cancelled", 0, "ok")
    assert "start" not in attempt["phases"]
    assert site.host.has_image(ref)
    assert site.containers() == []
    assert site.outcomes() == {"a:baseline": ("queued", None), "b:baseline": ("queued", None)}
    site.isobench("resume")
    site.idle()
    assert site.outcomes() == {"a:baseline": ("success", None), "b:baseline": ("success", None)}
    assert len([text for text in site.story() if text.startswith("pulling")]) == 1
    assert site.one("SELECT brought_by FROM images") == attempt["id"]
    check_results(site)
    site.assert_nothing_left()


def test_stop_pause_now_and_skip_end_what_runs(site: Site) -> None:
    """A stopped job goes back to the front, a skipped one does not; what is behind it then has its turn."""
    site.shut("measure")
    site.start(site.campaign(task(A, SERVE), task(B)))
    for number, command, state in ((1, "stop", None), (2, "pause --now", "queued"), (3, "skip aaaa", "skipped")):
        site.wait("SELECT 1 FROM attempts WHERE number = ? AND phase = 'measure'", number)
        site.reached("measure")
        (container,) = site.containers()
        assert "measured" not in site.isobench(*command.split(), "--wait").stdout
        site.wait("SELECT 1 FROM attempts WHERE number = ? AND state = 'closed'", number)
        assert not site.host.exists(container["Id"])
        if state:
            assert site.outcomes()["a:baseline"] == (state, None)
        if state == "queued":
            assert site.containers() == []
            assert site.one("SELECT count(*) FROM attempts") == 2
            site.isobench("resume")
    site.open("measure")
    site.idle()
    assert site.outcomes() == {"a:baseline": ("skipped", None), "b:baseline": ("success", None)}
    ends = [(row["outcome"], row["stop"], row["counts"]) for row in site.attempts()]
    assert ends == [
        ("cancelled", "stop", 0),
        ("cancelled", "pause", 0),
        ("cancelled", "skip", 0),
        ("success", None, 1),
    ]
    check_results(site)
    site.assert_nothing_left()


def test_stop_in_a_pull(site: Site, slow_registry: Proxy) -> None:
    ref = site.images.ref("baseline", slow_registry.port)
    site.images.forget(site.host)
    slow_registry.rate = 1 << 20
    site.start(site.campaign(task(A), image=ref))
    site.wait("SELECT 1 FROM live WHERE key LIKE 'pull/%' AND value ->> 'done' > 0")
    slow_registry.stalled = True
    site.isobench("skip", "aaaa", "--wait")
    site.images.check_given_up(site.host, slow_registry, ref)
    site.idle()
    (attempt,) = site.attempts()
    assert (attempt["outcome"], attempt["phases"]["image"]) == ("cancelled", "cancelled")
    assert site.outcomes() == {"a:baseline": ("skipped", None)}
    site.assert_nothing_left()


def test_stop_while_the_engine_creates(site: Site, slow_engine: EngineProxy) -> None:
    """Acknowledged at once; the lane is free when the engine has answered."""
    rule = slow_engine.rule(r"^POST .*/containers/create", "answer", times=1)
    site.start(site.campaign(task(A), docker_socket=slow_engine.url))
    until(lambda: site.host.exists(CPU), what="it is created")
    site.isobench("stop", "aaaa")
    site.wait("SELECT 1 FROM attempts WHERE outcome = 'cancelled'")
    assert site.one("SELECT count(*) FROM attempts") == 1
    rule.release()
    site.idle()
    assert [row["outcome"] for row in site.attempts()] == ["cancelled", "success"]
    assert site.outcomes() == {"a:baseline": ("success", None)}
    site.assert_nothing_left()
