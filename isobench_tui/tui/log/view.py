"""The lines of a log on the screen, by Textual's line API: what is visible is drawn, what changed is painted.

It knows no file: it is given states, and says which page it would like to have.
"""

from __future__ import annotations

import time
from typing import ClassVar

from rich.console import Console
from rich.style import Style
from rich.text import Text
from textual.events import Click, MouseScrollDown, MouseScrollUp, Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from isobench_tui.tui.log.page import Key, Line
from isobench_tui.tui.log.scroller import Scroller, VisibleRow
from isobench_tui.tui.log.state import ALL, State
from isobench_tui.tui.log.wrap import index_at
from isobench_tui.tui.widgets.component import component_style

_WHEEL = 3
_SIDE = 16
"""Cells of one step to the side."""
_CACHED = 400
"""Drawn rows that are kept."""


class LogView(Widget, can_focus=True):
    """See the module."""

    DEFAULT_CSS = """
    LogView { height: 1fr; background: $background; }
    LogView > .log--gutter { color: $text-muted; }
    LogView > .log--mark { color: $warning; text-style: bold; }
    LogView > .log--point { text-style: bold; background: $primary 30%; }
    LogView > .log--hit { text-style: reverse; }
    LogView > .log--bar { color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--gutter", "log--mark", "log--point", "log--hit", "log--bar"}

    class Wanted(Message):
        """Another page is needed: around a line, or (`at` None) the end."""

        def __init__(self, at: int | None, before: int, after: int) -> None:
            super().__init__()
            self.at, self.before, self.after = at, before, after

    class Moved(Message):
        """Other lines are on the screen, or it follows or no longer does."""

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogView.Moved)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._scroller = Scroller()
        self._state = State()
        self.wrapped = True
        self.times = False
        self.marks: set[Key] = set()
        self._point: Key | None = None
        self._side = 0
        self._jump = 0
        self._asked: int | None = None
        self._rows: list[VisibleRow] = []
        self._drawn: list[object] = []
        self._strips: dict[object, Strip] = {}
        self._gutter = 0

    # -- what is shown

    def show(self, state: State) -> None:
        """Show a state; nothing is painted that did not change."""
        old, self._state = self._state, state
        if state.opened != old.opened:
            self._scroller.to_end()
            self._point, self._side = None, 0
        if (state.opened, state.generation) != (old.opened, old.generation) or state.page.at == self._asked:
            self._asked = None
        jumps = state.jump is not None and state.jump.number > self._jump and state.page.at == state.jump.at
        if state.page is not self._scroller.page and ((state.page.at is None) == self._scroller.follow or jumps):
            # a page of the end that was on its way while one scrolled up is not what is wanted any more
            self._scroller.show(state.page)
        if jumps:
            self._make_jump()
        self._arrange()

    def _make_jump(self) -> None:
        jump = self._state.jump
        assert jump is not None
        self._jump = jump.number
        if self._scroller.put(jump.at):
            self._point = next(line.key for line in self._state.page.lines if line.at >= jump.at)

    def _arrange(self) -> None:
        """Lay the rows out anew and paint those that differ."""
        self._gutter = self._gutter_width()
        room = self.size.width - self._gutter - 1
        self._scroller.resize(room, self.size.height, wrap=self.wrapped)
        self._rows = self._scroller.visible()
        drawn: list[object] = [self._row_key(y) for y in range(self.size.height)]
        changed = [y for y, key in enumerate(drawn) if y >= len(self._drawn) or key != self._drawn[y]]
        self._drawn = drawn
        if len(changed) > self.size.height // 2:
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))
        if changed:
            self.post_message(self.Moved())
        self._ask()

    def _ask(self) -> None:
        needed, at = self._scroller.wants()
        if needed and self._asked != at:
            self._asked = at
            self.post_message(self.Wanted(at, 3 * self.size.height, 4 * self.size.height))

    # -- drawing

    def _gutter_width(self) -> int:
        lines = self._state.page.lines
        if not lines:
            return 0
        if self._state.name == ALL:
            label = max(len(name.removesuffix(".log")) for name in (*self._state.names, lines[0].key[0]))
        elif lines[0].number is None:
            label = len(str(self._state.size // 80))  # about what it will need
        else:
            label = max(4, len(str(max(self._state.lines, lines[-1].number or 0))))
        return 1 + label + 1 + (9 if self.times else 0)

    def _row_key(self, y: int) -> object:
        """All that decides how a row looks."""
        bar = self._thumb(y)
        if y >= len(self._rows):
            return (bar,)
        row = self._rows[y]
        line = row.line
        return (
            line.key, line.number, line.when if self.times else None, line.shown, line.hits, row.start, row.end,
            line.key in self.marks, line.key == self._point, self._side, self._gutter, bar,
        )  # fmt: skip

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        if y >= len(self._drawn) or width <= 0:
            return Strip.blank(width, base)
        key = self._drawn[y]
        found = self._strips.get(key)
        if found is None:
            if len(self._strips) > _CACHED:
                self._strips.clear()
            found = self._strips[key] = self._draw(y, width, base)
        return found

    def _draw(self, y: int, width: int, base: Style) -> Strip:
        text = Text(no_wrap=True, end="")
        style = base
        if y < len(self._rows):
            row = self._rows[y]
            if row.line.key == self._point:
                style = base + component_style(self, "log--point")
            text = self._gutter_text(row)
            text.append_text(self._row_text(row, width - self._gutter - 1))
        console: Console = self.app.console
        strip = Strip(text.render(console)).adjust_cell_length(width - 1, style).apply_style(style)
        bar = Text("█" if self._thumb(y) else " ", component_style(self, "log--bar"), end="")
        return Strip([*strip, *Strip(bar.render(console)).apply_style(base)], width)

    def _gutter_text(self, row: VisibleRow) -> Text:
        text = Text(no_wrap=True, end="")
        if not row.first:
            return text.append(" " * self._gutter)
        line = row.line
        mark = component_style(self, "log--mark")
        sign = "*" if line.key in self.marks else ">" if line.key == self._point else " "
        text.append(sign, mark)
        label = str(line.number or "")
        when = ""
        if self.times:
            clock = "" if line.when is None else time.strftime("%H:%M:%S", time.localtime(line.when))
            when = clock.ljust(9)
        room = self._gutter - 2 - len(when)
        if self._state.name == ALL:
            label = line.key[0].removesuffix(".log").ljust(room)
        text.append(f"{when}{label[:room].rjust(room)} ", component_style(self, "log--gutter"))
        return text

    def _row_text(self, row: VisibleRow, width: int) -> Text:
        shown = row.line.shown
        start, end = row.start, row.end
        if not self.wrapped:
            start = index_at(shown.text, self._side)
            end = min(end, start + width)
        text = Text(shown.text[start:end], no_wrap=True, end="")
        for first, last, style in shown.styles:
            if first < end and last > start:
                text.stylize(style, max(0, first - start), last - start)
        hit = component_style(self, "log--hit")
        for first, last in row.line.hits:
            if first < end and last > start:
                text.stylize(hit, max(0, first - start), last - start)
        if shown.more and end >= len(shown.text):
            text.append(f" … {shown.more:,} more", component_style(self, "log--mark"))
        return text

    def _thumb(self, y: int) -> bool:
        """Whether the scroll bar stands at this row of the screen."""
        size, height = self._state.size, self.size.height
        if not self._rows or not size or height <= 0:
            return False
        top, end = self._rows[0].line.at / size, self._rows[-1].line.end / size
        if top == 0 and end == 1:
            return False
        first = (
            min(height - 1, int(top * height))
            if not self._scroller.follow
            else height - max(1, int((end - top) * height))
        )
        return first <= y <= max(first, int(end * height) - 1 if end < 1 else height - 1)

    # -- moving

    @property
    def follow(self) -> bool:
        return self._scroller.follow

    @property
    def lines(self) -> list[Line]:
        """On the screen, from the top."""
        return [row.line for at, row in enumerate(self._rows) if at == 0 or row.line is not self._rows[at - 1].line]

    @property
    def here(self) -> Line | None:
        """The line found last if it is on the screen, else the first one there."""
        lines = self.lines
        return next((line for line in lines if line.key == self._point), lines[0] if lines else None)

    def move(self, rows: int) -> None:
        """Scroll; at the end of the log it follows again."""
        before = self._scroller.follow
        self._scroller.move(rows)
        self._turned(before)

    def _turned(self, before: bool) -> None:
        """Ask for other pages where it began or ceased to follow."""
        if self._scroller.follow != before:
            lines = self.lines
            if self._scroller.follow or not lines:
                self.post_message(self.Wanted(None, self._end_page, 0))
            else:
                self._asked = lines[0].at
                self.post_message(self.Wanted(self._asked, 3 * self.size.height, 4 * self.size.height))
            self.post_message(self.Moved())
        self._arrange()

    @property
    def _end_page(self) -> int:
        """Lines that are asked for while the end is followed."""
        return 2 * max(10, self.size.height)

    def to_end(self) -> None:
        before = self._scroller.follow
        self._scroller.to_end()
        self._turned(before)

    def stay(self) -> None:
        """Follow no more."""
        before = self._scroller.follow
        self._scroller.stay()
        self._turned(before)

    def sideways(self, by: int) -> None:
        """Lines that are not wrapped move to the side."""
        if not self.wrapped:
            self._side = max(0, self._side + by * _SIDE)
            self._arrange()

    def toggle_wrap(self) -> None:
        self.wrapped, self._side = not self.wrapped, 0
        self._arrange()

    def toggle_times(self) -> None:
        self.times = not self.times
        self._arrange()

    def toggle_mark(self) -> None:
        """Mark the line `here`, or take its mark off."""
        if (line := self.here) is not None:
            self.marks ^= {line.key}
            self._arrange()

    def unmark(self) -> None:
        self.marks = set()
        self._arrange()

    def on_resize(self, event: Resize) -> None:
        self._strips.clear()
        self._drawn = []
        if self._scroller.follow:
            self.post_message(self.Wanted(None, self._end_page, 0))
        self._arrange()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.move(_WHEEL)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.move(-_WHEEL)

    def on_click(self, event: Click) -> None:
        """The mouse is optional: a click on a line makes it the one that is marked."""
        if 0 <= event.y < len(self._rows):
            self._point = self._rows[int(event.y)].line.key
            self._arrange()
