"""Linux processes by their marks: every process of an attempt carries ISOBENCH_ATTEMPT in its environment.

They also inherit a file without a path that is named after it: so those that cleared their environment are found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "ISOBENCH_ATTEMPT"
KILL_WAIT_S = 10.0
"""How long SIGKILL may take before the processes are reported as unkillable."""

_PROC = Path("/proc")
_EXEC_TRIES = 5
_ENDED = ("Z", "X")


def boot_id() -> str:
    """This boot's id; process ids and start times mean nothing in another one."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start time (clock ticks since boot) of a process; proc(5)."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[19])


def start_time(pid: int) -> int | None:
    """Start time of a process, zombies included; None if there is none."""
    found = _stat(pid)
    return None if found is None else found[2]


def is_alive(pid: int, started: int) -> bool:
    """Whether exactly this process still runs; a zombie does not."""
    found = _stat(pid)
    return found is not None and found[2] == started and found[0] not in _ENDED


def is_attempts(pid: int, started: int, attempt: str) -> bool:
    """Whether exactly this process runs and carries the attempt's mark, which nobody can forge for another one."""
    return is_alive(pid, started) and environment(pid).get(MARK) == attempt


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty if it is gone or not ours to read."""
    for _ in range(_EXEC_TRIES):
        try:
            data = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            return {}
        if data or _is_kernels(pid):
            break
        time.sleep(0.002)  # in the middle of its execve(2) a process has none to show
    pairs = (part.partition("=") for part in data.decode(errors="replace").split("\0") if "=" in part)
    return {name: value for name, _, value in pairs}


def _is_kernels(pid: int) -> bool:
    """A kernel thread: kthreadd, which is pid 2, or a child of it."""
    found = _stat(pid)
    return found is None or pid == 2 or found[1] == 2


def command(pid: int) -> list[str]:
    """The argv of a process; empty if it is gone."""
    try:
        data = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return data.decode(errors="replace").rstrip("\0").split("\0")


def marked() -> dict[int, str]:
    """Every living process that carries a mark, with its attempt."""
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            attempt = environment(int(entry.name)).get(MARK)
            if attempt:
                found[int(entry.name)] = attempt
    return found


def mark_file(attempt: str) -> int:
    """A descriptor for the processes of an attempt to inherit: whoever has it open is one of them."""
    return os.memfd_create(_file_name(attempt))


def _file_name(attempt: str) -> str:
    return f"isobench-{attempt}"


def _has_file(pid: int, attempt: str) -> bool:
    """Whether a process has the attempt's file open."""
    wanted = f"/memfd:{_file_name(attempt)} (deleted)"
    with contextlib.suppress(OSError):  # it is gone, or another user's
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()) == wanted:
                    return True
    return False


def family(attempt: str) -> set[int]:
    """The processes that carry an attempt's mark or file, and all that descend from them; never the caller."""
    parents = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            found = _stat(int(entry.name))
            if found is not None and found[0] not in _ENDED:
                parents[int(entry.name)] = found[1]
    mine = {pid for pid in parents if environment(pid).get(MARK) == attempt or _has_file(pid, attempt)}
    more = mine
    while more:
        more = {pid for pid, parent in parents.items() if parent in mine} - mine
        mine = mine | more
    return mine - {os.getpid()}


def kill(attempt: str) -> set[int]:
    """SIGKILL everything of an attempt until nothing is left. Returns what outlived KILL_WAIT_S."""
    until = time.monotonic() + KILL_WAIT_S
    while left := family(attempt):
        if time.monotonic() > until:
            return left
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return set()
