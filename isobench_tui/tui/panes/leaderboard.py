"""The leaderboard: sorted as the operator likes; a side opens its comparison, a failure its diagnosis."""

from __future__ import annotations

from typing import ClassVar

from textual import on

from isobench_tui.report.leaderboard import KEYS, Board, Key
from isobench_tui.tui.actions import LEADERBOARD, bindings
from isobench_tui.tui.messages import OpenJob
from isobench_tui.tui.views.leaderboard import job_of, lines
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.widgets.lazy import Loader
from isobench_tui.tui.widgets.lazy_list import LazyList
from isobench_tui.tui.widgets.lines import LineList


class LeaderboardPane(LazyList[Board]):
    """Read again when a job or an attempt ended, not more often than every five seconds: it reads all of them."""

    BINDINGS: ClassVar = bindings(LEADERBOARD)
    by_job: ClassVar = False
    every_s: ClassVar = 5.0

    def __init__(self, load: Loader[Board | None], *, id: str) -> None:
        super().__init__(load, id=id)
        self._by: Key = "rank"
        self._backwards = False

    def lines(self, found: Board, width: int) -> tuple[Line, ...]:
        return lines(found, width, self._by, reverse=self._backwards)

    def action_sort(self) -> None:
        self._by = KEYS[(KEYS.index(self._by) + 1) % len(KEYS)]
        self.redraw()

    def action_reverse(self) -> None:
        self._backwards = not self._backwards
        self.redraw()

    @on(LineList.Opened)
    def _opened(self, event: LineList.Opened) -> None:
        event.stop()
        job, apart = job_of(event.key)
        self.post_message(OpenJob(job, "diagnosis" if apart else "compare"))
