"""The one place in the runner that asks for GPU readings: one at a time, never for longer than a few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from isobench_tui.engine.threads import in_thread
from isobench_tui.runner.monitors.nvml import GpuReading, GpuSource, NoGpus, Nvml
from isobench_tui.runner.monitors.owners import Owners
from isobench_tui.store.live import LiveGpu
from isobench_tui.store.samples import Reading

LIMIT_S = 5.0
"""A driver that is stuck answers never; whoever asks goes on without it."""
EVERY_S = 2.0
"""Seconds between two readings while an attempt measures; more where a reading is expensive."""
SHARE = 0.003
"""Of one core, that readings may take at most: `rest` grows where they are expensive."""


@dataclass(slots=True)
class GpuWatch:
    """Readings with their processes named. One that hangs is not waited for, and no second one is begun."""

    source: GpuSource = field(default_factory=Nvml)
    owners: Owners = field(default_factory=Owners)
    cost_s: float = 0.0
    """CPU time of a reading: the lesser of the last two, for the first one also opens the library."""
    _spent: float = 0.0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _hangs_since: float | None = None

    async def read(self) -> GpuReading:
        """All GPUs now. Raises NoGpus."""
        async with self._turn:
            if self._hangs_since is not None:
                waited = time.monotonic() - self._hangs_since
                raise NoGpus(f"the GPU driver has not answered for {waited:.0f} s (`dmesg | grep -i xid`)")
            try:
                return await in_thread("nvml", self._read, LIMIT_S)
            except TimeoutError:
                raise NoGpus(f"the GPU driver does not answer in {LIMIT_S:g} s (`dmesg | grep -i xid`)") from None

    def rest(self, at_least: float) -> float:
        """Seconds until the next reading, so that readings stay below SHARE of a core."""
        return max(at_least, self.cost_s / SHARE)

    def _read(self) -> GpuReading:
        self._hangs_since, began = time.monotonic(), time.thread_time()
        try:
            found = self.source.read()
            return replace(found, gpus=self.owners.name(found.gpus))
        finally:
            before, self._spent = self._spent, time.thread_time() - began
            self.cost_s, self._hangs_since = min(before, self._spent), None


def of_lane(gpus: Iterable[LiveGpu], ids: Sequence[str]) -> dict[str, LiveGpu]:
    """Id -> GPU, for ids as a lane names them: an index, or a UUID (`nvidia-smi -L`). MIG instances are not found."""
    known = {name: gpu for gpu in gpus for name in (str(gpu.index), gpu.uuid)}
    return {name: known[name] for name in ids if name in known}


def readings(gpus: Iterable[LiveGpu]) -> list[Reading]:
    """What of it goes into the history."""
    found = []
    for gpu in gpus:
        found.append(Reading("gpu_memory", gpu.uuid, gpu.memory_used, gpu.memory_total))
        if gpu.utilization is not None:
            found.append(Reading("gpu_utilization", gpu.uuid, gpu.utilization, 100))
        if gpu.temperature is not None:
            found.append(Reading("gpu_temperature", gpu.uuid, gpu.temperature))
        if gpu.sm_clock is not None:
            found.append(Reading("gpu_clock", gpu.uuid, gpu.sm_clock, gpu.sm_clock_max))
        if gpu.power is not None:
            found.append(Reading("gpu_power", gpu.uuid, gpu.power, gpu.power_limit))
    return found
