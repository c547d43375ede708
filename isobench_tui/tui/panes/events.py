"""The story of the run, newest at the bottom; follows the end while the cursor stands on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.widgets import Static

from isobench_tui.store.events import Event, Wanted
from isobench_tui.tui.actions import EVENTS, bindings
from isobench_tui.tui.dialogs.prompt import Prompt
from isobench_tui.tui.views.events import OLDER, lines, title
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.widgets.lazy_list import LazyList
from isobench_tui.tui.widgets.lines import LineList

PAGE = 500
"""Events that are read at first, and that each step into the past adds."""


@dataclass(frozen=True, slots=True)
class EventsPage:
    """The newest events that are wanted, oldest first."""

    wanted: Wanted
    events: tuple[Event, ...]
    older: bool
    """There are more before the first of them."""
    kinds: tuple[str, ...]
    """Of all events, not only of these."""


ReadEvents = Callable[[Wanted, int], EventsPage]
"""Reads the newest events that are wanted, at most so many; called in a thread."""


class EventsPane(LazyList[EventsPage]):
    """Filtered by words, by kind and by the chosen job; enter on the topmost line reads older ones."""

    BINDINGS: ClassVar = bindings(EVENTS)
    watches: ClassVar = ("events",)
    by_job: ClassVar = False
    every_s: ClassVar = 0.5

    def __init__(self, read: ReadEvents, *, id: str) -> None:
        super().__init__(lambda _: read(self._only, self._most), id=id)
        self._only = Wanted()
        self._title = Static(id="events-only", markup=False)
        self._most = PAGE
        self._whose = ""
        """Of the job that `_only` names."""
        self._to_end = True
        """What is read next is shown from its end."""
        self._stand = ""
        """Where to put the cursor once new lines are there."""

    def lines(self, found: EventsPage, width: int) -> tuple[Line, ...]:
        return lines(found.events, width, older=found.older)

    def compose_pane(self) -> ComposeResult:
        yield self._title
        yield from super().compose_pane()

    def draw(self, found: EventsPage | None) -> None:
        at_end, self._to_end = self._to_end or self.list.at_end, False
        if at_end and found and found.events:  # also where lines of an earlier reading are still being made
            self._stand = str(found.events[-1].id)
        super().draw(found)

    def placed(self, lines: tuple[Line, ...]) -> None:
        if self._stand:
            self.list.choose(self._stand)
            self._stand = ""

    def _want(self, only: Wanted) -> None:
        """Others than before, from their end."""
        self._only, self._most, self._to_end, self._stand = only, PAGE, True, ""
        words = title(only, self._whose)
        self._title.display = bool(words)
        self._title.update(words)
        self.reload()

    def action_kind(self) -> None:
        kinds = ("", *(self.found.kinds if self.found else ()))
        at = kinds.index(self._only.kind) if self._only.kind in kinds else 0
        self._want(replace(self._only, kind=kinds[(at + 1) % len(kinds)]))

    def action_mine(self) -> None:
        job = self._selection.job
        if self._only.job or job is None:
            self._want(replace(self._only, job=""))
            return
        self._whose = job.name
        self._want(replace(self._only, job=job.id))

    def action_all(self) -> None:
        if self._only != Wanted():
            self._want(Wanted())
        elif self.screen.maximized is not None:
            self.screen.minimize()

    @work
    async def action_words(self) -> None:
        words = await self.app.push_screen_wait(
            Prompt("Only events with these words", self._only.text, "patch_crash")
        )
        if words is not None:
            self._want(replace(self._only, text=words.strip()))

    @on(LineList.Opened)
    def _opened(self, event: LineList.Opened) -> None:
        event.stop()
        if event.key == OLDER and self.found is not None:
            self._most += PAGE
            self._stand = str(self.found.events[0].id)
            self.reload()
