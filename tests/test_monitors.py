"""What the monitors make of a reading: whose a process is, what counts as slowed down, how /proc is read."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import FOREVER, Lab
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.engine import procs
from isobench_tui.results.facts import ForeignProcess
from isobench_tui.runner.monitors import gate, gpu, host
from isobench_tui.runner.monitors.gpu import GpuWatch, of_lane
from isobench_tui.runner.monitors.nvml import GpuReading, NoGpus, reason_names
from isobench_tui.runner.monitors.owners import Owners
from isobench_tui.runner.monitors.window import GpuWindow
from isobench_tui.store.live import LiveGpu, LiveProcess

GPU = LiveGpu(
    index=0,
    uuid="GPU-1",
    name="a GPU",
    memory_used=0,
    memory_total=80 << 30,
    utilization=0,
    temperature=30,
    sm_clock=1980,
    sm_clock_max=1980,
    power=70.0,
    power_limit=700.0,
)


def holding(*processes: LiveProcess) -> LiveGpu:
    return replace(GPU, memory_used=sum(one.memory or 0 for one in processes), processes=processes)


def process(pid: int, gib: float = 1.0, **fields: object) -> LiveProcess:
    made = LiveProcess(pid, f"program {pid}", "somebody", int(gib * 2**30))
    return replace(made, **fields)  # type: ignore[arg-type]


class Source:
    """Readings as a test wants them."""

    def __init__(self, *readings: GpuReading | NoGpus | threading.Event) -> None:
        self.readings: list[GpuReading | NoGpus | threading.Event] = list(readings)

    def read(self) -> GpuReading:
        found = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(found, threading.Event):
            found.wait()
            raise NoGpus("woken")
        if isinstance(found, NoGpus):
            raise found
        return found

    def close(self) -> None: ...


# --------------------------------------------------------------------------------------------------------- reading


def test_a_driver_that_hangs_is_left_alone_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "LIMIT_S", 0.05)
    stuck = threading.Event()
    source = Source(stuck, GpuReading("1", (GPU,)))

    async def play() -> None:
        watch = GpuWatch(source)
        with pytest.raises(NoGpus, match="does not answer in"):
            await watch.read()
        with pytest.raises(NoGpus, match="has not answered for"):
            await watch.read()
        assert len(source.readings) == 1, "no second call was begun"
        stuck.set()
        while True:
            try:
                assert (await watch.read()).gpus == (GPU,)
                return
            except NoGpus:
                await asyncio.sleep(0.01)

    asyncio.run(play())


@pytest.mark.parametrize(("cost", "rest"), [(0.0, 2.0), (0.0004, 2.0), (0.03, 10.0)])
def test_expensive_readings_are_made_more_seldom(cost: float, rest: float) -> None:
    assert GpuWatch(Source(), cost_s=cost).rest(2.0) == pytest.approx(rest)


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0, []),
        (0x1, ["gpu_idle"]),
        (0x4 | 0x8 | 0x80, ["sw_power_cap", "hw_slowdown", "hw_power_brake_slowdown"]),
        (0x20 | 0x40, ["sw_thermal_slowdown", "hw_thermal_slowdown"]),
        (0x2 | 0x10 | 0x100, ["applications_clocks_setting", "sync_boost", "display_clock_setting"]),
        (1 << 20, ["reason_0x100000"]),
    ],
)
def test_throttle_reasons_have_the_names_of_nvml(bits: int, names: list[str]) -> None:
    assert list(reason_names(bits)) == names


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_every_bit_has_a_name_of_its_own(bits: int) -> None:
    names = list(reason_names(bits))
    assert len(set(names)) == len(names) == bits.bit_count()


def test_idle_and_chosen_clocks_are_no_slowdown() -> None:
    shown = replace(GPU, throttle=tuple(reason_names(0x7FF)))
    assert shown.slowed == (
        "sw_power_cap", "hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown",
        "board_limit", "reliability",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ids", "found"),
    [(("0",), {"0": 0}), (("GPU-2", "0"), {"GPU-2": 1, "0": 0}), (("7", "MIG-1"), {}), ((), {})],
)
def test_a_lane_names_gpus_by_index_or_uuid(ids: Sequence[str], found: dict[str, int]) -> None:
    two = (GPU, replace(GPU, index=1, uuid="GPU-2"))
    assert {name: one.index for name, one in of_lane(two, ids).items()} == found


# -------------------------------------------------------------------------------------------------- whose it is


def test_a_process_is_known_by_its_mark_its_command_and_its_user() -> None:
    child = subprocess.Popen(["sleep", "1000"], env={**os.environ, procs.MARK: "a-1"})
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    try:
        owners = Owners()
        raw = [LiveProcess(pid, "", "", 5, visible=False) for pid in (child.pid, os.getpid(), gone.pid)]
        for _ in range(2):  # the second time from memory
            (named,) = owners.name([holding(*raw)])
            mine, own, lost = named.processes
            assert (mine.name, mine.attempt, mine.ours, mine.visible, mine.memory) == (
                "sleep 1000",
                "a-1",
                True,
                True,
                5,
            )
            assert (own.attempt, own.ours, own.visible) == (None, False, True)
            assert lost == raw[2], "nobody can say whose it was"
    finally:
        child.kill()
        child.wait()


@pytest.mark.docker
async def test_a_process_in_a_container_of_ours_is_ours(lab: Lab) -> None:
    engine, spec = lab.engine(), lab.spec(FOREVER)
    handle = await engine.launch(spec)
    state = (await engine.inspect(handle))["State"]
    assert isinstance(state, dict)
    raw = holding(LiveProcess(int(state["Pid"]), "", "", 1, visible=False))
    owners = Owners()
    (before,) = owners.name([raw])
    assert before.processes[0].attempt is None, "its environment has no mark: only the driver's children carry it"
    owners.containers[handle.id] = spec.attempt
    (after,) = owners.name([raw])
    assert after.processes[0].attempt == spec.attempt
    await engine.remove(handle)


# ----------------------------------------------------------------------------------------------- free or held


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (GPU, ""),
        (holding(process(7, 0.5)), ""),
        (
            holding(process(7, 3, attempt="a-1"), process(8, 40)),
            "43.0 GiB of GPU 0 are held by program 8 (pid 8, somebody, 40.0 GiB), "
            "program 7 (pid 7, somebody, 3.0 GiB, attempt a-1)",
        ),
        (holding(process(7, 3, graphics=True)), ""),
        (
            replace(GPU, memory_used=2 << 30),
            "2.0 GiB of GPU 0 are held by no process that can be seen from here",
        ),
        (
            replace(GPU, memory_used=2 << 30, processes=(LiveProcess(9, "", "", None, visible=False),)),
            "2.0 GiB of GPU 0 are held by a process (pid 9)",
        ),
    ],
)
def test_whoever_holds_a_gpu_is_named(shown: LiveGpu, words: str) -> None:
    assert gate.held("0", shown) == words


# ------------------------------------------------------------------------------------------- while it measures


def window(*readings: tuple[float, LiveGpu], rest: float = 2.0) -> GpuWindow:
    made = GpuWindow(GpuWatch(Source()), "a-1", ("0",))
    for at, shown in readings:
        made.take((shown, replace(GPU, index=1, uuid="GPU-2", throttle=("hw_slowdown",))), at, rest)
    return made


def test_a_reading_stands_for_the_time_since_the_one_before() -> None:
    hot = replace(GPU, sm_clock=1200, throttle=("hw_thermal_slowdown", "gpu_idle"))
    facts = window((10, hot), (12, hot), (14, GPU), (16.5, hot)).facts()
    assert facts is not None
    (one,) = facts.gpus
    assert (one.gpu, one.watched_s, one.clock_mhz, one.max_clock_mhz) == ("0", 6.5, 1200, 1980)
    assert one.throttled_s == {"hw_thermal_slowdown": 4.5}


def test_a_gap_is_not_told_as_watched() -> None:
    facts = window((0, GPU), (2, GPU), (100, GPU)).facts()
    assert facts is not None
    assert facts.gpus[0].watched_s == 2 + 4


def test_only_strangers_that_compute_and_can_be_seen_are_foreign() -> None:
    facts = window(
        (0, holding(process(1, attempt="a-1"), process(2, 2), process(3, graphics=True), process(4, visible=False))),
        (2, holding(process(2, 1), process(5, attempt="an-older-1"))),
    ).facts()
    assert facts is not None
    assert facts.gpus[0].foreign == (
        ForeignProcess(2, "program 2", 2 << 30),
        ForeignProcess(5, "program 5", 1 << 30),
    )


def test_a_lane_without_gpus_or_readings_has_no_facts() -> None:
    assert window().facts() is None
    assert GpuWindow(GpuWatch(Source(NoGpus("x"))), "a-1", ()).facts() is None


# ---------------------------------------------------------------------------------------------------------- host


def test_the_host_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\nHugePages_Total: 0\n")
    (tmp_path / "loadavg").write_text("0.50 1.00 2.25 3/400 12345\n")
    (tmp_path / "stat").write_text("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1\n")
    watch = host.HostWatch(tmp_path)
    first = watch.read()
    assert first.cpu_percent is None
    assert (first.load, first.memory_total, first.memory_available) == ((0.5, 1.0, 2.25), 1024000, 409600)
    # 30 of 100 ticks: guest time (the last two) is part of user time already
    (tmp_path / "stat").write_text("cpu  120 0 110 750 120 0 0 0 99 9\n")
    assert watch.read().cpu_percent == 30.0
    (tmp_path / "stat").write_text("cpu  1 0 1 1 1 0 0 0\n")  # counters that went back
    assert watch.read().cpu_percent is None


def test_this_host_can_be_read() -> None:
    found = host.HostWatch().read()
    assert 0 < found.memory_available < found.memory_total
    kinds = {reading.kind: reading for reading in host.readings(replace(found, cpu_percent=12.5))}
    assert kinds["cpu"].value == 12.5
    assert kinds["memory"].value == found.memory_total - found.memory_available
