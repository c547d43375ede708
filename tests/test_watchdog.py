"""The runner's own troubles are told: a loop that does not turn, a thread that stands, a phase that does not end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import A, B, Bench, bench_at, task, until
from dockerd import eventually

from isobench_tui.runner import watchdog
from isobench_tui.runner.watchdog import Limits, Watchdog
from isobench_tui.store import db, live

QUICK = Limits(look=0.05, still=0.5, jump=10.0, stuck=0.5, over=0.0)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(watchdog, "PHASES_EVERY", 1)
    with bench_at(tmp_path) as made:
        made.submit(made.write(task(A)))
        yield made


def told(bench: Bench) -> list[str]:
    return [row["text"] for row in bench.rows("SELECT text FROM events WHERE kind = 'watchdog' ORDER BY id")]


async def hears(bench: Bench, words: str) -> None:
    await eventually(lambda: any(words in text for text in told(bench)), words)


async def test_a_loop_that_does_not_turn(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    async with Watchdog(bench.workspace, QUICK).watching():
        await asyncio.sleep(0)
        until(lambda: any("loop has not turned" in text for text in told(bench)), "it is told while it lasts")
        looks = threading.Event()
        until(lambda: not looks.wait(10 * QUICK.look), "more looks")
        assert len([text for text in told(bench) if "loop has not turned" in text]) == 1, "once"
    assert "test_a_loop_that_does_not_turn" in capfd.readouterr().err, "with the stacks"


async def test_it_watches_on_where_its_log_takes_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(sys, "stderr", open(full, "w", buffering=1, closefd=False))  # noqa: ASYNC230, SIM115
    async with Watchdog(bench.workspace, QUICK).watching():
        await asyncio.sleep(0)
        until(lambda: any("loop has not turned" in text for text in told(bench)), "it is told in the store")
        assert "watchdog" in {thread.name for thread in threading.enumerate()}
    monkeypatch.undo()
    os.close(full)


async def test_a_thread_that_stands(bench: Bench) -> None:
    release = threading.Event()

    def stand() -> None:
        while not release.is_set():  # not in one of the places where idle threads wait
            time.sleep(60 if not release.is_set() else 0)

    async with Watchdog(bench.workspace, QUICK).watching():
        idle = asyncio.to_thread(time.sleep, 0)
        await idle
        thread = threading.Thread(target=stand, name="stands-still", daemon=True)
        thread.start()
        await hears(bench, "thread stands-still has stood in")
        release.set()
    assert not any("asyncio_" in text for text in told(bench)), "an idle worker is none"


async def test_a_phase_beyond_its_deadline(bench: Bench) -> None:
    attempt = bench.begin("a:baseline#1")
    with bench.store() as connection, db.transaction(connection):
        live.put(connection, f"phase/{attempt}", live.LivePhase("cleanup", "2026-01-01T00:00:00.000Z", 60.0), attempt)
    async with Watchdog(bench.workspace, QUICK).watching():
        await hears(bench, "over its deadline in cleanup")


def test_a_runner_that_was_stopped_for_a_while(bench: Bench) -> None:
    """kill -STOP: the campaign goes on as if nothing had been, and the gap is told."""
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate))), "--detach")
    bench.reached(gate)
    pid = bench.workspace.holder()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    gate.touch()
    time.sleep(Limits().still + 3)  # the gap itself is what is tested
    os.kill(pid, signal.SIGCONT)
    bench.wait_idle()
    assert bench.rows("SELECT outcome, valid FROM jobs WHERE state = 'done'") == [{"outcome": "success", "valid": 1}]
    assert len(bench.rows("SELECT id FROM attempts")) == 1
    assert any("stood still for 1" in text for text in told(bench))
    bench.assert_nothing_left()


def test_time_for_which_the_runner_stood_still_is_no_phases(bench: Bench) -> None:
    """A runner that is stopped for longer than the deadline of the phase it is in: nothing is late."""
    stops = ("start", "collect", "cleanup")
    bench.submit(bench.write(task(B), name="stops", timeouts="\n".join(f"{phase} = '4s'" for phase in stops)))
    runner = bench.runner(",".join(f"{phase}:stop@2" for phase in stops))  # the second job's
    for _ in stops:
        until(lambda: "State:\tT" in Path(f"/proc/{runner.pid}/status").read_text(), "it has stopped")
        time.sleep(6)  # the gap itself is what is tested
        runner.send_signal(signal.SIGCONT)
    assert runner.wait(60) == 0, bench.log()
    assert {row["outcome"] for row in bench.rows("SELECT outcome FROM phases")} == {"ok"}
    assert bench.rows("SELECT outcome, counts FROM attempts") == [{"outcome": "success", "counts": 1}] * 2
    bench.assert_nothing_left()
