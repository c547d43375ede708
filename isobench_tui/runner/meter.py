"""How fast bytes arrive, for what a live row shows of a pull or of a model's download."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from isobench_tui.store.clock import stamp

WINDOW_S = 10.0
STALL_S = 20.0
"""Seconds without a byte after which the live row says so."""


@dataclass(frozen=True, slots=True)
class Pace:
    rate: float | None
    """Bytes a second over the last seconds; None before there are two readings."""
    eta: float | None
    """Seconds left; None where total or rate is unknown."""
    stalled_since: str | None


@dataclass(slots=True)
class Meter:
    """Fed with a growing count of bytes: `saw` whenever it is known, `pace` whenever it is shown."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    _last: int | None = None
    _moved: float = field(default_factory=time.time)

    def saw(self, done: int) -> None:
        if done != self._last:
            self._last, self._moved = done, time.time()

    def pace(self, done: int, total: int | None) -> Pace:
        """The pace now, over the last WINDOW_S."""
        at = time.monotonic()
        self._seen.append((at, done))
        while at - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        (first, before), span = self._seen[0], at - self._seen[0][0]
        rate = (done - before) / span if span > 0 and first != at else None
        left = None if total is None else total - done
        return Pace(
            rate=rate,
            eta=left / rate if left is not None and rate else None,
            stalled_since=stamp(self._moved) if time.time() - self._moved > STALL_S else None,
        )
