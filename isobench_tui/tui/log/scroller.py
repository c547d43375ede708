"""Where a view of a page stands: which rows of which lines are on the screen. Pure: it draws nothing, reads nothing.

A position is a row of a line, so that wrapped lines scroll row by row. The page is only a window of the log; near its
edges the scroller says what page it would like next, and what it could not scroll for want of lines is made up for
when that page comes.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from isobench_tui.tui.log.page import Line, Page
from isobench_tui.tui.log.wrap import Row, rows


@dataclass(frozen=True, slots=True)
class VisibleRow:
    """One row of the screen: a part of a line."""

    line: Line
    start: int
    end: int
    first: bool
    """The line begins here."""


Position = tuple[int, int]
"""(index of the line in the page, row of it)."""


class Scroller:
    """Follows the end until told to look elsewhere."""

    def __init__(self) -> None:
        self.page = Page()
        self.height = self.width = 1
        self.wrap = False
        self.follow = True
        self._top: Position = (0, 0)
        self._owed = 0
        self._rows: dict[int, list[Row]] = {}

    def resize(self, width: int, height: int, *, wrap: bool) -> None:
        """Cells for the text of a line; the line on top stays there."""
        if (width, wrap) != (self.width, self.wrap):
            self._rows = {}
            self._top = (self._top[0], 0)
        self.width, self.height, self.wrap = max(1, width), max(1, height), wrap
        self._settle()

    def show(self, page: Page) -> None:
        """Another page: the line on top stays where it was, if it is still there."""
        old = self._top_line()
        row = self._top[1]
        self.page, self._rows = page, {}
        if old is not None and not self.follow:
            at = next((n for n, line in enumerate(page.lines) if line.key == old.key), None)
            if at is None:
                at, row = bisect.bisect_left(page.lines, old.at, key=lambda line: line.at), 0
            self._top = (min(at, max(0, len(page.lines) - 1)), row)
        owed, self._owed = self._owed, 0
        self.move(owed)

    def put(self, at: int) -> bool:
        """Bring the line at (or the first one behind) an offset into the upper third. False: the page lacks it."""
        index = bisect.bisect_left(self.page.lines, at, key=lambda line: line.at)
        if index == len(self.page.lines):
            return False
        self.follow, self._owed = False, 0
        self._top = (index, 0)
        self.move(-(self.height // 3))
        return True

    def move(self, by: int) -> None:
        """Scroll by rows. Scrolling up leaves the end; reaching it again follows it."""
        if by < 0:
            self.stay()
        position, left = self._walk(self._top, by)
        self._top = position
        if left and not (self.page.first if by < 0 else self.page.last):
            self._owed = left
        self._settle()
        if by > 0 and self.page.last and self._top >= self._bottom_top():
            self.follow = True

    def to_end(self) -> None:
        """Follow."""
        self.follow, self._owed = True, 0

    def stay(self) -> None:
        """Follow no more."""
        if self.follow:
            self._top, self.follow = self._bottom_top(), False

    def visible(self) -> list[VisibleRow]:
        """What is on the screen, from the top; fewer rows than it has where there are fewer lines."""
        index, skip = self._bottom_top() if self.follow else self._top
        found: list[VisibleRow] = []
        for line_index in range(index, len(self.page.lines)):
            line = self.page.lines[line_index]
            for number, (start, end) in enumerate(self._rows_of(line_index)):
                if line_index > index or number >= skip:
                    found.append(VisibleRow(line, start, end, number == 0))
                    if len(found) == self.height:
                        return found
        return found

    def wants(self) -> tuple[bool, int | None]:
        """(whether another page is needed, the offset of the line around which)."""
        lines = self.page.lines
        if self.follow or not lines:
            return False, None
        index = self._top[0]
        above, below = index, len(lines) - index
        near = (above < self.height and not self.page.first) or (below < 2 * self.height and not self.page.last)
        return near and lines[index].at != self.page.at, lines[index].at

    # -- helpers

    def _top_line(self) -> Line | None:
        return self.page.lines[self._top[0]] if self._top[0] < len(self.page.lines) else None

    def _rows_of(self, index: int) -> list[Row]:
        found = self._rows.get(index)
        if found is None:
            text = self.page.lines[index].shown.text
            found = self._rows[index] = rows(text, self.width if self.wrap else 0)
        return found

    def _walk(self, position: Position, by: int) -> tuple[Position, int]:
        """Where one comes by so many rows, and the rows that were missing."""
        index, row = position
        if not self.page.lines:
            return (0, 0), by
        while by < 0:
            if row > 0:
                step = min(row, -by)
                row, by = row - step, by + step
            elif index == 0:
                return (0, 0), by
            else:
                index, by = index - 1, by + 1
                row = len(self._rows_of(index)) - 1
        while by > 0:
            left = len(self._rows_of(index)) - 1 - row
            if left > 0:
                step = min(left, by)
                row, by = row + step, by - step
            elif index == len(self.page.lines) - 1:
                return (index, row), by
            else:
                index, row, by = index + 1, 0, by - 1
        return (index, row), 0

    def _bottom_top(self) -> Position:
        """The position from which the page's last row is the screen's last row."""
        if not self.page.lines:
            return 0, 0
        last = len(self.page.lines) - 1
        return self._walk((last, len(self._rows_of(last)) - 1), 1 - self.height)[0]

    def _settle(self) -> None:
        """No empty rows below the last line while there are lines above."""
        if self.page.lines:
            index = min(self._top[0], len(self.page.lines) - 1)
            row = min(self._top[1], len(self._rows_of(index)) - 1)
            self._top = min((index, row), self._bottom_top())
