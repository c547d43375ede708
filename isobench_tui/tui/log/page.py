"""A window of lines around one place of a document, ready to be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.style import Style

from isobench_tui.tui.log.document import Document
from isobench_tui.tui.log.index import LineIndex
from isobench_tui.tui.log.lines import RawLine, backwards, forwards, matching_backwards, matching_forwards
from isobench_tui.tui.log.match import Matcher, TooSlow
from isobench_tui.tui.log.scan import Scan
from isobench_tui.tui.log.text import Shown, shown

Key = tuple[str, int]
"""(file, offset in it): names a line in every view of it."""
_NOTICE = Style(reverse=True)


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it is drawn."""

    at: int
    """Offset in the document."""
    end: int
    key: Key
    number: int | None
    """1-based in its file; None while it is not counted, and where logs are merged."""
    when: float | None
    """Unix seconds, to 0.2 s."""
    shown: Shown
    hits: tuple[tuple[int, int], ...] = ()
    """Places that the search found."""


@dataclass(frozen=True, slots=True)
class Page:
    """Lines that follow each other in the document, or in what the filter leaves of it."""

    lines: tuple[Line, ...] = ()
    first: bool = True
    """Nothing comes before."""
    last: bool = True
    """Nothing follows."""
    at: int | None = None
    """The offset that was asked for; None: the end."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines a page shall hold."""

    at: int | None
    """Offset of a line; None: the end."""
    before: int
    after: int
    """Lines from `at` on."""


@dataclass(slots=True)
class Lens:
    """A document as it is looked at: numbered, filtered, searched."""

    document: Document
    index: LineIndex
    filter: Scan | None = None
    search: Scan | None = None

    def up(self, offset: int) -> Iterator[RawLine | None]:
        if self.filter is None:
            return backwards(self.document, offset)
        return matching_backwards(self.document, self.filter, offset)

    def down(self, offset: int) -> Iterator[RawLine | None]:
        if self.filter is None:
            return forwards(self.document, offset)
        return matching_forwards(self.document, self.filter, offset)


class PageMaker:
    """Makes a page in steps: with a filter, one step a block that was looked at."""

    def __init__(self, lens: Lens, wanted: Wanted) -> None:
        self._lens = lens
        self._wanted = wanted
        self._above: list[RawLine] = []
        self._below: list[RawLine] = []
        self._first = self._last = False
        self._steps = self._collect()

    def step(self) -> bool:
        """Collect on; False once the page is complete. Raises OSError."""
        return next(self._steps, False)

    def _collect(self) -> Iterator[bool]:
        size, at = self._lens.document.size, self._wanted.at
        self._last = at is None
        if at is not None:
            for line in self._lens.down(at):
                if line is None:
                    yield True
                elif len(self._below) == self._wanted.after:
                    break
                else:
                    self._below.append(line)
            else:
                self._last = True
        for line in self._lens.up(size if at is None else at):
            if line is None:
                yield True
            elif len(self._above) >= self._wanted.before:
                break
            else:
                self._above.append(line)
        else:
            self._first = True

    def page(self) -> Page:
        """What was collected so far."""
        lens = self._lens
        matcher = lens.search.matcher if lens.search and not lens.search.gave_up else None
        number: int | None = None
        lines = []
        for raw in [*reversed(self._above), *self._below]:
            if not lens.document.merged:
                number = lens.index.number(raw.at) if number is None or lens.filter else number + 1
            line = draw(lens.document, raw, number)
            if matcher is not None:
                try:
                    line = _marked(line, matcher)
                except TooSlow:
                    matcher = None
            lines.append(line)
        return Page(tuple(lines), self._first, self._last, self._wanted.at)


def _marked(line: Line, matcher: Matcher) -> Line:
    hits = matcher.spans(line.shown.text)
    return replace(line, hits=hits) if hits else line


def draw(document: Document, raw: RawLine, number: int | None = None) -> Line:
    """A line with its place, its time, and what is shown of it."""
    piece = document.piece(raw.at)
    key = ("", raw.at) if piece is None else (document.files[piece.file].name, piece.start + raw.at - piece.at)
    return Line(raw.at, raw.end, key, number, document.when(raw.at), _with_gaps(document, raw))


def _with_gaps(document: Document, raw: RawLine) -> Shown:
    """What is shown of a line; where it lost its middle, that is said."""
    whole = Shown("")
    done = 0
    for at, lost in document.gaps(raw.at, raw.end):
        cut = min(at - raw.at, len(raw.raw))
        whole = _joined(_joined(whole, shown(raw.raw[done:cut])), _notice(lost))
        done = cut
    return _joined(whole, shown(raw.raw[done:], raw.more)) if whole.text else shown(raw.raw, raw.more)


def _notice(lost: int) -> Shown:
    text = f" {lost:,} bytes were dropped here to keep this log below its cap "
    return Shown(text, ((0, len(text), _NOTICE),))


def _joined(one: Shown, two: Shown) -> Shown:
    shift = len(one.text)
    moved = tuple((start + shift, end + shift, style) for start, end, style in two.styles)
    return Shown(one.text + two.text, one.styles + moved, one.more + two.more)
