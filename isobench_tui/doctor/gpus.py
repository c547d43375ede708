"""GPUs: the driver, nvidia-smi, those that the campaign's lanes name, and who holds their memory."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Sequence

from isobench_tui.doctor.check import LIMIT_S, Check, fail, ok, warn
from isobench_tui.runner.monitors import gate
from isobench_tui.runner.monitors.gpu import GpuWatch, of_lane
from isobench_tui.runner.monitors.nvml import NoGpus


def check(wanted: Sequence[str]) -> list[Check]:
    """`wanted`: ids as lanes name them; none: whatever there is is looked at."""
    try:
        seen = asyncio.run(GpuWatch().read())
    except NoGpus as error:
        if wanted:
            return [fail("gpu", f"{error}; lanes name GPU {', '.join(wanted)}", "nvidia-smi")]
        return [ok("gpu", f"{error}; nothing asks for one")]
    names = ", ".join(f"{gpu.index} {gpu.name}" for gpu in seen.gpus)
    said = f"driver {seen.driver}: {names}"
    found = of_lane(seen.gpus, wanted) if wanted else {str(gpu.index): gpu for gpu in seen.gpus}
    absent = [name for name in wanted if name not in found]
    if absent:
        checks = [
            fail("gpu", f"{said}; not among them: {', '.join(absent)}", "nvidia-smi -L   # ids for [[lanes]] gpus")
        ]
    elif seen.note:
        checks = [warn("gpu", f"{said}; {seen.note}", "dmesg | grep -i xid")]
    else:
        checks = [ok("gpu", said)]
    held = [text for name, gpu in found.items() if (text := gate.held(name, gpu))]
    slow = [f"GPU {name}: {', '.join(gpu.slowed)}" for name, gpu in found.items() if gpu.slowed]
    if held:
        do = ("nvidia-smi", "the queue waits until the memory is free")
        checks.append(warn("gpu-memory", "; ".join(held), *do))
    elif found:
        checks.append(ok("gpu-memory", "free"))
    if slow:
        checks.append(
            warn("gpu-clocks", f"slowed down: {'; '.join(slow)}", "nvidia-smi -q -d PERFORMANCE,POWER,TEMPERATURE")
        )
    return checks


def smi(wanted: Sequence[str]) -> Check | list[Check]:
    """nvidia-smi runs and agrees with the loaded driver; left out where no GPU is asked for and it is not there."""
    if shutil.which("nvidia-smi") is None:
        return (
            [warn("nvidia-smi", "not on PATH", "apt-get install nvidia-utils-…   # of the driver's version")]
            if wanted
            else []
        )
    argv = ["nvidia-smi", "--query-gpu=driver_version,persistence_mode", "--format=csv,noheader"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S - 1, check=False)
    except subprocess.TimeoutExpired:
        return warn("nvidia-smi", "hangs: a GPU or its driver is stuck", "dmesg | grep -i xid")
    lines = (done.stdout or done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
    if done.returncode != 0:
        return fail("nvidia-smi", lines[0], "dmesg | grep -i nvidia") if wanted else warn("nvidia-smi", lines[0])
    if any("Disabled" in line for line in lines):
        return warn("nvidia-smi", "persistence mode is off: GPUs wake up anew for each attempt", "nvidia-smi -pm 1")
    return ok("nvidia-smi", lines[0])
