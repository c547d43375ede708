"""A list of lines by Textual's line API: only what is visible is rendered, only what changed is painted again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from isobench_tui.tui.actions import LISTS, bindings
from isobench_tui.tui.views.line import Line, Lines, Plain
from isobench_tui.tui.widgets.component import component_style


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
        self._lines: Lines = Plain()
        self._shown: dict[int, Line] = {}
        """Lines as they were last rendered, by their place."""
        self._cursor = cursor
        self._at = 0
        self._key = ""

    @property
    def key(self) -> str:
        """Of the line under the cursor; empty where there is none."""
        return self._key

    @property
    def at_end(self) -> bool:
        """Whether the cursor stands on the last line, or there is none yet."""
        return not len(self._lines) or self._at == len(self._lines) - 1

    def show(self, lines: Lines | Sequence[Line]) -> None:
        """Show these lines instead. Nothing is painted that did not change."""
        new: Lines = Plain(lines) if isinstance(lines, tuple | list) else lines  # type: ignore[assignment]
        old, top = self._lines, self.scroll_offset.y
        anchor = next(((key, at - top) for at in range(top, len(old)) if (key := old.key(at))), None)
        followed = self._cursor and len(old) > 0 and top <= self._at < top + max(1, self.size.height)
        self._lines = new
        size = Size(new.width, len(new))
        if size != self.virtual_size:
            self.virtual_size = size
        self._keep_cursor()
        self._keep_view(anchor, top, followed=followed)
        if self.scroll_offset.y != top:
            self.refresh()
            return
        for y in range(self.size.height):
            if self._shown.get(top + y) != self._line(top + y):
                self.refresh(Region(0, y, self.size.width, 1))

    def _line(self, at: int) -> Line | None:
        return self._lines.line(at) if at < len(self._lines) else None

    def _keep_cursor(self) -> None:
        if not self._cursor:
            return
        where = self._find(self._key, self._at) if self._key else None
        if where is not None:
            if where != self._at:
                before, self._at = self._at, where
                self._paint(before, where)
            return
        before, self._at, self._key = self._at, 0, ""
        self._go(before, 1)

    def _keep_view(self, anchor: tuple[str, int] | None, top: int, *, followed: bool) -> None:
        """The line that was on top stays where it was; at the very top, what is new comes into view."""
        if anchor is None or top == 0:
            return
        key, offset = anchor
        where = self._find(key, top + offset)
        if where is not None and where - offset != top:
            self.scroll_to(y=max(0, where - offset), animate=False, immediate=True)
        if followed:
            self._into_view()

    def _find(self, key: str, near: int) -> int | None:
        """Most often it stands where it stood, and then not all lines are looked through."""
        if near < len(self._lines) and self._lines.key(near) == key:
            return near
        return self._lines.find(key)

    def choose(self, key: str) -> bool:
        """Put the cursor on a key, if it is there."""
        where = self._lines.find(key)
        if where is None:
            return False
        self._go(where, 1)
        return True

    def _go(self, at: int, step: int) -> None:
        """To the nearest line with a key from `at` on in the direction of `step`, else in the other one."""
        if not self._cursor or not len(self._lines):
            return
        at = min(max(at, 0), len(self._lines) - 1)
        ways = (range(at, len(self._lines)), range(at, -1, -1))
        for way in ways if step > 0 else reversed(ways):
            for where in way:
                if self._lines.key(where):
                    self._stand(where)
                    return

    def _stand(self, where: int) -> None:
        before, self._at = self._at, where
        self._paint(before, where)
        self._into_view()
        key = self._lines.key(where)
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
        heading = 1 if self._at > 0 and not self._lines.key(self._at - 1) else 0
        if self._at - heading < top:
            self.scroll_to(y=self._at - heading, animate=False, immediate=True)
        elif self._at >= top + height:
            self.scroll_to(y=self._at - height + 1, animate=False, immediate=True)

    def on_resize(self) -> None:
        if self._cursor and len(self._lines):
            self._into_view()

    def render_line(self, y: int) -> Strip:
        at, width = y + self.scroll_offset.y, self.size.width
        base = self.rich_style
        line = self._line(at)
        if line is None:
            self._shown.pop(at, None)
            return Strip.blank(width, base)
        if len(self._shown) > 4 * max(50, self.size.height):
            self._shown.clear()
        self._shown[at] = line
        style = base
        if line.marked:
            style = base + component_style(self, "lines--marked")
        text = line.text
        if self._cursor and at == self._at and line.key:
            cursor = component_style(self, "lines--cursor")
            style = style + cursor
            if cursor.color is not None:  # others could not be read on its ground
                text = text.copy()
                text.stylize(Style(color=cursor.color))
        strip = Strip(text.render(self.app.console), text.cell_len)
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
        if self._cursor and at < len(self._lines) and self._lines.key(at):
            if event.chain > 1:
                self.action_open()
            else:
                self._go(at, 1)
