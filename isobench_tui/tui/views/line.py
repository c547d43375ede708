"""What views make, and what they are given room for."""

from __future__ import annotations

from dataclasses import dataclass

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
