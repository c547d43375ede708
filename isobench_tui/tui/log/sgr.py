"""Colours that a log asks for (ECMA-48 "select graphic rendition"), as styles: none reaches a terminal raw."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.color import Color
from rich.style import Style

_MOST = 32
"""Numbers of one sequence that are read."""
_ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 9: "strike"}
_OFF = {22: {"bold", "dim"}, 23: {"italic"}, 24: {"underline"}, 29: {"strike"}}


@dataclass(frozen=True, slots=True)
class Pen:
    """What is switched on. No blinking, hidden or reversed text: text must stay readable."""

    color: str | None = None
    background: str | None = None
    marks: frozenset[str] = frozenset()
    """Names of rich's attributes."""


@functools.lru_cache(1024)
def apply(pen: Pen, args: str) -> Pen:
    """The pen after a sequence with these arguments; what is not understood changes nothing."""
    numbers = _numbers(args)
    for number in numbers:
        if number == 0:
            pen = Pen()
        elif name := _ON.get(number):
            pen = replace(pen, marks=pen.marks | {name})
        elif names := _OFF.get(number):
            pen = replace(pen, marks=pen.marks - names)
        elif number in {38, 48}:
            color = _extended(numbers)
            if color is not None:
                pen = replace(pen, color=color) if number == 38 else replace(pen, background=color)
        elif 30 <= number <= 37 or 90 <= number <= 97:
            pen = replace(pen, color=_standard(number))
        elif 40 <= number <= 47 or 100 <= number <= 107:
            pen = replace(pen, background=_standard(number - 10))
        elif number == 39:
            pen = replace(pen, color=None)
        elif number == 49:
            pen = replace(pen, background=None)
    return pen


@functools.lru_cache(1024)
def style(pen: Pen) -> Style | None:
    """As rich's style; None where nothing is switched on. Letters in the colour of their ground lose the ground."""
    if pen == Pen():
        return None
    background = None if pen.background == pen.color else pen.background
    return Style.parse(" ".join(sorted(pen.marks))) + Style(color=pen.color, bgcolor=background)


def _numbers(args: str) -> Iterator[int]:
    """The numbers of `1;38;5;9`; an empty one is 0, a colon separates like a semicolon, a long one is nothing."""
    if args.startswith(("<", "=", ">", "?")):
        return iter(())
    words = args.replace(":", ";").split(";", _MOST)[:_MOST]
    return iter(
        [
            int(word or "0") if len(word) <= 3 and (word or "0").isascii() and (word or "0").isdigit() else -1
            for word in words
        ]
    )


def _extended(numbers: Iterator[int]) -> str | None:
    kind = next(numbers, -1)
    if kind == 5:
        number = next(numbers, -1)
        return Color.from_ansi(number).name if 0 <= number <= 255 else None
    if kind == 2:
        red, green, blue = (next(numbers, -1) for _ in range(3))
        if all(0 <= value <= 255 for value in (red, green, blue)):
            return f"#{red:02x}{green:02x}{blue:02x}"
    return None


def _standard(number: int) -> str:
    return Color.from_ansi(number - 30 if number < 90 else number - 82).name
