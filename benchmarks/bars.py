"""What the benchmarks share: repeated timing, a table, and the bars at the end by which they pass or fall short."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit that a measured value must keep."""

    name: str
    value: float
    op: Literal["<=", ">="]
    limit: float

    @property
    def ok(self) -> bool:
        return self.value <= self.limit if self.op == "<=" else self.value >= self.limit

    def __str__(self) -> str:
        return f"bar {self.name} {self.value:.3g} {self.op} {self.limit:g} {'ok' if self.ok else 'short'}"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns: the first to the left, the others (numbers) to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells).rstrip())


def spread(values: Sequence[float]) -> tuple[str, str, str, str]:
    """Cells of a table: number of values, median, least and greatest."""
    return str(len(values)), f"{statistics.median(values):.1f}", f"{min(values):.1f}", f"{max(values):.1f}"


def settle(*bars: Bar) -> int:
    """Print one line a bar; the program's exit code, 1 if one falls short."""
    print()
    for bar in bars:
        print(bar)
    return 0 if all(bar.ok for bar in bars) else 1
