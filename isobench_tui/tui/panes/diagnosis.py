"""Why the chosen job ended as it did; the lines that prove it can be opened in the log."""

from __future__ import annotations

from typing import ClassVar

from textual import on

from isobench_tui.report.why import Story
from isobench_tui.tui.actions import DIAGNOSIS, allowed, bindings
from isobench_tui.tui.messages import ShowLog, Steer
from isobench_tui.tui.views.diagnosis import lines, place, proven
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.widgets.lazy import Loader
from isobench_tui.tui.widgets.lazy_list import LazyList
from isobench_tui.tui.widgets.lines import LineList


class DiagnosisPane(LazyList[Story]):
    """The story of one job. Read again when an attempt moves, or an event tells of what the policy did."""

    BINDINGS: ClassVar = bindings(DIAGNOSIS)
    watches: ClassVar = ("jobs", "attempts")

    def __init__(self, load: Loader[Story | None], *, id: str, readonly: bool) -> None:
        super().__init__(load, id=id)
        self._readonly = readonly

    def lines(self, found: Story, width: int) -> tuple[Line, ...]:
        return lines(found, width)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        readonly = self._readonly or (self._snapshot is not None and not self._snapshot.writable)
        return allowed(DIAGNOSIS, action, readonly=readonly)

    def action_log(self) -> None:
        """The line of the newest diagnosis; without one, the newest attempt's log."""
        where = proven(self.found) if self.found else None
        if where is not None:
            self.post_message(ShowLog(*where))

    def action_retry(self) -> None:
        if self.found is not None:
            self.post_message(Steer("retry", (self.found.job,)))

    @on(LineList.Opened)
    def _opened(self, event: LineList.Opened) -> None:
        event.stop()
        where = place(event.key)
        if where is not None:
            self.post_message(ShowLog(*where))
