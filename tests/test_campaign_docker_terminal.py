"""A campaign in real containers whose terminal dies, and that other terminals steer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from campaigns import SERVE, WITHIN, A, B, C, Site, check_results, task
from terminal import terminal

pytestmark = pytest.mark.docker


def test_six_jobs_outlive_their_terminal(site: Site) -> None:
    """Another one pauses, skips a commit, retries one of its jobs, resumes: nothing is lost, nothing done twice."""
    file = site.campaign(
        task(A, SERVE, patches={"one": "breaks-server.diff"}),
        task(B, patches={"one": "faster-block-table.diff"}),
        task(C, patches={"one": "faster-schedule.diff"}),
        arms=["baseline", "agent"],
    )
    site.shut("measure")
    with terminal(site.env, "run", file, columns=80, rows=24) as window:
        site.reached("measure")
        window.shows("aaaaaaaa:baseline#1", "measure")
        runner = site.runner()
        window.hang_up()
        assert window.process.wait(WITHIN) == 130
    assert site.runner() == runner
    assert os.getsid(runner) == runner
    assert str(Path(f"/proc/{runner}/fd/0").readlink()) == os.devnull

    assert "aaaaaaaa:baseline runs to its end" in site.isobench("pause").stdout
    assert "skipped 2 jobs" in site.isobench("skip", C[:8]).stdout
    site.open("measure")
    site.wait("SELECT count(*) FROM attempts WHERE state = 'closed'")
    assert "paused by" in site.isobench("status").stdout
    assert "queued 1 job again" in site.isobench("retry", f"{C[:8]}:baseline").stdout
    assert site.one("SELECT count(*) FROM attempts") == 1
    assert site.containers() == []
    site.isobench("resume")
    said = site.isobench("attach", code=1).stdout
    assert "6 jobs: 4 valid, 1 failed, 1 skipped" in said
    site.idle()

    assert site.outcomes() == {
        "a:baseline": ("success", None),
        "a:one": ("failed", "patch_crash"),
        "b:baseline": ("success", None),
        "b:one": ("success", None),
        "c:baseline": ("success", None),
        "c:one": ("skipped", None),
    }
    assert [row["number"] for row in site.attempts()] == [1] * 5
    assert {row["phases"]["cleanup"] for row in site.attempts()} == {"ok"}
    check_results(site)
    assert site.export()["c:one"]["state"] == "skipped"
    site.assert_nothing_left()
