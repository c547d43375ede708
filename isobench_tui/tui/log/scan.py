"""Which lines of a document match: a count per 64 KiB block, so that a GiB of matches costs as little as none.

A block's lines are those that begin in it. Their numbers, texts and places are found again by looking at that one
block once more, which is cheap; blocks that were counted and hold none are never looked at again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from isobench_tui.tui.log.document import Document
from isobench_tui.tui.log.index import BLOCK
from isobench_tui.tui.log.match import Matcher, TooSlow
from isobench_tui.tui.log.text import MAX_RAW

MOST_SLOW = 2
"""Blocks on which a pattern may fail to end before the search is given up."""


@dataclass(frozen=True, slots=True)
class Block:
    """The lines that begin in one block; the last is cut after MAX_RAW bytes beyond the block."""

    at: int
    """Offset in the document of the first of them."""
    raw: bytes
    r"""Without the last `\n`."""


def read_block(document: Document, number: int) -> Block | None:
    """None if no line begins in the block."""
    start = number * BLOCK
    lead = min(1, start)
    data = document.read(start - lead, lead + BLOCK + MAX_RAW)
    first = data.find(b"\n", 0, BLOCK) + 1 if lead else 0
    if lead and not first:
        return None
    # the line in which the block's last byte lies goes on to its own end
    last = data.find(b"\n", lead + BLOCK - 1)
    raw = data[first : last + 1 if last >= 0 else len(data)]
    return Block(start - lead + first, raw.removesuffix(b"\n")) if raw else None


def starts(block: Block, numbers: list[int]) -> list[int]:
    """Offsets in the document of lines of the block, by their numbers in it, in order."""
    found: list[int] = []
    at, line = 0, 0
    for number in numbers:
        while line < number:
            at = block.raw.find(b"\n", at) + 1
            line += 1
        found.append(block.at + at)
    return found


class Scan:
    """One pattern over one document that grows. `step` until it returns False; usable at any time in between."""

    def __init__(self, document: Document, matcher: Matcher) -> None:
        self.matcher = matcher
        self._document = document
        self._generation = document.generation
        self._counts: array[int] = array("I")
        self._ahead: dict[int, int] = {}
        """Counts of blocks that somebody looked at before their turn."""
        self._final = 0
        self._size = 0
        self.total = 0
        """Matching lines so far."""
        self.slow = 0
        """Blocks that were left out, because the pattern did not come to an end on them."""

    @property
    def gave_up(self) -> bool:
        return self.slow > MOST_SLOW

    @property
    def complete(self) -> bool:
        same = self._generation == self._document.generation and self._size == self._document.size
        return self.gave_up or (same and len(self._counts) * BLOCK >= self._size)

    @property
    def share(self) -> float:
        """How much of the document was looked at, 0 to 1."""
        size = self._document.size
        return 1.0 if self.complete or not size else min(1.0, len(self._counts) * BLOCK / size)

    def step(self) -> bool:
        """Look at one more block; False if there is nothing left to look at."""
        document = self._document
        if self._generation != document.generation:
            self._generation, self._counts, self._final, self._size = document.generation, array("I"), 0, 0
            self._ahead = {}
            self.total = self.slow = 0
        if self._size != document.size:
            # what was at the end may have grown: blocks whose last line was not whole are looked at again
            self.total -= sum(self._counts[self._final :])
            del self._counts[self._final :]
            self._size = document.size
        number = len(self._counts)
        if number * BLOCK < document.size and not self.gave_up:
            count = self._ahead.pop(number, -1)
            if count < 0:
                count = len(self._matching(number)[1])
            self._counts.append(count)
            self.total += count
            if self._whole(number):
                self._final = number + 1
        return not self.complete

    def block(self, number: int) -> tuple[Block | None, list[int]]:
        """A block and the numbers in it of its matching lines; None if there are none."""
        known = self._counts[number] if number < len(self._counts) else self._ahead.get(number, -1)
        if known == 0:
            return None, []
        block, numbers = self._matching(number)
        if known < 0 and self._whole(number):
            self._ahead[number] = len(numbers)
        return block, numbers

    def _whole(self, number: int) -> bool:
        """Whether nothing that is still written can change a block's lines."""
        return (number + 1) * BLOCK + MAX_RAW <= self._document.size

    def hits(self, number: int) -> list[int]:
        """Offsets of the matching lines that begin in a block."""
        block, numbers = self.block(number)
        return starts(block, numbers) if block else []

    def ordinal(self, offset: int) -> int | None:
        """How many matching lines begin at or before an offset; None if not all before it is known."""
        number = offset // BLOCK
        if number >= len(self._counts):
            return None
        return sum(self._counts[:number]) + sum(1 for at in self.hits(number) if at <= offset)

    def after(self, offset: int) -> Iterator[int | None]:
        """The first match that begins after `offset`, at last; before that None, once for each block."""
        for number in range((offset + 1) // BLOCK, -(-self._document.size // BLOCK)):
            found = next((at for at in self.hits(number) if at > offset), None)
            yield found
            if found is not None:
                return

    def before(self, offset: int) -> Iterator[int | None]:
        """The last match that begins before `offset`, at last; before that None, once for each block."""
        for number in range(min(offset, self._document.size) // BLOCK, -1, -1):
            found = next((at for at in reversed(self.hits(number)) if at < offset), None)
            yield found
            if found is not None:
                return

    def _matching(self, number: int) -> tuple[Block | None, list[int]]:
        block = None if self.gave_up else read_block(self._document, number)
        if block is None:
            return None, []
        try:
            return block, self.matcher.lines(block.raw)
        except TooSlow:
            self.slow += 1
            return None, []
