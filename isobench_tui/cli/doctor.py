"""`doctor`: looks at this host and at what a campaign needs of it; changes nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from isobench_tui.report.text import safe
from isobench_tui.store.answer import ENGINE, OK, USAGE
from isobench_tui.store.clock import now
from isobench_tui.store.workspace import find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isobench_tui.campaign.models import Submission
    from isobench_tui.doctor.check import Check
    from isobench_tui.runner.monitors.gpu import GpuWatch
    from isobench_tui.runner.monitors.nvml import GpuReading
    from isobench_tui.store.live import LiveGpu

READINGS = 6
"""How often `--gpu` reads: once to open the library, and some more to see what each later one takes."""


class _Took(NamedTuple):
    """Milliseconds of one reading."""

    wall: float
    cpu: float
    """Of the whole process: the threads that ask, and the loop that waits for them."""


def doctor(options: argparse.Namespace) -> int:
    """All checks, or with `--gpu` the GPUs; the exit code says whether a run could start."""
    if options.gpu:
        return _gpu(options)
    from isobench_tui.doctor.check import exit_code
    from isobench_tui.doctor.survey import survey

    submission, spoilt = _campaign(options.file)
    checks = [*spoilt, *asyncio.run(survey(find(options.workspace), submission))]
    code = exit_code(checks)
    if options.json:
        print(json.dumps({"exit_code": code, "checks": [*map(asdict, checks)]}, indent=1))
    else:
        print(*_report(checks, code), sep="\n")
    return code


def _campaign(file: str | None) -> tuple[Submission | None, list[Check]]:
    """The campaign, or the check that says why there is none."""
    if file is None:
        return None, []
    from isobench_tui.campaign.load import SpecError, load
    from isobench_tui.doctor.check import fail

    try:
        return load(Path(file)), []
    except SpecError as error:
        return None, [fail("campaign", "; ".join(str(error).splitlines()), f"isobench plan {file}", code=USAGE)]


def _report(checks: Sequence[Check], code: int) -> list[str]:
    """For a person: what was seen, what to do, and what follows."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.level:<5} {check.name:<{width}}  {safe(check.seen)}")
        lines += [f"{'':<5} {'':<{width}}    {safe(line)}" for line in check.do]
    count = {level: sum(check.level == level for check in checks) for level in ("warn", "fail")}
    end = "a run could start" if code == OK else "a run could not start"
    return [*lines, "", f"{end}: {count['fail']} failed, {count['warn']} warnings"]


def _gpu(options: argparse.Namespace) -> int:
    """What the GPU monitor reads here and what that costs; needs neither a workspace nor an engine."""
    from isobench_tui.runner.monitors.gpu import GpuWatch
    from isobench_tui.runner.monitors.nvml import GpuReading, NoGpus

    watch, took = GpuWatch(), list[_Took]()
    try:
        seen = asyncio.run(_readings(watch, took))
    except NoGpus as error:
        seen = GpuReading("", (), str(error))
    cost = _cost(watch, took)
    if options.json:
        gpus = [*map(asdict, seen.gpus)]
        text = {"at": now(), "driver": seen.driver, "note": seen.note, **cost, "gpus": gpus}
        print(json.dumps(text, indent=1))
        return OK if gpus else ENGINE
    for one in seen.gpus:
        print(*_lines(one), sep="\n")
    if seen.note:
        print(f"no reading: {safe(seen.note)}")
    if seen.gpus:
        print(f"driver {safe(seen.driver)}; {_sentence(cost)}")
    return OK if seen.gpus else ENGINE


async def _readings(watch: GpuWatch, took: list[_Took]) -> GpuReading:
    """The last of a few readings; `took` gets what each one took. Raises NoGpus."""
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        seen = await watch.read()
        took.append(_Took(1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)))
        if len(took) == READINGS:
            return seen


def _cost(watch: GpuWatch, took: Sequence[_Took]) -> dict[str, Any]:
    """The first reading, which also opens the library, the median of the others, and how often one is made."""
    from isobench_tui.runner.monitors.gpu import EVERY_S

    if len(took) < READINGS:
        return {}
    first, again, every = took[0], took[1:], watch.rest(EVERY_S)
    cpu = statistics.median(one.cpu for one in again)
    return {
        "wall_ms": round(first.wall, 2),
        "cpu_ms": round(first.cpu, 2),
        "again_wall_ms": round(statistics.median(one.wall for one in again), 2),
        "again_cpu_ms": round(cpu, 2),
        "every_s": round(every, 2),
        "core_percent": round(100 * cpu / 1000 / every, 4),
    }


def _sentence(cost: dict[str, Any]) -> str:
    first, again = (f"{cost[f'{key}wall_ms']} ms ({cost[f'{key}cpu_ms']} of CPU)" for key in ("", "again_"))
    often = f"every {cost['every_s']:g} s while an attempt measures: {cost['core_percent']} % of a core"
    return f"the first reading took {first}, the later ones {again}; {often}"


def _lines(gpu: LiveGpu) -> list[str]:
    """`GPU 0 NVIDIA H100: 12.3 of 79.6 GiB, 97 %, 61 °C, 1980 of 1980 MHz, 468 of 700 W (sw_power_cap)`."""
    from isobench_tui.runner.monitors.gate import who

    words = [f"{gpu.memory_used / 1024**3:.1f} of {gpu.memory_total / 1024**3:.1f} GiB"]
    words += [f"{gpu.utilization} %"] if gpu.utilization is not None else []
    words += [f"{gpu.temperature} °C"] if gpu.temperature is not None else []
    words += [f"{gpu.sm_clock} of {gpu.sm_clock_max} MHz"] if gpu.sm_clock is not None else []
    words += [f"{gpu.power:.0f} of {gpu.power_limit or 0:.0f} W"] if gpu.power is not None else []
    reasons = f" ({', '.join(gpu.throttle)})" if gpu.throttle else ""
    head = f"GPU {gpu.index} {gpu.name} {gpu.uuid}: {', '.join(words)}{reasons}"
    return [safe(head), *(f"  held by {safe(who(one))}" for one in gpu.processes)]
