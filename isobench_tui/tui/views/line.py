"""What views make, and what they are given room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from rich.text import Text


@dataclass(frozen=True, slots=True)
class Room:
    """When something is drawn, and how many cells there are for it."""

    now: float
    """Unix seconds."""
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Line:
    """`key` is empty for headings, on which no cursor can stand."""

    text: Text
    key: str = ""
    marked: bool = False


class Lines(Protocol):
    """Lines that are made when they are seen: a list of 10,000 jobs costs what its 40 visible rows cost."""

    @property
    def width(self) -> int:
        """Cells of the widest line, as far as it is known."""
        ...

    def __len__(self) -> int: ...

    def line(self, at: int) -> Line: ...

    def key(self, at: int) -> str:
        """Of one line; empty for headings."""
        ...

    def find(self, key: str) -> int | None:
        """Where a key stands."""
        ...


@dataclass(frozen=True)
class Plain:
    """Lines that exist already."""

    lines: Sequence[Line] = field(default=())

    @cached_property
    def width(self) -> int:
        return max((line.text.cell_len for line in self.lines), default=0)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {line.key: at for at, line in enumerate(self.lines) if line.key}

    def __len__(self) -> int:
        return len(self.lines)

    def line(self, at: int) -> Line:
        return self.lines[at]

    def key(self, at: int) -> str:
        return self.lines[at].key

    def find(self, key: str) -> int | None:
        return self._places.get(key)
