"""A campaign in real containers whose terminal dies, and that other terminals steer."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import sys
from pathlib import Path

import pytest
from campaigns import SERVE, WITHIN, A, B, C, Site, check_results, task
from dockerd import until

pytestmark = pytest.mark.docker

LEADER = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored in whatever nohup started
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes its standard input the controlling terminal of a session of its own, as a login does, and runs a command."""


class Terminal:
    """A terminal with `isobench …` in it."""

    def __init__(self, site: Site, *argv: str | Path) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self._said = b""
        command = [sys.executable, "-c", LEADER, sys.executable, "-m", "isobench_tui", *argv]
        self.child = site.popen(command, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)

    def said(self) -> str:
        """All that was printed up to now."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._master, 4096):
                self._said += data
        return self._said.decode(errors="replace")

    def hang_up(self) -> int:
        """What a lost connection does: no terminal any more, SIGHUP to the command. Returns how that ended."""
        os.close(self._master)
        return self.child.wait(WITHIN)


def test_six_jobs_outlive_their_terminal(site: Site) -> None:
    """Another one pauses, skips a commit, retries one of its jobs, resumes: nothing is lost, nothing done twice."""
    file = site.campaign(
        task(A, SERVE, patches={"one": "breaks-server.diff"}),
        task(B, patches={"one": "faster-block-table.diff"}),
        task(C, patches={"one": "faster-schedule.diff"}),
        arms=["baseline", "agent"],
    )
    site.shut("measure")
    terminal = Terminal(site, "run", file)
    site.reached("measure")
    until(lambda: "aaaaaaaa:baseline#1 measure" in terminal.said(), within=WITHIN, what=terminal.said())
    runner = site.runner()
    assert terminal.hang_up() in {-signal.SIGHUP, 130}  # 130: it wrote to the dead terminal before the signal came
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
