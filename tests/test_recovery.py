"""The runner dies or hangs at every point of an attempt: the same results, nothing twice, nothing left.

On the process engine; the same with containers is elsewhere.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import SERVING, A, B, Bench, bench_at, task, until

from isobench_tui.engine import procs

C, D = "c" * 40, "d" * 40
POINTS = ["preflight", "image", "start", "setup", "server", "measure", "collect", "collected", "cleanup"]
HOST = ["preflight", "image", "start", "setup", "server", "measure", "collect", "cleanup"]

Outcomes = set[tuple[str, str, str | None]]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


def campaign(bench: Bench) -> Path:
    return bench.write(task(A, SERVING), task(B, FAKE="fail"), limits="max_attempts = 1")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    with bench_at(tmp_path_factory.mktemp("undisturbed")) as made:
        made.cli("run", campaign(made), code=1)
        yield made.outcomes()


def killed(bench: Bench, faults: str) -> None:
    """A runner that dies by the fault."""
    assert bench.runner(faults).wait(timeout=60) == -signal.SIGKILL, bench.log()
    assert not bench.workspace.locked()


def phases(bench: Bench, attempt: str) -> list[str]:
    return [row["phase"] for row in bench.rows("SELECT phase FROM phases WHERE attempt_id = ? ORDER BY seq", attempt)]


# --------------------------------------------------------------------------------------------- kills


@pytest.mark.parametrize("point", POINTS)
def test_a_runner_killed_anywhere_changes_no_result(bench: Bench, undisturbed: Outcomes, point: str) -> None:
    bench.submit(campaign(bench))
    killed(bench, f"{point}:kill")
    assert bench.cli("run", code=1).stdout.endswith("2 jobs: 1 valid, 1 failed\n")
    assert bench.outcomes() == undisturbed
    tries = bench.rows("SELECT id, outcome, counts FROM attempts ORDER BY started_at")
    lost = [row["outcome"] for row in tries if not row["counts"]]
    assert lost == (["interrupted"] if point in {"preflight", "image", "start"} else [])
    assert len(tries) == 2 + len(lost), "each job ran once"
    for row in tries:
        if row["counts"]:
            seen = phases(bench, row["id"])
            driver = [phase for phase in seen if phase in {"setup", "server", "measure"}]
            assert len(driver) == len(set(driver)), seen
            assert seen[:3] == ["preflight", "image", "start"]
            assert seen[-1] == "cleanup"
    for table in ("trials", "diagnoses"):
        assert len(bench.rows(f"SELECT attempt_id FROM {table}")) <= len(tries) + 1
    bench.wait_idle()
    bench.assert_nothing_left()
    assert "Traceback" not in bench.log()


def test_killed_in_the_last_cleanup_there_is_still_something_to_do(bench: Bench) -> None:
    bench.submit(bench.write(task(A)))
    killed(bench, "cleanup:kill")
    assert bench.jobs()["a:baseline#1"]["outcome"] == "success"
    assert list(bench.workspace.trees.iterdir()), "the copy of the tree is still there"
    assert bench.cli("run").stdout.endswith("1 job: 1 valid\n")
    bench.wait_idle()
    bench.assert_nothing_left()


def test_an_attempt_that_still_runs_is_adopted(bench: Bench) -> None:
    gate = bench.gate()
    bench.submit(bench.write(task(A, SERVING, GATE=str(gate))))
    killed(bench, "measure:kill")
    bench.reached(gate)
    before = bench.family()
    run = bench.start("run")
    run.says("adopted: it is still running")
    assert bench.family() == before
    gate.touch()
    assert run.ends(0).endswith("1 job: 1 valid\n")
    (row,) = bench.rows("SELECT id FROM attempts")
    assert phases(bench, row["id"]) == [
        "preflight",
        "image",
        "start",
        "setup",
        "server",
        "measure",
        "collect",
        "cleanup",
    ]
    assert all(row["outcome"] == "ok" for row in bench.rows("SELECT outcome FROM phases"))
    bench.wait_idle()
    bench.assert_nothing_left()


def test_an_attempt_that_ended_alone_is_collected(bench: Bench) -> None:
    gate = bench.gate()
    bench.submit(bench.write(task(A, GATE=str(gate))))
    killed(bench, "measure:kill")
    gate.touch()
    until(lambda: not bench.family(), "the driver's end")
    assert bench.jobs()["a:baseline#1"]["state"] == "running"
    said = bench.cli("run").stdout
    assert "it ended while no runner was alive, collecting" in said
    assert said.endswith("1 job: 1 valid\n")
    assert len(bench.rows("SELECT id FROM attempts")) == 1


def test_an_attempt_that_is_stopped_while_no_runner_lives(bench: Bench) -> None:
    gate = bench.gate()
    bench.submit(bench.write(task(A, GATE=str(gate)), task(B)))
    killed(bench, "measure:kill")
    bench.reached(gate)
    assert bench.cli("skip", "aaaa").stdout.startswith("skipped 0 jobs, cancelling aaaaaaaa:baseline\n")
    assert bench.family(), "nobody is there to do it yet"
    assert bench.cli("run").stdout.endswith("2 jobs: 1 valid, 1 skipped\n")
    bench.wait_idle()
    bench.assert_nothing_left()


def test_a_driver_that_died_with_its_runner_is_an_interruption(bench: Bench) -> None:
    gate = bench.gate()
    bench.submit(bench.write(task(A, GATE=str(gate))))
    killed(bench, "measure:kill")
    bench.reached(gate)
    for attempt in set(bench.family().values()):
        procs.kill(attempt)
    gate.touch()
    assert bench.cli("run").stdout.endswith("1 job: 1 valid\n")
    outcomes = [row["outcome"] for row in bench.rows("SELECT outcome FROM attempts ORDER BY number")]
    assert outcomes == ["interrupted", "success"]
    bench.wait_idle()
    bench.assert_nothing_left()


def test_a_driver_that_somebody_kills_is_an_interruption(bench: Bench) -> None:
    gate = bench.gate()
    bench.submit(bench.write(task(A, GATE=str(gate)), limits="max_attempts = 1"))
    runner = bench.runner()
    bench.reached(gate)
    (row,) = bench.rows("SELECT handle FROM attempts")
    os.kill(int(row["handle"].split(":")[0]), signal.SIGKILL)
    gate.touch()
    assert runner.wait(timeout=60) == 0, bench.log()
    outcomes = [row["outcome"] for row in bench.rows("SELECT outcome FROM attempts ORDER BY number")]
    assert outcomes == ["interrupted", "success"]
    bench.assert_nothing_left()


def test_three_interruptions_hold_the_job(bench: Bench) -> None:
    bench.submit(bench.write(task(A), task(B)))
    for _ in range(3):
        killed(bench, "image:kill")
    assert bench.cli("run", code=1).stdout.endswith("2 jobs: 1 valid, 1 held\n")
    job = bench.jobs()["a:baseline#1"]
    assert (job["state"], job["reason"]) == ("held", "interrupted 3 times; `isobench release` lets it run")
    assert len(bench.rows("SELECT id FROM attempts WHERE outcome = 'interrupted'")) == 3
    bench.cli("release", "aaaa")
    assert bench.cli("run").stdout.endswith("2 jobs: 2 valid\n")
    bench.wait_idle()
    bench.assert_nothing_left()


def test_a_second_runner_is_refused(bench: Bench) -> None:
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate))), "--detach")
    bench.reached(gate)
    first = bench.workspace.holder()
    assert bench.runner().wait(timeout=60) == 5
    assert bench.log() == f"another runner holds this workspace: isobench runner, pid {first}\n"
    assert bench.workspace.holder() == first
    gate.touch()
    assert bench.cli("attach").stdout.endswith("1 job: 1 valid\n")


def test_an_orphan_is_removed_and_another_workspace_is_not_touched(bench: Bench, tmp_path: Path) -> None:
    gate = bench.gate()
    with bench_at(tmp_path / "neighbour") as neighbour:
        theirs = neighbour.gate()
        neighbour.cli("run", neighbour.write(task(A, GATE=str(theirs))), "--detach")
        bench.submit(bench.write(task(A, GATE=str(gate)), task(B)))
        killed(bench, "measure:kill")
        bench.reached(gate)
        neighbour.reached(theirs)
        before = neighbour.family()
        with bench.store() as connection:  # as if its end had been written and its removal forgotten
            connection.execute(
                "UPDATE attempts SET state = 'closed', outcome = 'interrupted', closed_at = started_at"
            )
            connection.execute("UPDATE jobs SET state = 'skipped' WHERE state = 'running'")
            connection.execute("UPDATE phases SET ended_at = started_at")
            connection.execute("DELETE FROM live WHERE attempt_id IS NOT NULL")
        connection.close()
        assert bench.family()
        said = bench.cli("run").stdout
        assert "it belongs to no unfinished attempt" in said
        assert said.endswith("2 jobs: 1 valid, 1 skipped\n")
        bench.wait_idle()
        bench.assert_nothing_left()
        assert neighbour.family() == before
        theirs.touch()
        assert neighbour.cli("attach").stdout.endswith("1 job: 1 valid\n")


# ------------------------------------------------------------------------------------------------- deadlines

SHORT = "slack = '10s'\ngrace = '300ms'\n"


@pytest.mark.parametrize("phase", ["preflight", "image", "start", "collect"])
def test_a_deadline_missed_by_the_runner_itself(bench: Bench, phase: str) -> None:
    bench.submit(bench.write(task(A), timeouts=SHORT + f"{phase} = '300ms'", limits="max_attempts = 1"))
    assert bench.runner(f"{phase}:hang").wait(timeout=60) == 0, bench.log()
    job = bench.jobs()["a:baseline#1"]
    assert (job["outcome"], job["failure"]) == ("timed_out", "timeout")
    assert job["reason"] == f"{phase} took longer than its deadline of 0.3 s"
    (row,) = bench.rows("SELECT outcome FROM phases WHERE phase = ?", phase)
    assert row["outcome"] == "timed_out"
    bench.assert_nothing_left()


def test_a_missed_deadline_is_tried_again(bench: Bench) -> None:
    bench.submit(bench.write(task(A), timeouts=SHORT + "start = '500ms'"))
    assert bench.runner("start:hang-once").wait(timeout=60) == 0, bench.log()
    outcomes = [row["outcome"] for row in bench.rows("SELECT outcome FROM attempts ORDER BY number")]
    assert outcomes == ["timed_out", "success"]


def test_a_cleanup_that_hangs_is_tried_until_it_is_done(bench: Bench) -> None:
    bench.submit(bench.write(task(A), timeouts=SHORT + "cleanup = '500ms'"))
    assert bench.runner("cleanup:hang-once").wait(timeout=60) == 0, bench.log()
    assert bench.jobs()["a:baseline#1"]["outcome"] == "success", "the result was stored before"
    (row,) = bench.rows("SELECT outcome FROM phases WHERE phase = 'cleanup'")
    assert row["outcome"] == "timed_out"
    assert bench.rows("SELECT 1 FROM events WHERE kind = 'paused' AND text LIKE '%cleanup of %timed out%'")
    bench.assert_nothing_left()


DRIVER = [
    ("setup", {}, "[[setup]]\nrun = 'sleep 600'\n", "timeout"),
    ("server", {"FAKE": "server-hang"}, "", "server_timeout"),
    ("measure", {"FAKE": "hang"}, "", "timeout"),
    ("stall", {"FAKE": "silent"}, "", "timeout"),
]


def hanging(bench: Bench, phase: str, env: dict[str, str], extra: str) -> None:
    path = bench.write(
        task(A, SERVING, **env), timeouts=SHORT + f"{phase} = '1s'", limits="max_attempts = 1", name="small"
    )
    path.write_text(path.read_text() + extra)
    bench.submit(path)


def assert_timed_out(bench: Bench, phase: str, failure: str) -> None:
    job = bench.jobs()["a:baseline#1"]
    assert (job["outcome"], job["failure"]) == ("timed_out", failure)
    where = "measure" if phase == "stall" else phase
    seen = {row["phase"]: row["outcome"] for row in bench.rows("SELECT phase, outcome FROM phases")}
    assert seen[where] == "failed"
    assert seen["collect"] == seen["cleanup"] == "ok"
    (attempt,) = bench.rows("SELECT exit_code, files FROM attempts")
    assert attempt["exit_code"] == 124
    assert "events.jsonl" in attempt["files"]
    bench.assert_nothing_left()


@pytest.mark.parametrize(("phase", "env", "extra", "failure"), DRIVER, ids=[row[0] for row in DRIVER])
def test_a_deadline_missed_by_what_is_measured(
    bench: Bench, phase: str, env: dict[str, str], extra: str, failure: str
) -> None:
    hanging(bench, phase, env, extra)
    assert bench.runner().wait(timeout=60) == 0, bench.log()
    assert_timed_out(bench, phase, failure)
    if phase == "measure":
        assert "still at it" in bench.cli("logs", "aaaa").stdout, "the log is kept"


@pytest.mark.parametrize(("phase", "env", "extra", "failure"), DRIVER, ids=[row[0] for row in DRIVER])
def test_a_deadline_missed_while_no_runner_lives(
    bench: Bench, phase: str, env: dict[str, str], extra: str, failure: str
) -> None:
    hanging(bench, phase, env, extra)
    killed(bench, "setup:kill")
    until(lambda: not bench.family(), "the driver ends it alone")
    assert bench.cli("run", code=1).stdout.endswith("1 job: 1 failed\n")
    bench.wait_idle()
    assert_timed_out(bench, phase, failure)


def test_a_driver_that_cannot_keep_its_deadline_is_ended_by_the_runner(bench: Bench) -> None:
    gate = bench.gate()
    limits = "measure = '1s'\nslack = '1s'\ngrace = '200ms'"
    bench.submit(bench.write(task(A, GATE=str(gate)), timeouts=limits, limits="max_attempts = 1"))
    runner = bench.runner()
    bench.reached(gate)
    (row,) = bench.rows("SELECT handle FROM attempts")
    os.kill(int(row["handle"].split(":")[0]), signal.SIGSTOP)
    assert runner.wait(timeout=60) == 0, bench.log()
    job = bench.jobs()["a:baseline#1"]
    assert (job["outcome"], job["failure"]) == ("timed_out", "timeout")
    assert "measure" in job["reason"]
    bench.assert_nothing_left()


# ---------------------------------------------------------------------------------------- what code may leave


@pytest.mark.parametrize(("fake", "result"), [("escape", "1 valid"), ("escape-alone", "1 held")])
def test_a_child_that_escaped_is_ended(bench: Bench, fake: str, result: str) -> None:
    """Code that kills its own driver looks like a driver that somebody killed: interrupted three times, then held."""
    path = bench.write(task(A, FAKE=fake), limits="max_attempts = 1")
    assert bench.cli("run", path, code=None).stdout.endswith(f"1 job: {result}\n")
    bench.wait_idle()
    bench.assert_nothing_left()


@pytest.mark.parametrize("what", ["events", "replaced", "removed"])
def test_a_hostile_run_directory_ends_no_runner(bench: Bench, what: str) -> None:
    victim = bench.root / "victim"
    victim.write_text("mine")
    path = bench.write(task(A, FAKE=f"hostile-{what}", VICTIM=str(victim)), task(B), limits="max_attempts = 1")
    said = bench.cli("run", path, code=None).stdout
    assert said.splitlines()[-1].startswith("2 jobs: ")
    assert bench.jobs()["b:baseline#1"]["outcome"] == "success"
    assert bench.jobs()["a:baseline#1"]["state"] == "done"
    assert victim.read_text() == "mine"
    bench.wait_idle()
    assert bench.log() == ""
    assert bench.family() == {}
    assert bench.rows("SELECT id FROM attempts WHERE state != 'closed'") == []


# ------------------------------------------------------------------------------------------- the queue pauses itself


def test_a_fault_of_the_machine_pauses_is_probed_and_burns_no_job(bench: Bench) -> None:
    bench.submit(bench.write(task(A), task(B)))
    bench.workspace.trees.write_text("in the way")
    run = bench.start("run")
    run.says("the queue paused itself: engine_error")
    assert "queue    paused itself" in bench.cli("status").stdout
    bench.workspace.trees.unlink()
    assert run.ends(0).endswith("2 jobs: 2 valid\n")
    assert "the fault is gone, the queue goes on" in run.out
    outcomes = [(row["outcome"], row["counts"]) for row in bench.rows("SELECT * FROM attempts ORDER BY started_at")]
    assert outcomes == [("failed", 0), ("success", 1), ("success", 1)]


def test_the_same_failure_over_three_tasks_waits_for_the_operator(bench: Bench) -> None:
    bad = [task(commit, FAKE="fail") for commit in (A, B, C)]
    run = bench.start("run", bench.write(*bad, task(D), limits="max_attempts = 1"))
    run.says("3 different tasks running failed with it")
    found = bench.status()
    assert found["paused"]["failure"] == "client_failed"
    assert bench.jobs()["d:baseline#1"]["state"] == "queued"
    bench.cli("resume")
    assert run.ends(1).endswith("4 jobs: 1 valid, 3 failed\n")
