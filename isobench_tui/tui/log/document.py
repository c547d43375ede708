"""What the pane shows as one text: a log without its holes, or several logs in the order in which they were written.

A document has offsets of its own, counted over its pieces; all else (lines, search, filter) works on these and knows
neither holes nor files. It only grows, until `generation` moves: then everything derived from it is void.
"""

from __future__ import annotations

import bisect
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from isobench_tui.tui.log.files import Extent, LogFile

SETTLED_S = 1.0
"""A last line without its end is waited for that long before other logs may go on."""
_BACK = (4096, 64 * 1024, 1024**2)
"""How far back the end of a line is looked for; a longer line is broken for the other logs."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the document that lies in one file in one go."""

    at: int
    """Offset in the document."""
    file: int
    start: int
    """Offset in the file."""
    length: int
    """Bytes in the document; with `closed` one more than of the file."""
    gap: int = 0
    """Bytes of the hole in the file before it."""
    closed: bool = False
    r"""Ends with a `\n` that the file lacks, for the next line is another log's."""

    @property
    def end(self) -> int:
        return self.at + self.length


class Document:
    """One log (`merged=False`, one file), or all of them line by line in the order of their time indexes."""

    def __init__(self, files: Sequence[LogFile]) -> None:
        self.files = tuple(files)
        self.merged = len(self.files) > 1
        self.pieces: list[Piece] = []
        self.generation = 0
        self._starts: list[int] = []
        self._taken = [0] * len(self.files)
        self._of = [file.generation for file in self.files]

    @property
    def size(self) -> int:
        return self.pieces[-1].end if self.pieces else 0

    def refresh(self) -> bool:
        """Take in what the files have that is new. True if the document changed."""
        for file in self.files:
            file.refresh()
        before = (self.generation, self.size)
        of = [file.generation for file in self.files]
        if of != self._of:
            self._of = of
            self.generation += 1
            self.pieces, self._starts, self._taken = [], [], [0] * len(self.files)
        if self.merged:
            self._merge()
        elif self.files:
            self._take(0, self.files[0].size)
        return before != (self.generation, self.size)

    def _merge(self) -> None:
        for number, end in _turns(self.files, self._taken):
            upto, close = self._line_end(number, end)
            if upto < end == self.files[number].size and self._settled(number):
                upto, close = end, True
            if upto > self._taken[number]:
                self._take(number, upto, close=close)
        for number, file in enumerate(self.files):
            if self._taken[number] < file.size and self._settled(number):
                self._take(number, file.size, close=True)

    def _settled(self, number: int) -> bool:
        return time.time() - self.files[number].written > SETTLED_S

    def _line_end(self, number: int, end: int) -> tuple[int, bool]:
        """The end of the last whole line at or before `end`; of an endless one, `end`, and that it must be closed."""
        low = self._taken[number]
        for back in _BACK:
            start = max(low, end - back)
            found = self.files[number].read(start, end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1, False
            if start == low:
                return low, False
        return end, True

    def _take(self, number: int, end: int, *, close: bool = False) -> None:
        """Append a file's data up to `end`, without its holes."""
        for extent, gap in _data(self.files[number].extents, self._taken[number], end):
            last = self.pieces[-1] if self.pieces else None
            next_to = last and last.file == number and not last.closed and last.start + last.length == extent.start
            if last and next_to and not gap:
                self.pieces[-1] = replace(last, length=last.length + extent.end - extent.start)
            else:
                self._append(Piece(self.size, number, extent.start, extent.end - extent.start, gap))
            self._taken[number] = extent.end
            if close and extent.end == min(end, self.files[number].extents[-1].end):
                self.pieces[-1] = replace(self.pieces[-1], length=self.pieces[-1].length + 1, closed=True)

    def _append(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self._starts.append(piece.at)

    def piece(self, offset: int) -> Piece | None:
        """The piece in which a byte of the document lies."""
        index = bisect.bisect_right(self._starts, offset) - 1
        return self.pieces[index] if index >= 0 and offset < self.pieces[index].end else None

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes of the document; fewer at its end. Raises OSError."""
        if offset >= self.size:
            return b""
        parts = []
        index = max(0, bisect.bisect_right(self._starts, offset) - 1)
        while length > 0 and index < len(self.pieces):
            piece = self.pieces[index]
            skip = offset - piece.at
            want = min(length, piece.length - skip)
            inside = min(want, piece.length - piece.closed - skip)
            data = self.files[piece.file].read(piece.start + skip, inside) if inside > 0 else b""
            # a file that shrank under us: NULs keep the offsets until the next refresh sees it
            data = data.ljust(inside, b"\0") + b"\n" * (want - max(inside, 0))
            parts.append(data)
            offset += want
            length -= want
            index += 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """(offset, bytes lost) of the holes between two offsets."""
        index = max(0, bisect.bisect_left(self._starts, start))
        while index < len(self.pieces) and self.pieces[index].at < end:
            piece = self.pieces[index]
            if piece.gap:
                yield piece.at, piece.gap
            index += 1

    def when(self, offset: int) -> float | None:
        """Unix seconds at which the byte at `offset` had been written, to 0.2 s; None if nobody knows."""
        piece = self.piece(offset)
        return None if piece is None else self.files[piece.file].times.when(piece.start + offset - piece.at)

    def at_time(self, at: float) -> int | None:
        """Offset of what was written at or after a time, None if nothing was."""
        found = [
            offset
            for number, file in enumerate(self.files)
            if (real := file.times.offset(at)) is not None and (offset := self.offset(number, real)) is not None
        ]
        return min(found, default=None)

    def offset(self, file: int, real: int) -> int | None:
        """Offset of a byte of a file; of the first one after it if that lies in a hole; None beyond the end."""
        for piece in self.pieces:
            if piece.file == file and real < piece.start + piece.length - piece.closed:
                return piece.at + max(0, real - piece.start)
        return None


def _data(extents: Sequence[Extent], start: int, end: int) -> Iterator[tuple[Extent, int]]:
    """The parts of the extents between two offsets, each with the bytes of the hole before it."""
    edge = start
    for extent in extents:
        low, high = max(extent.start, start), min(extent.end, end)
        if low < high:
            yield Extent(low, high), low - edge
            edge = high


def _turns(files: Sequence[LogFile], taken: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(file, size) in the order of time: up to where each log had grown when another one went on."""
    entries = []
    for number, file in enumerate(files):
        known = file.times.entries(taken[number])
        entries += [(at, number, min(size, file.size)) for at, size in known]
        if file.size > max(taken[number], known[-1][1] if known else 0):
            entries.append((max(file.written, known[-1][0] if known else 0.0), number, file.size))
    entries.sort()
    for (_, number, size), following in itertools.zip_longest(entries, entries[1:]):
        if following is None or following[1] != number:
            yield number, size
