"""Load, memory and CPU of the whole host, out of /proc (proc(5)): three small files a reading."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from isobench_tui.store.live import LiveHost
from isobench_tui.store.samples import Reading

HOST = "host"
"""Key of the host's samples."""


@dataclass(slots=True)
class HostWatch:
    """`read` compares with the reading before, so keep one for as long as you watch."""

    proc: Path = Path("/proc")
    _busy: int = 0
    _all: int = 0

    def read(self) -> LiveHost:
        """The host now. Raises OSError where /proc is not that of Linux."""
        memory = _memory((self.proc / "meminfo").read_text())
        load = (self.proc / "loadavg").read_text().split()
        return LiveHost(
            cpus=os.cpu_count() or 1,
            cpu_percent=self._cpu((self.proc / "stat").read_text()),
            load=(float(load[0]), float(load[1]), float(load[2])),
            memory_total=memory["MemTotal"],
            memory_available=memory["MemAvailable"],
        )

    def _cpu(self, stat: str) -> float | None:
        """Busy share since the last call. The first line counts: user nice system idle iowait irq softirq steal …"""
        ticks = [int(field) for field in stat.split("\n", 1)[0].split()[1:9]]
        whole, busy = sum(ticks), sum(ticks) - ticks[3] - ticks[4]
        first, spent, used = self._all == 0, whole - self._all, busy - self._busy
        self._all, self._busy = whole, busy
        return None if first or spent <= 0 else round(min(100.0, max(0.0, 100 * used / spent)), 1)


def readings(host: LiveHost) -> list[Reading]:
    """What of it goes into the history."""
    used = host.memory_total - host.memory_available
    found = [Reading("load", HOST, host.load[0], host.cpus), Reading("memory", HOST, used, host.memory_total)]
    return found if host.cpu_percent is None else [*found, Reading("cpu", HOST, host.cpu_percent, 100)]


def _memory(meminfo: str) -> dict[str, int]:
    """Bytes by name; the file says kB and means KiB."""
    lines = (line.partition(":") for line in meminfo.splitlines())
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in lines if rest.strip()}
