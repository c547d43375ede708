"""A list of lines by Textual's line API: only what is visible is rendered, only what changed is painted again."""

from __future__ import annotations

from typing import ClassVar

from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from isobench_tui.tui.actions import LISTS, bindings
from isobench_tui.tui.views.line import Line


class LineList(ScrollView, can_focus=True):
    """Lines with a cursor that stays on its key, and a view that stays on its lines, whatever is shown next.

    `cursor=False` makes it a plain scrolling text.
    """

    BINDINGS: ClassVar = bindings(LISTS)
    COMPONENT_CLASSES: ClassVar[set[str]] = {"lines--cursor", "lines--marked"}

    class Moved(Message):
        """The cursor stands on another key."""

        def __init__(self, sender: LineList, key: str) -> None:
            super().__init__()
            self.list = sender
            self.key = key

        @property
        def control(self) -> LineList:
            return self.list

    class Opened(Moved):
        """Enter was pressed on a key."""

    def __init__(self, *, cursor: bool = True, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: tuple[Line, ...] = ()
        self._cursor = cursor
        self._at = 0
        self._key = ""

    @property
    def key(self) -> str:
        """Of the line under the cursor; empty where there is none."""
        return self._key

    @property
    def lines(self) -> tuple[Line, ...]:
        return self._lines

    def show(self, lines: tuple[Line, ...]) -> None:
        """Show these lines instead. Nothing is painted that did not change."""
        old, top = self._lines, self.scroll_offset.y
        anchor = next(((line.key, at - top) for at, line in enumerate(old[top:], top) if line.key), None)
        followed = self._cursor and bool(old) and top <= self._at < top + max(1, self.size.height)
        self._lines = lines
        width = max((line.text.cell_len for line in lines), default=0)
        size = Size(width, len(lines))
        if size != self.virtual_size:
            self.virtual_size = size
        self._keep_cursor(lines)
        self._keep_view(anchor, top, followed=followed)
        if self.scroll_offset.y != top:
            self.refresh()
            return
        for y in range(self.size.height):
            at = top + y
            if (old[at] if at < len(old) else None) != (lines[at] if at < len(lines) else None):
                self.refresh(Region(0, y, self.size.width, 1))

    def _keep_cursor(self, lines: tuple[Line, ...]) -> None:
        if not self._cursor:
            return
        where = next((at for at, line in enumerate(lines) if line.key and line.key == self._key), None)
        if where is not None:
            if where != self._at:
                before, self._at = self._at, where
                self._paint(before, where)
            return
        self._at, self._key = 0, ""
        self._go(self._at, 1)

    def _keep_view(self, anchor: tuple[str, int] | None, top: int, *, followed: bool) -> None:
        """The line that was on top stays where it was; at the very top, what is new comes into view."""
        if anchor is None or top == 0:
            return
        key, offset = anchor
        where = next((at for at, line in enumerate(self._lines) if line.key == key), None)
        if where is not None and where - offset != top:
            self.scroll_to(y=max(0, where - offset), animate=False, immediate=True)
        if followed:
            self._into_view()

    def choose(self, key: str) -> bool:
        """Put the cursor on a key, if it is there."""
        where = next((at for at, line in enumerate(self._lines) if line.key == key), None)
        if where is None:
            return False
        self._go(where, 1)
        return True

    def _go(self, at: int, step: int) -> None:
        """To the nearest line with a key from `at` on in the direction of `step`, else in the other one."""
        if not self._cursor or not self._lines:
            return
        at = min(max(at, 0), len(self._lines) - 1)
        ways = (range(at, len(self._lines)), range(at, -1, -1))
        for way in ways if step > 0 else reversed(ways):
            for where in way:
                if self._lines[where].key:
                    self._stand(where)
                    return

    def _stand(self, where: int) -> None:
        before, self._at = self._at, where
        self._paint(before, where)
        self._into_view()
        key = self._lines[where].key
        if key != self._key:
            self._key = key
            self.post_message(self.Moved(self, key))

    def _paint(self, *lines: int) -> None:
        for at in lines:
            y = at - self.scroll_offset.y
            if 0 <= y < self.size.height:
                self.refresh(Region(0, y, self.size.width, 1))

    def _into_view(self) -> None:
        height = max(1, self.scrollable_content_region.height or self.size.height)
        top = self.scroll_offset.y
        heading = 1 if self._at > 0 and not self._lines[self._at - 1].key else 0
        if self._at - heading < top:
            self.scroll_to(y=self._at - heading, animate=False, immediate=True)
        elif self._at >= top + height:
            self.scroll_to(y=self._at - height + 1, animate=False, immediate=True)

    def on_resize(self) -> None:
        if self._cursor and self._lines:
            self._into_view()

    def render_line(self, y: int) -> Strip:
        at, width = y + self.scroll_offset.y, self.size.width
        base = self.rich_style
        if at >= len(self._lines):
            return Strip.blank(width, base)
        line = self._lines[at]
        style = base
        if line.marked:
            style = base + self.get_component_rich_style("lines--marked", partial=True)
        if self._cursor and at == self._at and line.key:
            style = style + self.get_component_rich_style("lines--cursor", partial=True)
        strip = Strip(line.text.render(self.app.console), line.text.cell_len)
        left = self.scroll_offset.x
        return strip.crop_extend(left, left + width, style).apply_style(style)

    def action_up(self) -> None:
        self._step(-1)

    def action_down(self) -> None:
        self._step(1)

    def action_page_up(self) -> None:
        self._step(-max(1, self.size.height - 1))

    def action_page_down(self) -> None:
        self._step(max(1, self.size.height - 1))

    def action_first(self) -> None:
        if self._cursor:
            self._go(0, 1)
        self.scroll_to(y=0, animate=False)

    def action_last(self) -> None:
        if self._cursor:
            self._go(len(self._lines) - 1, -1)
        else:
            self.scroll_to(y=self.max_scroll_y, animate=False)

    def action_left(self) -> None:
        self.scroll_relative(x=-8, animate=False)

    def action_right(self) -> None:
        self.scroll_relative(x=8, animate=False)

    def action_open(self) -> None:
        if self._key:
            self.post_message(self.Opened(self, self._key))

    def _step(self, by: int) -> None:
        if self._cursor:
            self._go(self._at + by, by)
        else:
            self.scroll_relative(y=by, animate=False)

    def on_click(self, event: Click) -> None:
        """The mouse is optional: a click chooses a line, a second one opens it."""
        at = int(event.y) + self.scroll_offset.y
        if self._cursor and at < len(self._lines) and self._lines[at].key:
            if event.chain > 1:
                self.action_open()
            else:
                self._go(at, 1)
