"""Campaigns on GPUs that somebody else uses, that get too hot, that vanish: what the runner sees, says and does."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import A, B, Bench, bench_at, task, until
from fakegpus import FakeGpus

import isobench_tui
from isobench_tui.store import query, samples

SHORT = 'preflight = "2s"\ncleanup = "30s"\ngrace = "500ms"'
"""Half of the time for preflight is spent on waiting for memory."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_at(tmp_path) as made:
        yield made


@pytest.fixture
def gpus(bench: Bench, tmp_path: Path) -> FakeGpus:
    """Two GPUs, seen by every command of the bench; the first one is the lane's."""
    made = FakeGpus(tmp_path, bench.lane, "GPU-00000000-0000-0000-0000-000000000002")
    bench.env.update(made.env)
    return made


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else."""
    child = subprocess.Popen(["sleep", "1000"])
    yield child
    child.kill()
    child.wait()


def _event(bench: Bench, kind: str, *words: str) -> bool:
    found = bench.rows("SELECT text FROM events WHERE kind = ?", kind)
    return any(all(word in row["text"] for word in words) for row in found)


def test_a_busy_gpu_pauses_the_queue_and_names_who_holds_it(
    bench: Bench, gpus: FakeGpus, stranger: subprocess.Popen[bytes]
) -> None:
    gpus.hold(stranger.pid, 40)
    bench.cli("run", bench.write(task(A), timeouts=SHORT), "--detach")
    until(lambda: bench.status()["paused"], "the queue pauses itself")
    paused = bench.status()["paused"]
    assert paused["failure"] == "gpu_busy_leaked"
    assert (
        f"40.0 GiB of GPU {bench.lane} are held by sleep 1000 (pid {stranger.pid}, root, 40.0 GiB)"
        in paused["reason"]
    )
    assert _event(bench, "waiting", f"pid {stranger.pid}"), "it waited before it paused"
    looked = gpus.reads
    until(lambda: gpus.reads > looked + 6, "the runner looks again and again")
    assert len(bench.rows("SELECT id FROM attempts")) == 1, "and spends no attempt on it"
    other = subprocess.Popen(["sleep", "1001"])
    try:
        gpus.hold(other.pid, 41)
        until(lambda: "41.0 GiB" in bench.status()["paused"]["reason"], "the reason follows what is seen")
    finally:
        other.kill()
        other.wait()
    gpus.show(processes=[])
    bench.wait_idle()
    job = bench.jobs()["a:baseline#1"]
    assert (job["outcome"], job["valid"]) == ("success", True)
    assert bench.rows("SELECT counted FROM jobs") == [{"counted": 1}], "the fault was no attempt of the job"
    bench.assert_nothing_left()


def test_a_gpu_of_another_lane_or_a_display_server_is_nobodys_business(
    bench: Bench, gpus: FakeGpus, stranger: subprocess.Popen[bytes]
) -> None:
    drawing = {"pid": stranger.pid, "memory": 2 << 30, "graphics": True}
    gpus.show(0, processes=[drawing])
    gpus.show(1, processes=[{"pid": stranger.pid, "memory": 70 << 30}])
    bench.cli("run", bench.write(task(A), timeouts=SHORT))
    assert bench.outcomes() == {("a:baseline#1", "success True", None)}
    assert not bench.rows("SELECT * FROM flags WHERE name = 'gpu_busy'")


def test_strangers_and_heat_while_it_measures_make_a_result_invalid_once(
    bench: Bench, gpus: FakeGpus, stranger: subprocess.Popen[bytes]
) -> None:
    gate = bench.gate()
    bench.cli("run", bench.write(task(A, GATE=str(gate))), "--detach")
    bench.reached(gate)
    (mine, *_) = bench.family()
    gpus.show(
        sm_clock=1200,
        reasons=0x4 | 0x40,
        processes=[{"pid": mine, "memory": 60 << 30}, {"pid": stranger.pid, "memory": 3 << 30}],
    )
    seen = gpus.reads
    until(lambda: gpus.reads >= seen + 8, "some readings of two GPUs")
    gpus.show(sm_clock=1980, reasons=0, processes=[])
    gate.touch()
    bench.wait_idle()
    flags = {row["name"]: row for row in bench.rows("SELECT * FROM flags WHERE attempt_id LIKE '%-1'")}
    assert flags["gpu_busy"]["effect"] == flags["throttled"]["effect"] == "invalidates"
    assert flags["gpu_busy"]["text"] == f"sleep 1000 ({stranger.pid}) held 3,072 MiB of GPU {bench.lane}", "not ours"
    assert "hw_thermal_slowdown" in flags["throttled"]["text"]
    assert "1,200 of 1,980 MHz" in flags["throttled"]["text"]
    again = bench.rows("SELECT * FROM flags WHERE attempt_id LIKE '%-2' AND name IN ('gpu_busy', 'throttled')")
    assert again == [], "the repeat ran alone"
    assert bench.outcomes() == {("a:baseline#1", "success True", None)}


def test_memory_that_stays_held_after_an_attempt_stops_the_next(
    bench: Bench, gpus: FakeGpus, stranger: subprocess.Popen[bytes]
) -> None:
    gates = [bench.gate("one"), bench.gate("two")]
    path = bench.write(task(A, GATE=str(gates[0])), task(B, GATE=str(gates[1])), timeouts=SHORT)
    bench.cli("run", path, "--detach")
    bench.reached(gates[0])
    gpus.hold(stranger.pid, 8)
    gates[0].touch()
    until(lambda: _event(bench, "waiting", "8.0 GiB", f"pid {stranger.pid}"), "cleanup waits for the memory")
    assert bench.rows("SELECT phase FROM attempts") == [{"phase": "cleanup"}]
    assert bench.jobs()["a:baseline#1"]["outcome"] == "success", "its result stands already"
    gpus.show(processes=[])
    gates[1].touch()
    bench.wait_idle()
    assert {row["outcome"] for row in bench.jobs().values()} == {"success"}
    assert len(bench.rows("SELECT id FROM attempts")) == 2


def test_a_driver_that_vanishes_ends_nothing_and_is_told_once(bench: Bench, gpus: FakeGpus) -> None:
    gpus.write(error="DRIVER_NOT_LOADED")
    bench.cli("run", bench.write(task(A), task(B)))
    assert {row["outcome"] for row in bench.jobs().values()} == {"success"}
    told = bench.rows("SELECT text FROM events WHERE kind = 'gpu'")
    assert len(told) == 1
    assert bench.lane in told[0]["text"]
    assert "not loaded" in told[0]["text"]


def test_the_store_has_the_newest_reading_and_a_history(bench: Bench, gpus: FakeGpus) -> None:
    gate = bench.gate()
    gpus.show(utilization=97, reasons=0x4)
    bench.cli("run", bench.write(task(A, GATE=str(gate))), "--detach")
    bench.reached(gate)
    with contextlib.closing(bench.store()) as connection:
        until(lambda: query.live_machine(connection) is not None, "a reading")
        _, machine = query.live_machine(connection) or pytest.fail("there was one")
        assert [gpu.uuid for gpu in machine.gpus] == [bench.lane, "GPU-00000000-0000-0000-0000-000000000002"]
        assert (machine.gpus[0].utilization, machine.gpus[0].slowed, machine.driver) == (
            97, ("sw_power_cap",), "580.159.04",
        )  # fmt: skip
        assert machine.host.cpus == os.cpu_count()
        assert machine.disks[0].total > machine.disks[0].free > 0
        points = samples.history(connection, "gpu_utilization", bench.lane, span_s=600, points=10)
        assert [point.value for point in points if point] == [97.0]
        assert samples.newest(connection, "gpu_power")[0].total == 700.0
    gate.touch()
    bench.wait_idle()


def test_a_reading_needs_no_workspace(bench: Bench, gpus: FakeGpus, stranger: subprocess.Popen[bytes]) -> None:
    gpus.hold(stranger.pid, 1.5)
    found = json.loads(bench.cli("doctor", "--gpu", "--json").stdout)
    assert (found["driver"], found["note"], len(found["gpus"])) == ("580.159.04", "", 2)
    gpu = found["gpus"][0]
    assert (gpu["power"], gpu["sm_clock_max"], gpu["throttle"]) == (70.707, 1980, ["gpu_idle"])
    assert gpu["processes"][0]["name"] == "sleep 1000"
    assert min(found[key] for key in ("wall_ms", "cpu_ms", "again_wall_ms", "again_cpu_ms")) > 0
    assert found["every_s"] >= 2
    assert found["core_percent"] == pytest.approx(found["again_cpu_ms"] / 10 / found["every_s"], abs=0.01)
    assert not bench.workspace.root.exists()
    shown = bench.cli("doctor", "--gpu").stdout
    assert "driver 580.159.04; the first reading took" in shown
    assert f"pid {stranger.pid}" in shown
    assert "1.5 of 79.6 GiB" in shown


def test_a_reading_needs_no_package_but_pynvml(gpus: FakeGpus) -> None:
    """On a rented machine before anything is installed: -S leaves all packages of this interpreter out."""
    repo = Path(isobench_tui.__file__).parents[1]
    argv = [sys.executable, "-S", "-m", "isobench_tui", "doctor", "--gpu", "--json"]
    done = subprocess.run(argv, cwd=repo, env=gpus.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["gpus"]) == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("LIBRARY_NOT_FOUND", "no NVIDIA driver"),
        ("DRIVER_NOT_LOADED", "not loaded"),
        ("LIB_RM_VERSION_MISMATCH", "upgraded"),
        ("UNKNOWN", "Unknown Error"),
    ],
)
def test_whatever_is_wrong_with_the_driver_is_one_line(bench: Bench, gpus: FakeGpus, error: str, words: str) -> None:
    gpus.write(error=error)
    shown = bench.cli("doctor", "--gpu", code=3).stdout
    assert len(shown.splitlines()) == 1
    assert words in shown


def test_a_lost_gpu_hides_no_other(bench: Bench, gpus: FakeGpus) -> None:
    gpus.show(1, error="GPU_IS_LOST")
    found = json.loads(bench.cli("doctor", "--gpu", "--json").stdout)
    assert [gpu["index"] for gpu in found["gpus"]] == [0]
    assert found["note"] == "GPU 1: GPU is lost"


def test_an_old_driver_and_a_poor_gpu_tell_what_they_can(bench: Bench, gpus: FakeGpus) -> None:
    gpus.write(old=True)
    gpus.show(utilization=None, power_mw=None, power_limit_mw=None, sm_clock=None, reasons=0x800 | 0x8)
    gpu = json.loads(bench.cli("doctor", "--gpu", "--json").stdout)["gpus"][0]
    assert (gpu["utilization"], gpu["power"], gpu["power_limit"], gpu["sm_clock"]) == (None, None, None, None)
    assert gpu["throttle"] == ["hw_slowdown", "reason_0x800"]
    assert bench.cli("doctor", "--gpu").stdout
