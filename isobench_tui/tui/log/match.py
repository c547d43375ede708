"""What a search or a filter looks for: a pattern, or the lines that tell an error by the rules of the diagnosis."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import regex

from isobench_tui.results.errors import KEEP, find_error_lines
from isobench_tui.tui.log.text import MAX_SHOWN, plain

TIMEOUT_S = 0.25
"""Time for one block of 64 KiB. Ordinary patterns need a thousandth of it; some need longer than the sun has left."""
LINE_TIMEOUT_S = 0.05
"""Time for the marks in one visible line."""
_AGAIN = 8
"""Further hits in one line that are passed over before it is left at once."""
MOST_SPANS = 200
"""Places in one line that are highlighted."""

_BY_LINE = regex.compile(
    r"\(\?(?!:|P<|i\))"  # looking around, atomic groups, other flags, conditions
    r"|[*+?}]\+"  # possessive
    r"|\\[AZzGRKXNnr0-9]"  # ends of the text, line ends, earlier groups
)
"""What may see beyond its line in a text of many lines, so that these are searched one by one: slower, but right."""


class BadPattern(ValueError):
    """The pattern is not a regular expression; the message says where."""


class TooSlow(Exception):
    """The pattern did not come to an end on a block of this log."""


class Matcher(Protocol):
    """Says which lines are meant."""

    @property
    def label(self) -> str:
        """How it is called on the screen."""
        ...

    def lines(self, raw: bytes) -> list[int]:
        r"""Which of these lines, counted from 0 and separated by `\n`. Raises TooSlow."""
        ...

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """Places in one shown line, for highlighting. Raises TooSlow."""
        ...


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression, looked for in what is shown of each line."""

    label: str
    compiled: regex.Pattern[str]
    by_line: bool

    def lines(self, raw: bytes) -> list[int]:
        text, until = plain(raw), time.monotonic() + TIMEOUT_S
        try:
            return list(self._one_by_one(text, until) if self.by_line else self._together(text, until))
        except TimeoutError as error:
            raise TooSlow from error

    def _together(self, text: str, until: float) -> Iterator[int]:
        """The whole block at once. A hit that goes beyond its line is looked for again in the line alone."""
        number, counted, at, again = 0, 0, 0, _AGAIN
        while again == _AGAIN:
            again = 0
            for match in self._all(text, at, until):
                start, end = match.span()
                if start < at:
                    again = _AGAIN if end >= at else again + 1
                    if again == _AGAIN:
                        break
                    continue
                feed = text.find("\n", start)
                feed = len(text) if feed < 0 else feed
                first = text.rfind("\n", 0, start) + 1
                whole = end <= feed and end - first <= MAX_SHOWN
                if whole or self._search(text[first : min(feed, first + MAX_SHOWN)], until):
                    number += text.count("\n", counted, first)
                    counted = first
                    yield number
                at = feed + 1
                if at > len(text):
                    return
                again = _AGAIN if end > feed else 0
                if again:
                    break

    def _all(self, text: str, at: int, until: float) -> Iterator[regex.Match[str]]:
        left = max(0.001, until - time.monotonic())
        return self.compiled.finditer(text, at, timeout=left, concurrent=True)

    def _one_by_one(self, text: str, until: float) -> Iterator[int]:
        for number, line in enumerate(text.split("\n")):
            if self._search(line[:MAX_SHOWN], until):
                yield number

    def _search(self, line: str, until: float) -> bool:
        left = max(0.001, until - time.monotonic())
        return self.compiled.search(line, timeout=left, concurrent=True) is not None

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        try:
            matches = self.compiled.finditer(text, timeout=LINE_TIMEOUT_S, concurrent=True)
            return tuple(itertools.islice((m.span() for m in matches if m.end() > m.start()), MOST_SPANS))
        except TimeoutError as error:
            raise TooSlow from error


@dataclass(frozen=True, slots=True)
class Errors:
    """Lines that tell an error, as the diagnosis sees them; no warning, no traceback's frames."""

    label: str = "errors"

    def lines(self, raw: bytes) -> list[int]:
        found = {line.line - 1 for line in find_error_lines(raw)}
        if len(found) >= KEEP and (middle := raw.find(b"\n", len(raw) // 2) + 1) and middle < len(raw):
            # the finder gives the first and the last of many; of half as many it gives more
            head = self.lines(raw[:middle])
            shift = raw.count(b"\n", 0, middle)
            found = {*head, *(shift + number for number in self.lines(raw[middle:]))}
        return sorted(found)

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        return ((0, len(text)),) if find_error_lines(text.encode()) else ()


@dataclass(frozen=True, slots=True)
class Inverse:
    """The other lines."""

    of: Matcher

    @property
    def label(self) -> str:
        return f"not {self.of.label}"

    def lines(self, raw: bytes) -> list[int]:
        hit = set(self.of.lines(raw))
        return [number for number in range(raw.count(b"\n") + 1) if number not in hit]

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        return ()


def compile_pattern(text: str) -> Pattern:
    """A regular expression; one without capital letters ignores case. Raises BadPattern."""
    flags = regex.MULTILINE | (0 if any(char.isupper() for char in regex.sub(r"\\.", "", text)) else regex.IGNORECASE)
    try:
        return Pattern(text, regex.compile(text, flags), _BY_LINE.search(text) is not None)
    except regex.error as error:
        raise BadPattern(f"not a regular expression: {error}") from error
    except (OverflowError, RecursionError, MemoryError, ValueError) as error:
        raise BadPattern(f"not a regular expression that can be used: {error}") from error
