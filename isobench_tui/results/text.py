"""Log bytes to clean text. Logs are hostile: any byte, any length, any control sequence may be in them."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

LogBytes = bytes | mmap.mmap
"""A whole log: its bytes, or the file mapped into memory."""

MAX_PIECE = 16 * 1024
"""Bytes of one piece of a line that are looked at; the rest of it is ignored."""

_PIECE = re.compile(rb"[^\r\n\0]+|\n|\0+")
_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x9b[0-?]*[ -/]*[@-~]"  # the same as one C1 character
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"  # two-character sequences
)
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but the tab, line separators, marks that turn the direction of text, lone surrogates."""


def clean(text: str) -> str:
    """`text` without control sequences and control characters; tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub("", _ESCAPE.sub("", text))


def clip(text: str, limit: int) -> str:
    """`text` cut to `limit` characters, the cut marked with an ellipsis."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def pieces(log: LogBytes) -> Iterator[tuple[int, bytes]]:
    r"""Each non-empty piece of the log with its 1-based line number.

    Lines are counted by `\n`. A line is split at `\r` (progress bars redraw that way) and at NULs (holes), and all
    its pieces carry its number. A piece is cut after MAX_PIECE bytes.
    """
    number = 1
    for match in _PIECE.finditer(log):
        start, end = match.span()
        first = log[start]
        if first == 10:
            number += 1
        elif first != 0:
            yield number, log[start : min(end, start + MAX_PIECE)]


def lines(log: LogBytes) -> Iterator[tuple[int, str]]:
    """`pieces`, decoded (bytes that are not UTF-8 become U+FFFD) and cleaned."""
    for number, piece in pieces(log):
        yield number, clean(piece.decode("utf-8", "replace"))
