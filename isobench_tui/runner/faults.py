"""Named points at which tests kill or hang the runner: `ISOBENCH_FAULTS=image:kill,collect:hang,cleanup:hang-once`.

Unset, which is always so outside tests, a point costs one dictionary look-up.
"""

from __future__ import annotations

import asyncio
import os
import signal


def _parse(text: str) -> dict[str, str]:
    return dict(part.split(":", 1) for part in text.split(",") if ":" in part)


_FAULTS = _parse(os.environ.get("ISOBENCH_FAULTS", ""))


async def point(name: str) -> None:
    """Die by SIGKILL, or never return, if the environment says so of this point."""
    match _FAULTS.get(name):
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            await asyncio.Event().wait()
        case "hang-once":
            del _FAULTS[name]
            await asyncio.Event().wait()
