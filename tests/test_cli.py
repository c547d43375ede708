"""The command line as a user meets it: real processes, small campaigns on the process engine, nothing in between."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import SERVING, A, B, Bench, bench_at, task, until

from isobench_tui.store.clock import stamp

ARMS = 'arms = ["baseline", "agent"]'


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, str]]:
    """A campaign that ran to its end, and what `run` printed: two successes, one failure, one empty patch."""
    with bench_at(tmp_path_factory.mktemp("ended")) as made:
        tasks = task(A, SERVING, patch="faster.diff"), task(B, FAKE="fail"), task("c" * 40, patch="empty.diff")
        done = made.cli("run", made.write(*tasks, campaign=ARMS), code=1)
        made.wait_idle()
        yield made, done.stdout


# ----------------------------------------------------------------------------------------- from run to export


def test_run_follows_to_the_end(ended: tuple[Bench, str]) -> None:
    bench, said = ended
    lines = said.splitlines()
    assert lines[0] == "campaign small: 5 jobs queued"
    assert lines[1].startswith("engine: process Linux")
    assert lines[2] == f"workspace: {bench.workspace.root}"
    assert lines[-1] == "5 jobs: 3 valid, 2 failed"
    assert any("aaaaaaaa:one#1 success" in line for line in lines)
    assert any("queued again: retry after client_failed" in line for line in lines)
    bench.assert_nothing_left()
    assert bench.log() == "", "the runner has nothing to complain of"


def test_results_are_what_the_clients_printed(ended: tuple[Bench, str]) -> None:
    bench, _ = ended
    jobs = bench.jobs()
    assert {name: (job["outcome"], job["valid"], job["failure"]) for name, job in jobs.items()} == {
        "a:baseline#1": ("success", True, None),
        "a:one#1": ("success", True, None),
        "b:baseline#1": ("failed", None, "client_failed"),
        "c:baseline#1": ("success", True, None),
        "c:one#1": ("failed", None, "patch_empty"),
    }
    assert (jobs["a:one#1"]["metric"], jobs["a:one#1"]["value"]) == ("output_throughput", 32.0)
    tries = bench.rows("SELECT job_id, count(*) AS n FROM attempts GROUP BY job_id HAVING n > 1")
    assert [row["n"] for row in tries] == [2], "client_failed is tried twice"
    assert {row["name"] for row in bench.rows("SELECT name FROM metrics")} >= {
        "tokens_per_second",
        "request_throughput",
    }


def test_files_of_a_run_are_private(ended: tuple[Bench, str]) -> None:
    bench, _ = ended
    for path in bench.workspace.root.rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path


def test_status_shows_every_job(ended: tuple[Bench, str]) -> None:
    bench, _ = ended
    text = bench.cli("status").stdout
    assert "campaign small: 5 jobs, 3 valid, 2 failed" in text
    assert "runner   not alive" in text
    assert "nothing is left to do" in text
    assert "FAILED client_failed: the client of trial 0 ended with exit code 1" in text
    found = bench.status()
    assert found["runner"]["alive"] is False
    assert found["campaigns"][0]["jobs"]["left"] == 0
    assert found["disk"][0]["path"] == str(bench.workspace.root)
    assert bench.status("--campaign", "small")["jobs"] == found["jobs"]


def test_export_in_every_format(ended: tuple[Bench, str], tmp_path: Path) -> None:
    bench, _ = ended
    rows = json.loads(bench.cli("export", "--json").stdout)
    assert [row["kind"] for row in rows] == ["result"] * 5 + ["agent"]
    assert [row["outcome"] for row in rows[:5]] == ["success", "success", "failed", "success", "failed"]
    assert rows[0]["metrics"]["output_throughput"] == {"value": 32.0, "unit": "tok/s", "better": "higher"}
    assert json.loads(bench.cli("export", "--format", "json", "--campaign", "small").stdout) == rows
    table = list(csv.DictReader(io.StringIO(bench.cli("export", "--format", "csv").stdout)))
    assert [row["class"] for row in table] == ["", "", "client_failed", "", "patch_empty"]
    assert bench.cli("export").stdout.startswith("## small\n")
    target = tmp_path / "table.md"
    assert bench.cli("export", "-o", target).stderr == f"wrote {target}\n"
    assert target.read_text() == bench.cli("export").stdout


def test_logs_of_an_ended_job(ended: tuple[Bench, str]) -> None:
    bench, _ = ended
    job = bench.jobs()["b:baseline#1"]["id"]
    text = bench.cli("logs", "bbbb").stdout
    assert text.splitlines()[0] == f"== {job}-2"
    assert "client-00 | RuntimeError: broken on purpose" in text
    assert bench.cli("logs", "bbbb", "--attempt", "1").stdout.splitlines()[0] == f"== {job}-1"
    lines = [json.loads(line) for line in bench.cli("logs", "aaaa:one", "--json").stdout.splitlines()]
    order = list(dict.fromkeys(line["file"] for line in lines))
    assert order[-2:] == ["server.log", "client-00.log"], "in the order of the phases"
    assert {"file": "server.log", "line": 1, "text": "SIMULATED server"} in lines
    only = bench.cli("logs", "aaaa:one", "--file", "server").stdout
    assert only.splitlines()[1] == "server    | SIMULATED server"
    assert "client" not in only
    assert bench.cli("logs", "aaaa:one", "--file", "server.log").stdout == only
    several = bench.cli("logs", "aaaa")
    assert several.stderr.startswith("isobench: 2 jobs match, showing j")


def test_attach_to_a_campaign_that_has_ended_says_how_it_came_out(ended: tuple[Bench, str]) -> None:
    bench, _ = ended
    assert bench.cli("attach", code=1).stdout == "5 jobs: 3 valid, 2 failed\n"
    assert bench.cli("attach", "--campaign", "small", code=1).stdout == "5 jobs: 3 valid, 2 failed\n"


def test_running_it_again_changes_nothing(ended: tuple[Bench, str]) -> None:
    bench, _ = ended
    before = bench.rows("SELECT * FROM attempts")
    said = bench.cli("run", bench.root / "campaign.toml", code=1).stdout
    assert said.startswith("campaign small: 0 jobs queued, 5 unchanged\n")
    assert bench.cli("run").stdout == "nothing is queued here; give a campaign file\n"
    assert bench.rows("SELECT * FROM attempts") == before
    assert not bench.workspace.locked(), "no runner is started for nothing"


def test_a_snapshot_reads_like_the_original(ended: tuple[Bench, str]) -> None:
    bench, _ = ended
    target = bench.root / "copy"
    run_dir = bench.workspace.run_dir(bench.jobs()["a:one#1"]["attempt"])
    (run_dir / "link").symlink_to("/etc/passwd")
    os.mkfifo(run_dir / "fifo")
    with (run_dir / "sparse").open("wb") as file:
        file.truncate(1024**4)
        file.seek(5 * 1024**2)
        file.write(b"data")
    said = bench.cli("snapshot", target).stdout
    assert said.startswith("copied 6 attempts, ")
    copy = {"ISOBENCH_WORKSPACE": str(target)}
    for argv in (("status",), ("export", "--json"), ("logs", "aaaa:one"), ("attach",)):
        code = 1 if argv == ("attach",) else 0
        mine, theirs = bench.cli(*argv, code=code).stdout, bench.cli(*argv, code=code, env=copy).stdout
        assert mine == theirs
    copied = target / "runs" / run_dir.name
    assert not (copied / "link").is_symlink()
    assert not (copied / "link").exists()
    assert not (copied / "fifo").exists()
    assert (copied / "sparse").stat().st_size == 1024**4
    assert (copied / "sparse").stat().st_blocks * 512 < 1024**2
    with (copied / "sparse").open("rb") as file:
        file.seek(5 * 1024**2)
        assert file.read(5) == b"data\0"
    assert stat.S_IMODE((target / "isobench.db").stat().st_mode) == 0o600


def test_all_valid_is_0(bench: Bench) -> None:
    said = bench.cli("run", bench.write(task(A)), code=0).stdout
    assert said.endswith("1 job: 1 valid\n")


# -------------------------------------------------------------------------------------------------- plan


def test_plan_prints_what_would_run_and_starts_nothing(bench: Bench) -> None:
    path = bench.write(task(A, SERVING, patch="faster.diff"), campaign=ARMS)
    text = bench.cli("plan", path).stdout
    assert "--model" in text
    assert "vllm.entrypoints.openai.api_server" in text
    found = json.loads(bench.cli("plan", path, "--json").stdout)
    assert [job["arm"] for job in found["jobs"]] == ["baseline", "agent"]
    assert not bench.workspace.root.exists()


# ------------------------------------------------------------------------------------- detach, attach, two at once


def test_ctrl_c_detaches_and_the_campaign_goes_on(bench: Bench) -> None:
    gate = bench.gate()
    run = bench.start("run", bench.write(task(A, GATE=str(gate)), task(B)))
    bench.reached(gate)
    runner = bench.status()["runner"]["pid"]
    run.interrupt()
    assert "detached; the campaign goes on. `isobench attach` comes back\n" in run.ends(130)
    assert bench.workspace.holder() == runner
    attach = bench.start("attach")
    watching = bench.start("attach", "--campaign", "small")
    run = bench.start("run", bench.root / "campaign.toml")
    run.says("campaign small: 0 jobs queued, 2 unchanged")
    until(lambda: "runs" in bench.cli("pause").stdout, "a pause that is accepted")
    attach.says("pausing the queue")
    watching.interrupt()
    watching.ends(130)
    bench.cli("resume")
    gate.touch()
    assert attach.ends(0).endswith("2 jobs: 2 valid\n")
    assert run.ends(0).endswith("2 jobs: 2 valid\n")
    bench.wait_idle()
    bench.assert_nothing_left()


def test_detach_returns_with_a_runner_alive(bench: Bench) -> None:
    gate = bench.gate()
    said = bench.cli("run", bench.write(task(A, GATE=str(gate))), "--detach").stdout
    assert said.endswith("the runner works on; `isobench attach` follows it\n")
    assert bench.workspace.locked()
    elsewhere = bench.cli("run", "--detach", "--workspace", bench.workspace.root, env={"ISOBENCH_WORKSPACE": ""})
    assert f"isobench attach --workspace {bench.workspace.root}" in elsewhere.stdout
    bench.reached(gate)
    until(lambda: bench.status()["running"][0]["phase"] == "measure", "the runner has read what the driver says")
    found = bench.status()
    assert found["runner"]["state"] == "running"
    (now,) = found["running"]
    assert (now["commit"], now["repeat"]) == (A, 1)
    assert 0 <= now["phase_s"] < now["deadline_s"] == 30
    text = bench.cli("status").stdout
    assert "now      aaaaaaaa:baseline#1 measure" in text
    gate.touch()
    assert bench.cli("attach").stdout.endswith("1 job: 1 valid\n")


def test_a_file_that_is_edited_while_it_runs(bench: Bench) -> None:
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate)), task(B)), "--detach")
    bench.reached(gate)
    said = bench.cli("run", bench.write(task("c" * 40)), "--detach").stdout
    assert "1 job queued, 1 skipped (no longer in the campaign file)" in said
    gate.touch()
    assert bench.cli("attach").stdout.endswith("3 jobs: 2 valid, 1 skipped\n")
    assert bench.jobs()["a:baseline#1"]["outcome"] == "success", "what ran ended under its old spec"


def test_runs_that_start_at_once_share_one_runner(bench: Bench) -> None:
    path = bench.write(task(A), task(B))
    started = [bench.start("run", path) for _ in range(3)]
    for one in started:
        assert one.ends(0).endswith("2 jobs: 2 valid\n")
    assert len(bench.rows("SELECT id FROM attempts")) == 2
    bench.wait_idle()
    bench.assert_nothing_left()


def test_two_campaigns_run_one_after_the_other(bench: Bench) -> None:
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate)), task(B)), "--detach")
    later = bench.start("run", bench.write(task(A), name="later", file="later.toml"))
    later.says("campaign later: 1 job queued")
    gate.touch()
    assert later.ends(0).endswith("1 job: 1 valid\n")
    order = bench.rows(
        "SELECT c.name FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN campaigns c ON c.id = j.campaign_id "
        "ORDER BY a.started_at"
    )
    assert [row["name"] for row in order] == ["small", "small", "later"]
    assert bench.cli("attach", "--campaign", "small").stdout == "2 jobs: 2 valid\n"


# ------------------------------------------------------------------------------------------------- steering


def running(bench: Bench, *tasks: str) -> Path:
    """Start a campaign whose first job waits at a gate, and wait until it does and the runner has said so."""
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate)), *tasks), "--detach")
    bench.reached(gate)
    until(lambda: "#1 measure" in bench.cli("status").stdout, "that the runner sees it")
    return gate


def test_pause_lets_a_measurement_end_and_starts_nothing_new(bench: Bench) -> None:
    gate = running(bench, task(B))
    assert bench.cli("pause").stdout == "pausing the queue: aaaaaaaa:baseline runs to its end\n"
    assert "pausing by" in bench.cli("status").stdout
    waiting = bench.start("pause", "--wait")
    gate.touch()
    waiting.ends(0)
    assert bench.jobs()["a:baseline#1"]["outcome"] == "success"
    assert bench.jobs()["b:baseline#1"]["state"] == "queued"
    assert "paused by" in bench.cli("status").stdout
    assert bench.status()["paused"]["kind"] == "pause"
    assert bench.cli("resume").stdout == "resumed the queue\n"
    assert bench.cli("attach").stdout.endswith("2 jobs: 2 valid\n")


def test_pause_now_stops_and_the_job_is_the_first_to_go_on(bench: Bench) -> None:
    gate = running(bench, task(B))
    assert "back to the front of the queue" in bench.cli("pause", "--now", "--wait").stdout
    assert bench.family() == {}
    found = bench.jobs()
    assert list(found) == ["a:baseline#1", "b:baseline#1"]
    assert found["a:baseline#1"]["state"] == "queued"
    gate.touch()
    bench.cli("resume")
    assert bench.cli("attach").stdout.endswith("2 jobs: 2 valid\n")
    outcomes = [row["outcome"] for row in bench.rows("SELECT outcome FROM attempts ORDER BY started_at")]
    assert outcomes == ["cancelled", "success", "success"]
    assert [row["counts"] for row in bench.rows("SELECT counts FROM attempts ORDER BY started_at")] == [0, 1, 1]


def test_stop_skip_and_cancel_of_what_runs(bench: Bench) -> None:
    gate = running(bench, task(B))
    Path(f"{gate}.reached").unlink()
    assert bench.cli("stop", "--wait").stdout.startswith("stopping aaaaaaaa:baseline")
    bench.reached(gate)
    began = time.monotonic()
    assert bench.cli("skip", "aaaa").stdout == "skipped 0 jobs, cancelling aaaaaaaa:baseline\n"
    until(lambda: bench.jobs()["a:baseline#1"]["state"] == "skipped", "the skip")
    assert bench.jobs()["a:baseline#1"]["reason"] == "skipped while it ran"
    assert time.monotonic() - began < 60
    assert bench.cli("attach").stdout.endswith("2 jobs: 1 valid, 1 skipped\n")
    bench.wait_idle()
    assert "no runner is alive: `isobench run` goes on" in bench.cli("retry", "aaaa").stdout
    Path(f"{gate}.reached").unlink()
    bench.cli("run", "--detach")
    bench.reached(gate)
    assert bench.cli("cancel", "small", "--wait").stdout == (
        "cancelled campaign small: 0 jobs skipped, cancelling aaaaaaaa:baseline\n"
    )
    assert bench.jobs()["a:baseline#1"]["state"] == "skipped"
    assert "(cancelled)" in bench.cli("status").stdout
    bench.wait_idle()
    bench.assert_nothing_left()


def test_the_queue_is_edited_while_it_runs(bench: Bench) -> None:
    gate = running(bench, task(B, FAKE="fail"), task("c" * 40), task("d" * 40), task("e" * 40))
    assert bench.cli("hold", "cccc").stdout == "held 1 job: cccccccc:baseline\n"
    bench.cli("move", "eeee", "--first")
    bench.cli("move", "dddd", "--after", "eeee")
    assert list(bench.jobs()) == ["e:baseline#1", "d:baseline#1", "a:baseline#1", "b:baseline#1", "c:baseline#1"]
    bench.cli("skip", "dddd")
    gate.touch()
    said = bench.cli("attach", code=1).stdout
    assert said.endswith("5 jobs: 2 valid, 1 failed, 1 skipped, 1 held\n")
    told = " ".join(row["text"] for row in bench.rows("SELECT text FROM events WHERE kind = 'started' ORDER BY id"))
    assert told.index("eeeeeeee:baseline#1 attempt 1") < told.index("bbbbbbbb:baseline#1 attempt 1")
    bench.wait_idle()
    assert "held by" in bench.cli("status").stdout
    bench.cli("release", "cccc")
    bench.cli("retry", "--failed")
    assert bench.cli("run", code=1).stdout.endswith("5 jobs: 3 valid, 1 failed, 1 skipped\n")
    assert len(bench.rows("SELECT id FROM attempts WHERE outcome = 'failed'")) == 4


def test_pause_of_one_campaign_lets_the_other_run(bench: Bench) -> None:
    bench.submit(bench.write(task(A)))
    bench.submit(bench.write(task(B), name="later", file="later.toml"))
    bench.cli("pause", "--campaign", "small")
    bench.cli("run", "--detach")
    assert bench.cli("attach", "--campaign", "later").stdout.endswith("1 job: 1 valid\n")
    assert [row["state"] for row in bench.rows("SELECT state FROM jobs ORDER BY campaign_id")] == ["queued", "done"]
    assert "campaign small (paused)" in bench.cli("status").stdout
    bench.cli("resume", "--campaign", "small")
    assert bench.cli("attach").stdout.endswith("2 jobs: 2 valid\n")


# ------------------------------------------------------------------------------------------------- shutdown


def test_shutdown_ends_the_runner_after_the_attempt_and_run_says_so(bench: Bench) -> None:
    gate = bench.gate()
    run = bench.start("run", bench.write(task(A, GATE=str(gate)), task(B)))
    bench.reached(gate)
    assert bench.cli("shutdown").stdout == "the runner ends after aaaaaaaa:baseline\n"
    waiting = bench.start("shutdown", "--wait")
    gate.touch()
    waiting.ends(0)
    assert not bench.workspace.locked()
    assert run.ends(130).endswith("the runner was shut down; `isobench run` goes on\n")
    assert [job["state"] for job in bench.jobs().values()] == ["done", "queued"]
    assert "not alive" in bench.cli("status").stdout
    assert bench.cli("shutdown").stdout == "no runner is alive in this workspace\n"
    assert bench.cli("run").stdout.endswith("2 jobs: 2 valid\n")


def test_shutdown_now_leaves_the_attempt_to_the_next_runner(bench: Bench) -> None:
    gate = running(bench, task(B))
    before = bench.family()
    assert before
    assert "the next `isobench run` adopts it" in bench.cli("shutdown", "--now", "--wait").stdout
    assert not bench.workspace.locked()
    assert bench.family() == before, "the measurement goes on"
    text = bench.cli("status").stdout
    assert "now      aaaaaaaa:baseline#1 measure" in text
    gate.touch()
    said = bench.cli("run").stdout
    assert said.endswith("2 jobs: 2 valid\n")
    assert len(bench.rows("SELECT id FROM attempts")) == 2, "nothing was measured twice"
    bench.wait_idle()
    bench.assert_nothing_left()


def test_shutdown_at_starts_nothing_that_would_overrun(bench: Bench) -> None:
    gate = running(bench, task(B))
    # longer ahead than the next tick, nearer than the attempt that waits at the gate
    said = bench.cli("shutdown", "--at", stamp(time.time() + 1)).stdout
    assert "starts nothing that would overrun it" in said
    until(lambda: time.time() > bench_time(bench), "the time of the shutdown")
    gate.touch()
    bench.wait_idle()
    assert [job["state"] for job in bench.jobs().values()] == ["done", "queued"]


def bench_time(bench: Bench) -> float:
    """When `shutdown --at` was told to end the runner."""
    from isobench_tui.store.clock import seconds

    (row,) = bench.rows("SELECT value FROM meta WHERE key = 'shutdown'")
    return seconds(json.loads(row["value"])["at"])


def test_sigterm_ends_the_runner_and_leaves_the_attempt(bench: Bench) -> None:
    gate = running(bench)
    before = bench.family()
    pid = bench.workspace.holder()
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    bench.wait_idle()
    assert bench.family() == before
    assert bench.log() == ""
    gate.touch()
    assert bench.cli("run").stdout.endswith("1 job: 1 valid\n")
    assert len(bench.rows("SELECT id FROM attempts")) == 1


def test_a_follower_replaces_a_runner_that_was_killed(bench: Bench) -> None:
    gate = bench.gate()
    run = bench.start("run", bench.write(task(A, GATE=str(gate))))
    bench.reached(gate)
    pid = bench.workspace.holder()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: bench.workspace.holder() not in {None, pid}, "another runner")
    gate.touch()
    assert run.ends(0).endswith("1 job: 1 valid\n")
    assert "adopted: it is still running" in run.out


# --------------------------------------------------------------------------------------------------- the demo


def test_a_snapshot_of_a_running_workspace_is_sound(bench: Bench) -> None:
    gate = running(bench, task(B))
    target = bench.root / "copy"
    bench.cli("snapshot", target)
    copy = {"ISOBENCH_WORKSPACE": str(target)}
    assert "now      aaaaaaaa:baseline#1" in bench.cli("status", env=copy).stdout
    assert json.loads(bench.cli("status", "--json", env=copy).stdout)["runner"]["alive"] is False
    with sqlite3.connect(target / "isobench.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    gate.touch()
    bench.cli("attach")


def test_the_demo_starts_stops_and_leaves_nothing(bench: Bench) -> None:
    scratch = bench.root / "demo"
    demo = bench.start("demo", "--workspace", scratch)
    demo.says("attempt 1")
    demo.interrupt()
    said = demo.ends(130)
    assert "SIMULATED" in said
    assert "detached" not in said
    bench.workspace = type(bench.workspace)(scratch)
    bench.wait_idle()
    bench.assert_nothing_left()
