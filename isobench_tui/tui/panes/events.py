"""The story of the run, newest at the bottom."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult

from isobench_tui.report.text import clock, safe
from isobench_tui.tui.snapshot import Event
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.views.words import DIM
from isobench_tui.tui.widgets.lazy import LazyPane
from isobench_tui.tui.widgets.lines import LineList


class EventsPane(LazyPane[tuple[Event, ...]]):
    """Every event on one line; follows the end while the cursor stands on it."""

    watches: ClassVar = ("events",)
    by_job: ClassVar = False
    every_s: ClassVar = 0.5

    def compose_pane(self) -> ComposeResult:
        yield LineList(id="events-list")

    def draw(self, found: tuple[Event, ...]) -> None:
        shown = self.query_one(LineList)
        at_end = shown.at_end
        shown.show(tuple(Line(_line(event), str(event.id)) for event in found))
        if at_end and found:
            shown.choose(str(found[-1].id))


def _line(event: Event) -> Text:
    text = Text(f"{clock(event.at)} ", DIM, no_wrap=True)
    text.append(safe(event.text), "")
    if event.actor != "runner":
        text.append(f"  ({safe(event.actor)})", DIM)
    return text
