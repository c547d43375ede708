"""Rows of the screen for a line of a log."""

from __future__ import annotations

from rich.cells import cell_len, get_character_cell_size

Row = tuple[int, int]
"""(start, end) in the characters of the line."""


def rows(text: str, width: int) -> list[Row]:
    """The line broken at `width` cells; after a blank where one is near the edge, so that words stay whole."""
    if width <= 0 or (len(text) <= width and (text.isascii() or cell_len(text) <= width)):
        return [(0, len(text))]
    found: list[Row] = []
    start = 0
    while start < len(text):
        end = start + _fit(text, start, width)
        if end < len(text):
            blank = text.rfind(" ", max(start + 1, end - width // 3), end)
            end = blank + 1 if blank > start else end
        found.append((start, end))
        start = end
    return found


def _fit(text: str, start: int, width: int) -> int:
    """How many characters from `start` on fit into `width` cells; at least one."""
    part = text[start : start + width]
    if part.isascii():
        return len(part)
    cells = 0
    for count, char in enumerate(text[start:]):
        cells += get_character_cell_size(char)
        if cells > width:
            return max(1, count)
    return len(text) - start


def index_at(text: str, cells: int) -> int:
    """The character at which `cells` cells are full."""
    return cells if text.isascii() else _fit(text, 0, cells) if cells > 0 else 0
