"""Deadlines of what the runner does itself. Time for which it stood still is not counted.

A runner that was stopped, or had no CPU, finds its deadline and the end of the work due at the same moment: what was
done long ago must not be called late because nobody was there to see it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

STEP_S = 1.0
"""The longest time between two looks at the clock."""
STILL_S = 1.0
"""How late a look may come; one that is later finds a runner that stood still."""


@dataclass(slots=True)
class Deadline:
    """Seconds that are left; `under` counts them down."""

    left: float
    _timeout: asyncio.Timeout
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _looked: float = 0.0
    _due: float = 0.0
    _next: asyncio.TimerHandle | None = None

    @property
    def passed(self) -> bool:
        return self.left <= 0

    def extend(self, seconds: float) -> None:
        """From now on there are `seconds`, however many were left."""
        self.left = seconds
        self.halt()
        self._arm()

    def halt(self) -> None:
        """Count no more."""
        if self._next is not None:
            self._next.cancel()

    def _arm(self) -> None:
        self._looked = self._loop.time()
        self._due = self._looked + min(STEP_S, self.left)
        self._next = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now - self._due <= STILL_S:
            self.left -= now - self._looked
        if self.passed:
            self._timeout.reschedule(now)
        else:
            self._arm()


@contextlib.asynccontextmanager
async def under(seconds: float) -> AsyncIterator[Deadline]:
    """Cancel the body and raise TimeoutError once it took `seconds`."""
    async with asyncio.timeout(None) as timeout:
        made = Deadline(seconds, timeout)
        made.extend(seconds)
        try:
            yield made
        finally:
            made.halt()
