r"""Line numbers of a document of any size: how many lines begin before each 64 KiB of it, ~130 kB a GiB.

A line is what ends with `\n`, as everywhere in isobench; the n-th is found by one bisection and one read.
"""

from __future__ import annotations

import bisect
from array import array

from isobench_tui.tui.log.document import Document

BLOCK = 64 * 1024
"""Bytes that are counted, searched and filtered at once."""
STEP = 16 * BLOCK
"""Bytes of one step: some milliseconds."""


class LineIndex:
    """Counts as the document grows. `step` until it returns False; what is counted can be used at any time."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._generation = document.generation
        self._before: array[int] = array("Q", [0])
        self.done = 0
        """Bytes counted."""
        self.breaks = 0
        r"""`\n` among them."""
        self._unfinished = False

    @property
    def complete(self) -> bool:
        return self._generation == self._document.generation and self.done >= self._document.size

    @property
    def lines(self) -> int:
        """Lines seen so far, an unfinished last one among them."""
        return self.breaks + self._unfinished

    def step(self) -> bool:
        """Count on; False if there is nothing left to count."""
        if self._generation != self._document.generation:
            self._generation = self._document.generation
            self._before, self.done, self.breaks, self._unfinished = array("Q", [0]), 0, 0, False
        data = self._document.read(self.done, STEP - self.done % BLOCK)
        self._unfinished = self._unfinished if not data else not data.endswith(b"\n")
        start = 0
        while start < len(data):
            end = min(len(data), start + BLOCK - self.done % BLOCK)
            self.breaks += data.count(b"\n", start, end)
            self.done += end - start
            if self.done % BLOCK == 0:
                self._before.append(self.breaks)
            start = end
        return not self.complete

    def number(self, offset: int) -> int | None:
        """The 1-based number of the line in which `offset` lies; None if it is not counted yet."""
        if offset > self.done:
            return None
        block = min(offset // BLOCK, len(self._before) - 1)
        return 1 + self._before[block] + self._document.read(block * BLOCK, offset - block * BLOCK).count(b"\n")

    def offset(self, number: int) -> int | None:
        """Where line `number` begins; None if it is not counted yet."""
        if number <= 1:
            return 0
        if number - 1 > self.breaks:
            return None
        # the newline that ends the line before lies in the last block with fewer of them before it
        block = bisect.bisect_left(self._before, number - 1) - 1
        data = self._document.read(block * BLOCK, BLOCK)
        at = -1
        for _ in range(number - 1 - self._before[block]):
            at = data.find(b"\n", at + 1)
        return block * BLOCK + at + 1
