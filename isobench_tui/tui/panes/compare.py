"""The task of the chosen job: its sides beside each other, their trials, what differed, the patches."""

from __future__ import annotations

from typing import ClassVar

from isobench_tui.report.taskview import TaskView
from isobench_tui.tui.actions import COMPARE, bindings
from isobench_tui.tui.views.compare import lines
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.widgets.lazy import Loader
from isobench_tui.tui.widgets.lazy_list import LazyList


class ComparePane(LazyList[TaskView]):
    """A text to scroll through."""

    BINDINGS: ClassVar = bindings(COMPARE)
    cursor: ClassVar = False

    def __init__(self, load: Loader[TaskView | None], *, id: str) -> None:
        super().__init__(load, id=id)
        self._patches: tuple[int, ...] = ()
        """Lines at which patches begin."""

    def lines(self, found: TaskView, width: int) -> tuple[Line, ...]:
        return lines(found, width)

    def placed(self, lines: tuple[Line, ...]) -> None:
        self._patches = tuple(at for at, line in enumerate(lines) if line.key)

    def action_patch(self) -> None:
        """To the first patch below the top of the view; after the last one to the first again."""
        top, last = self.list.scroll_offset.y, self.list.max_scroll_y
        below = [at for at in self._patches if at > top and top < last]
        for at in (below or self._patches)[:1]:
            self.list.scroll_to(y=at, animate=False)
