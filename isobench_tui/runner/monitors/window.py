"""What was seen of a lane's GPUs while an attempt measured: the facts behind the flags `gpu_busy` and `throttled`."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from isobench_tui.results.facts import ForeignProcess, GpuFacts, MachineFacts
from isobench_tui.runner.monitors.gpu import EVERY_S, GpuWatch, of_lane
from isobench_tui.runner.monitors.nvml import NoGpus
from isobench_tui.store.live import LiveGpu

IDLE_S = 0.2
"""How soon it is seen that the measurement has begun."""


@dataclass(slots=True)
class _Seen:
    """One GPU so far."""

    max_clock: float | None = None
    watched: float = 0.0
    slowed: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    clocks: list[int] = field(default_factory=list)
    foreign: dict[int, ForeignProcess] = field(default_factory=dict)


@dataclass(slots=True)
class GpuWindow:
    """`run` reads until it is cancelled; `facts` tells what it saw."""

    watch: GpuWatch
    attempt: str
    ids: Sequence[str]
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _last: float | None = None

    async def run(self, measuring: Callable[[], bool]) -> None:
        """Read the GPUs for as long as `measuring` says so."""
        while self.ids:
            if not measuring():
                self._last = None
                await asyncio.sleep(IDLE_S)
                continue
            rest = self.watch.rest(EVERY_S)
            try:
                self.take((await self.watch.read()).gpus, time.monotonic(), rest)
            except NoGpus:
                self._last = None
            await asyncio.sleep(rest)

    def take(self, gpus: Sequence[LiveGpu], at: float, rest: float) -> None:
        """One reading at `at`: it stands for the time since the one before, at first for nothing."""
        span = 0.0 if self._last is None else min(at - self._last, 2 * rest)
        self._last = at
        for name, gpu in of_lane(gpus, self.ids).items():
            seen = self._seen.setdefault(name, _Seen())
            seen.watched += span
            seen.max_clock = gpu.sm_clock_max
            for reason in gpu.slowed:
                seen.slowed[reason] += span
            if gpu.sm_clock is not None:
                seen.clocks.append(gpu.sm_clock)
            for one in gpu.processes:
                if one.visible and not one.graphics and one.attempt != self.attempt:
                    old = seen.foreign.get(one.pid)
                    most = max(one.memory or 0, old.memory if old else 0)
                    seen.foreign[one.pid] = ForeignProcess(one.pid, one.name, most)

    def facts(self) -> MachineFacts | None:
        """None where no GPU was watched."""
        if not self._seen:
            return None
        return MachineFacts(
            tuple(
                GpuFacts(
                    gpu=name,
                    watched_s=seen.watched,
                    foreign=tuple(seen.foreign.values()),
                    throttled_s={reason: spent for reason, spent in seen.slowed.items() if spent > 0},
                    clock_mhz=statistics.median(seen.clocks) if seen.clocks else None,
                    max_clock_mhz=seen.max_clock,
                )
                for name, seen in self._seen.items()
            )
        )
