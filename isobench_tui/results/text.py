"""Log bytes to clean text. Logs are hostile: any byte, any length, any control sequence may be in them.

Whatever the size of a log, it is read block by block: memory stays bounded, and holes in the file are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


class LogBytes(Protocol):
    """A whole log: its bytes, a file mapped into memory, or a file that is read slice by slice."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> bytes: ...


@runtime_checkable
class SparseLog(LogBytes, Protocol):
    """A log that knows where it has no data: a hole reads as NULs, and may be larger than any disk."""

    def extent(self, offset: int) -> tuple[int, int]:
        """(start, end) of the next stretch of data at or after `offset`; both the size where there is none."""
        ...


MAX_PIECE = 16 * 1024
"""Bytes of one piece of a line that are looked at; the rest of it is ignored."""
BLOCK = 128 * 1024
"""Bytes that are read and searched at once."""

_MARK = re.compile(rb"[\r\n\0]")
_PIECE = re.compile(rb"[^\r\n\0]+|\n|\0+")
_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x9b[0-?]*[ -/]*[@-~]"  # the same as one C1 character
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"  # two-character sequences
)
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but the tab, line separators, marks that turn the direction of text, lone surrogates."""


def clean(text: str) -> str:
    """`text` without control sequences and control characters; tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub("", _ESCAPE.sub("", text))


def clip(text: str, limit: int) -> str:
    """`text` cut to `limit` characters, the cut marked with an ellipsis."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def blocks(log: LogBytes) -> Iterator[tuple[int, bytes]]:
    r"""(offset, bytes) of the whole log in order, each block at most BLOCK long and cut where a piece ends.

    Of a piece longer than a block only the beginning is given. Holes are left out.
    """
    at, size = 0, len(log)
    while at < size:
        at, end = log.extent(at) if isinstance(log, SparseLog) else (at, size)
        while at < end:
            block = log[at : min(end, at + BLOCK)]
            if not block:  # the file was cut off meanwhile
                return
            if at + len(block) < end:
                cut = block.rfind(b"\n") + 1 or max(block.rfind(b"\r"), block.rfind(b"\0")) + 1
                if not cut:
                    yield at, block
                    at = _next_mark(log, at + len(block), end)
                    continue
                block = block[:cut]
            yield at, block
            at += len(block)


def _next_mark(log: LogBytes, at: int, end: int) -> int:
    """Offset of the next end of a piece; `end` if there is none."""
    while at < end and (block := log[at : min(end, at + BLOCK)]):
        if found := _MARK.search(block):
            return at + found.start()
        at += len(block)
    return end


def pieces(log: LogBytes) -> Iterator[tuple[int, bytes]]:
    r"""Each non-empty piece of the log with its 1-based line number.

    Lines are counted by `\n`. A line is split at `\r` (progress bars redraw that way) and at NULs (holes), and all
    its pieces carry its number. A piece is cut after MAX_PIECE bytes.
    """
    number = 1
    for _, block in blocks(log):
        for match in _PIECE.finditer(block):
            start, end = match.span()
            first = block[start]
            if first == 10:
                number += 1
            elif first != 0:
                yield number, block[start : min(end, start + MAX_PIECE)]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a line that holds a hint."""

    line: int
    at: int
    """Offset in bytes."""
    raw: bytes

    @property
    def text(self) -> str:
        return clean(self.raw.decode("utf-8", "replace"))


class Hints:
    """Words of which every piece of interest holds one: most of a large log is dropped by them alone."""

    def __init__(self, *words: bytes) -> None:
        self._words = words
        self._any = re.compile(b"|".join(re.escape(word) for word in words))

    def pieces(self, log: LogBytes) -> Iterator[Piece]:
        """The pieces, as `pieces` cuts them, that hold a hint. All else is skipped at memory speed."""
        number = 1
        for begin, block in blocks(log):
            # twice as fast as the pattern where nothing is to be found
            done = 0 if any(word in block for word in self._words) else len(block)
            counted = 0
            while hint := self._any.search(block, done):
                start = max(block.rfind(mark, done, hint.start()) for mark in (b"\n", b"\r", b"\0")) + 1 or done
                stop = found.start() if (found := _MARK.search(block, hint.end())) else len(block)
                number += block.count(b"\n", counted, start)
                counted, done = start, stop
                if hint.end() <= start + MAX_PIECE:
                    yield Piece(number, begin + start, block[start : min(stop, start + MAX_PIECE)])
            number += block.count(b"\n", counted)


def line_number(log: LogBytes, offset: int) -> int:
    """1-based number of the line in which an offset lies."""
    number = 1
    for at, block in blocks(log):
        if at >= offset:
            break
        number += block.count(b"\n", 0, offset - at)
    return number


def line_at(log: LogBytes, wanted: int) -> str | None:
    """The first non-empty piece of a line by its 1-based number, cleaned; None if the log has no such."""
    number = 1
    for _, block in blocks(log):
        count = block.count(b"\n")
        if number + count >= wanted:
            for at, raw in pieces(block):
                if number - 1 + at == wanted:
                    return clean(raw.decode("utf-8", "replace"))
        number += count
    return None


def lines(log: LogBytes) -> Iterator[tuple[int, str]]:
    """`pieces`, decoded (bytes that are not UTF-8 become U+FFFD) and cleaned."""
    for number, piece in pieces(log):
        yield number, clean(piece.decode("utf-8", "replace"))
