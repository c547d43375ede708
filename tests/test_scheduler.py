"""What the runner starts next, on which lane, and who has to wait."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import A, B, Bench, bench_at, task, until

from isobench_tui.runner import scheduler
from isobench_tui.store import db
from isobench_tui.store.clock import stamp

C = "c" * 40


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


@pytest.fixture
def queued(bench: Bench) -> Bench:
    bench.submit(bench.write(task(A), task(B), task(C)))
    return bench


def take(bench: Bench, lane: int = 0) -> str | None:
    """Digit of the commit whose job the scheduler starts next on a lane."""
    with contextlib.closing(bench.store()) as connection, db.transaction(connection):
        order = scheduler._take(connection, lane)
    return None if order is None else order.spec.commit[0]


def test_jobs_start_in_the_order_of_the_queue(queued: Bench) -> None:
    queued.submit(queued.write(task(A), name="later", file="later.toml"))
    queued.command("move", "cccc", to="first", after=None)
    queued.command("hold", "aaaa", campaign="small")
    assert [take(queued), take(queued), take(queued), take(queued)] == ["c", "b", "a", None]
    assert queued.states()["a:baseline#1"] == "held"
    assert queued.states()["later/a:baseline#1"] == "running"


def test_nothing_starts_while_the_queue_or_its_campaign_is_paused(queued: Bench) -> None:
    queued.submit(queued.write(task("d" * 40), name="later", file="later.toml"))
    queued.command("pause")
    assert take(queued) is None
    queued.command("resume")
    queued.command("pause", campaign="small")
    assert take(queued) == "d"
    assert take(queued) is None
    queued.command("resume", campaign="small")
    queued.command("cancel", campaign="small")
    assert take(queued) is None


def test_a_lane_that_the_campaign_lacks_gets_nothing(queued: Bench) -> None:
    assert take(queued, lane=1) is None
    assert take(queued, lane=0) == "a"


def closed(bench: Bench, name: str, took: float) -> None:
    """An attempt that took so many seconds."""
    attempt = bench.begin(name)
    now = time.time()
    with contextlib.closing(bench.store()) as connection, db.transaction(connection):
        connection.execute(
            "UPDATE attempts SET state = 'closed', outcome = 'success', started_at = ?, closed_at = ? WHERE id = ?",
            (stamp(now - took), stamp(now), attempt),
        )
        connection.execute("UPDATE jobs SET state = 'done', outcome = 'success' WHERE id = ?", (bench.id(name),))


def test_before_a_shutdown_only_what_fits_is_started(queued: Bench) -> None:
    closed(queued, "a:baseline#1", took=600)
    queued.command("shutdown", at=stamp(time.time() + 500))
    assert take(queued) is None
    queued.command("shutdown", at=stamp(time.time() + 700))
    assert take(queued) == "b"
    queued.command("shutdown")
    assert take(queued) is None, "after `shutdown` nothing starts at all"


def test_an_order_to_end_of_the_last_runner_is_not_the_next_ones(queued: Bench) -> None:
    queued.command("shutdown")
    assert queued.cli("run").stdout.endswith("3 jobs: 3 valid\n")


def test_lanes_work_side_by_side(bench: Bench) -> None:
    gates = {commit: bench.gate(commit[0]) for commit in (A, B, C)}
    other = f"{bench.lane}-2"
    path = bench.write(
        *(task(commit, GATE=str(gate)) for commit, gate in gates.items()),
        lanes=f'"{bench.lane}"]\n[[lanes]]\ngpus = ["{other}"',
    )
    bench.cli("run", path, "--detach")
    bench.reached(gates[A])
    bench.reached(gates[B])
    found = bench.status()["running"]
    assert [(now["commit"][0], now["lane"]) for now in found] == [("a", 0), ("b", 1)]
    gates[B].touch()
    bench.reached(gates[C])
    assert [(now["commit"][0], now["lane"]) for now in bench.status()["running"]] == [("a", 0), ("c", 1)]
    gates[A].touch()
    gates[C].touch()
    assert bench.cli("attach").stdout.endswith("3 jobs: 3 valid\n")
    bench.wait_idle()
    bench.assert_nothing_left()


def test_two_workspaces_share_the_gpus_of_a_host(bench: Bench, tmp_path: Path) -> None:
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate))), "--detach")
    bench.reached(gate)
    with bench_at(tmp_path / "second") as second:
        run = second.start("run", second.write(task(A), task(B), lanes=f'"{bench.lane}"'))
        run.says(f"waiting for isobench-gpu-{bench.lane}, held by ")
        until(lambda: "waiting for" in second.cli("status").stdout, "the wait in status")
        second.cli("skip", "aaaa", "--wait")
        assert second.jobs()["a:baseline#1"]["state"] == "skipped", "who waits can be skipped"
        gate.touch()
        assert run.ends(0).endswith("2 jobs: 1 valid, 1 skipped\n")
        assert bench.cli("attach").stdout.endswith("1 job: 1 valid\n")
        second.wait_idle()
        second.assert_nothing_left()
