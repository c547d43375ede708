"""Named points at which tests kill or hang the runner: `ISOBENCH_FAULTS=image:kill,durable-commit:kill@3`.

`kill` is SIGKILL, `stop` SIGSTOP, `hang` never goes on, `hang-once` only the first time does not; `@n` means the n-th
time that the point is passed. Unset, which is always so outside tests, a point costs one dictionary look-up.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

PHASES = ("preflight", "image", "start", "setup", "server", "measure", "collect", "cleanup")
"""The phases of an attempt, each at its beginning."""
BETWEEN = ("run-dir", "launched", "noted", "collected", "removed", "recovering", "adopting")
"""What lies between two writes to the store: files made, a container started, removed, found again."""
WRITES = tuple(f"{kind}-{when}" for kind in ("write", "durable") for when in ("begin", "commit", "done"))
"""Before a transaction of the runner, before its COMMIT, after it."""


def _parse(text: str) -> dict[str, str]:
    return dict(part.split(":", 1) for part in text.split(",") if ":" in part)


_FAULTS = _parse(os.environ.get("ISOBENCH_FAULTS", ""))
_passed: Counter[str] = Counter()


def hit(name: str) -> None:
    """Die by SIGKILL if the environment says so of this point; for threads, where nothing can hang."""
    if name in _FAULTS and _due(name) == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


async def point(name: str) -> None:
    """Die by SIGKILL, stand still, or never return, if the environment says so of this point."""
    if name not in _FAULTS:
        return
    match _due(name):
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            await asyncio.Event().wait()
        case "hang-once":
            del _FAULTS[name]
            await asyncio.Event().wait()


def _due(name: str) -> str:
    """What to do at this passing; empty: nothing yet."""
    action, _, number = _FAULTS[name].partition("@")
    _passed[name] += 1
    return action if not number or _passed[name] == int(number) else ""
