"""Lines of a document from any offset on, forwards and backwards, however long they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isobench_tui.tui.log.document import Document
from isobench_tui.tui.log.index import BLOCK
from isobench_tui.tui.log.scan import Scan, starts
from isobench_tui.tui.log.text import MAX_RAW

_FAR = 1024**2
"""Bytes read at once where a long line's end is looked for."""


@dataclass(frozen=True, slots=True)
class RawLine:
    r"""One line of a document, without its `\n`."""

    at: int
    end: int
    r"""Offset behind its `\n`, or of the end of the document."""
    raw: bytes
    """At most MAX_RAW bytes: the first ones, or of a long progress bar its last state."""
    more: int
    """Bytes that `raw` lacks."""


def forwards(document: Document, offset: int) -> Iterator[RawLine]:
    """The lines from the one that begins at `offset` on."""
    data, base, at = b"", offset, 0
    while True:
        end = data.find(b"\n", at)
        if end < 0:
            base, at, data = base + at, 0, document.read(base + at, BLOCK)
            end = data.find(b"\n")
            if end < 0:
                if not data:
                    return
                line = _long(document, base, data)
                yield line
                data, base = b"", line.end
                continue
        yield _line(base + at, data[at:end], base + end + 1)
        at = end + 1


def _line(at: int, raw: bytes, end: int) -> RawLine:
    if len(raw) <= MAX_RAW:
        return RawLine(at, end, raw, 0)
    state = raw[-MAX_RAW:].rstrip(b"\r\0").rpartition(b"\r")
    kept = state[2] if state[1] else raw[:MAX_RAW]
    return RawLine(at, end, kept, 0 if state[1] else len(raw) - MAX_RAW)


def _long(document: Document, at: int, head: bytes) -> RawLine:
    """A line that is longer than a block, or the unfinished last one."""
    if len(head) < BLOCK:
        return _line(at, head, at + len(head))
    seen, tail = at + len(head), head[-MAX_RAW:]
    while data := document.read(seen, _FAR):
        found = data.find(b"\n")
        part = data if found < 0 else data[:found]
        seen += len(part)
        tail = (tail + part)[-MAX_RAW:]
        if found >= 0:
            whole = _line(at, head + tail, seen + 1)
            return RawLine(at, seen + 1, whole.raw, whole.more and seen - at - MAX_RAW)
    whole = _line(at, head + tail, seen)
    return RawLine(at, seen, whole.raw, whole.more and seen - at - MAX_RAW)


def line_start(document: Document, offset: int) -> int:
    """Where the line begins in which `offset` lies."""
    step = BLOCK
    while offset > 0:
        low = max(0, offset - step)
        found = document.read(low, offset - low).rfind(b"\n")
        if found >= 0:
            return low + found + 1
        offset, step = low, _FAR
    return 0


def backwards(document: Document, offset: int) -> Iterator[RawLine]:
    """The lines before the one that begins at `offset`, the nearest first."""
    while offset > 0:
        begin = line_start(document, max(0, offset - BLOCK))
        if begin >= offset - 1:  # one line of more than a block
            begin = line_start(document, offset - 1)
        found = []
        for line in forwards(document, begin):
            if line.at >= offset:
                break
            found.append(line)
        yield from reversed(found)
        offset = begin


def matching_forwards(document: Document, scan: Scan, offset: int) -> Iterator[RawLine | None]:
    """The matching lines that begin at or after `offset`; between them None, once for each block."""
    for number in range(offset // BLOCK, -(-document.size // BLOCK)):
        yield from (line for line in _of_block(document, scan, number) if line.at >= offset)
        yield None


def matching_backwards(document: Document, scan: Scan, offset: int) -> Iterator[RawLine | None]:
    """The matching lines that begin before `offset`, the nearest first; between them None, once for each block."""
    for number in range(min(offset, document.size) // BLOCK, -1, -1):
        yield from (line for line in reversed(_of_block(document, scan, number)) if line.at < offset)
        yield None


def _of_block(document: Document, scan: Scan, number: int) -> list[RawLine]:
    block, numbers = scan.block(number)
    if block is None or not numbers:
        return []
    raws = block.raw.split(b"\n")
    found = [
        _line(at, raws[line], at + len(raws[line]) + 1)
        for line, at in zip(numbers, starts(block, numbers), strict=True)
    ]
    if numbers[-1] == len(raws) - 1:  # the last one may go on far beyond the block
        found[-1] = next(forwards(document, found[-1].at), found[-1])
    return found
