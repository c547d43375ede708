"""`doctor --gpu`: what the GPU driver says, named as the monitors name it; changes nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from isobench_tui.report.text import safe
from isobench_tui.store.answer import ENGINE, OK
from isobench_tui.store.clock import now

if TYPE_CHECKING:
    from isobench_tui.store.live import LiveGpu


def doctor(options: argparse.Namespace) -> int:
    """One reading of all GPUs; needs neither a workspace nor an engine."""
    from isobench_tui.runner.monitors.gpu import GpuWatch
    from isobench_tui.runner.monitors.nvml import NoGpus

    watch, began = GpuWatch(), time.perf_counter()
    try:
        seen = asyncio.run(watch.read())
        driver, gpus, note = seen.driver, seen.gpus, seen.note
    except NoGpus as error:
        driver, gpus, note = "", (), str(error)
    if options.json:
        took = {"wall_ms": round(1000 * (time.perf_counter() - began), 2), "cpu_ms": round(1000 * watch.cost_s, 2)}
        print(
            json.dumps({"at": now(), "driver": driver, "note": note, **took, "gpus": [*map(asdict, gpus)]}, indent=1)
        )
    else:
        for one in gpus:
            print(*_lines(one), sep="\n")
        if note:
            print(f"no reading: {note}")
    return OK if gpus else ENGINE


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
