"""Whose a process on a GPU is: its command and user, and the attempt of ours to which it belongs."""

from __future__ import annotations

import contextlib
import pwd
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from isobench_tui.engine import procs
from isobench_tui.store.live import LiveGpu, LiveProcess

_INIT_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO (include/linux/proc_ns.h): NVML counts as this namespace does, and so do we only inside it."""
_NAME = 120
"""Characters of a command line that are kept."""
_CONTAINER = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class Owners:
    """Remembers who a process is, by pid and start time, for as long as it holds memory."""

    containers: dict[str, str] = field(default_factory=dict)
    """Container id -> attempt, for the containers of ours that are not removed yet."""
    _known: dict[tuple[int, int], LiveProcess] = field(default_factory=dict)

    def name(self, gpus: Iterable[LiveGpu]) -> tuple[LiveGpu, ...]:
        """The GPUs with their processes named. Reads /proc."""
        sees = str(Path("/proc/self/ns/pid").readlink()) == _INIT_NAMESPACE
        before, self._known = self._known, {}
        return tuple(
            replace(gpu, processes=tuple(self._who(one, before) if sees else one for one in gpu.processes))
            for gpu in gpus
        )

    def _who(self, process: LiveProcess, before: dict[tuple[int, int], LiveProcess]) -> LiveProcess:
        started = procs.start_time(process.pid)
        if started is None:
            return process
        key = (process.pid, started)
        known = self._known.get(key) or before.get(key)
        if known is None:
            name, user = " ".join(procs.command(process.pid))[:_NAME], _user(process.pid)
            mark = procs.environment(process.pid).get(procs.MARK)
            known = LiveProcess(process.pid, name or _comm(process.pid), user, None, attempt=mark)
        if known.attempt is None:  # a container may be seen before we are told its id
            known = replace(known, attempt=self._of_container(process.pid))
        self._known[key] = known
        return replace(known, memory=process.memory, graphics=process.graphics)

    def _of_container(self, pid: int) -> str | None:
        """The attempt in whose container it runs (cgroups(7))."""
        with contextlib.suppress(OSError):
            for container in _CONTAINER.findall((Path("/proc") / str(pid) / "cgroup").read_text()):
                if container in self.containers:
                    return self.containers[container]
        return None


def _user(pid: int) -> str:
    try:
        uid = (Path("/proc") / str(pid)).stat().st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _comm(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "comm").read_text().strip()
    return ""
