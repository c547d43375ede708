"""Numbers as rows of characters: an interval on a scale, values on a line. Pure text, one cell a character."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

EMPTY: Final = " "
_ONE: Final = "┊"
"""Where a speedup is 1: neither better nor worse."""


def interval(value: float, low: float | None, high: float | None, scale: tuple[float, float], width: int) -> str:
    """A speedup with its interval, `  ├──●─┤ `, on a logarithmic scale from `scale[0]` to `scale[1]`.

    A dotted line stands where it is 1. An end that lies beyond the scale is drawn as an arrow, `◂` or `▸`.
    """
    cells = [EMPTY] * width
    start, end = math.log(scale[0]), math.log(scale[1])

    def at(number: float) -> int:
        part = (math.log(number) - start) / (end - start) if end > start else 0.5
        return round(part * (width - 1))

    def inside(cell: int) -> int:
        return max(0, min(width - 1, cell))

    if 0 <= at(1.0) < width:
        cells[at(1.0)] = _ONE
    if low is not None and high is not None:
        first, last = at(max(low, 1e-300)), at(high)
        for cell in range(inside(first), inside(last) + 1):
            cells[cell] = "─"
        cells[inside(first)] = "├" if first >= 0 else "◂"
        cells[inside(last)] = "┤" if last < width else "▸"
    cells[inside(at(value))] = "●"
    return "".join(cells)


def dots(values: Sequence[float], scale: tuple[float, float], width: int) -> str:
    """Every value as a dot on a linear scale, `· •  · `: where several fall together the dot is larger."""
    counts = [0] * width
    low, high = scale
    for value in values:
        part = (value - low) / (high - low) if high > low else 0.5
        counts[round(max(0.0, min(1.0, part)) * (width - 1))] += 1
    return "".join(EMPTY if not count else "·" if count == 1 else "•" if count == 2 else "●" for count in counts)


def scale_of(values: Sequence[float], margin: float = 0.02) -> tuple[float, float]:
    """A scale that holds all of them and 1, a little wider than they are: for speedups."""
    low, high = min(1.0, *values), max(1.0, *values)
    return low / (1 + margin), high * (1 + margin)
