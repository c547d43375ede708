"""When which part of a log was written, by the index that the runner keeps beside it."""

from __future__ import annotations

import bisect
import itertools
import math
from array import array

from isobench_tui.store.rundir import Hostile, RunDir
from isobench_tui.store.runlogs import INDEX

MOST = 200_000
"""Entries kept: eleven hours of a log that never rests. Of more, every second one goes, again and again."""
_AT_ONCE = 4096 * INDEX.size
_LATEST = 4_102_444_800.0
"""The year 2100: a later time is nonsense."""


class Times:
    """(time, size) of one log, growing with it. A container could write the index: nonsense in it is skipped."""

    def __init__(self, run: RunDir, name: str) -> None:
        self._run = run
        self._name = f"{name}.idx"
        self._read = 0
        self._stride = 1
        self._seen = 0
        self.at: array[float] = array("d")
        """Unix seconds, never decreasing."""
        self.sizes: array[int] = array("Q")
        """Bytes of the log at that time, strictly increasing."""

    def refresh(self) -> None:
        """Read what was added since the last time."""
        if self._run.size(self._name) < self._read:
            self.__init__(self._run, self._name.removesuffix(".idx"))  # type: ignore[misc]
        try:
            while data := self._run.read_at(self._name, self._read, _AT_ONCE):
                whole = data[: len(data) - len(data) % INDEX.size]
                self._read += len(whole)
                for at, size in INDEX.iter_unpack(whole):
                    self._add(at, size)
                if len(data) < _AT_ONCE:
                    return
        except Hostile:
            return

    def _add(self, at: float, size: int) -> None:
        last = self.sizes[-1] if self.sizes else 0
        if not math.isfinite(at) or not 0 <= at <= _LATEST or not last < size < 1 << 62:
            return
        self._seen += 1
        if self._seen % self._stride:
            return
        self.at.append(max(at, self.at[-1]) if self.at else at)
        self.sizes.append(size)
        if len(self.at) >= MOST:
            self.at, self.sizes, self._stride = self.at[1::2], self.sizes[1::2], self._stride * 2

    def when(self, offset: int) -> float | None:
        """The time at which the byte at `offset` had been written; None where nobody knows (yet)."""
        entry = bisect.bisect_right(self.sizes, offset)
        return self.at[entry] if entry < len(self.at) else None

    def offset(self, at: float) -> int | None:
        """Where that begins which was written at or after `at`; None if nothing was, as far as is known."""
        entry = bisect.bisect_left(self.at, at)
        if entry == len(self.at):
            return None
        return self.sizes[entry - 1] if entry else 0

    def entries(self, after: int) -> list[tuple[float, int]]:
        """(time, size) of the entries whose size is above `after`."""
        first = bisect.bisect_right(self.sizes, after)
        return list(
            zip(itertools.islice(self.at, first, None), itertools.islice(self.sizes, first, None), strict=True)
        )
