"""A lazy pane that is one list of lines, made in a thread too: a large board has thousands of them."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.worker import Worker, WorkerState

from isobench_tui.tui.views.line import Line, Plain
from isobench_tui.tui.views.words import DIM
from isobench_tui.tui.widgets.lazy import LazyPane, Loader
from isobench_tui.tui.widgets.lines import LineList

Found = TypeVar("Found")


class LazyList(LazyPane[Found | None]):
    """`lines` says what the list shows of what was found in so many cells; a pure function, called in a thread."""

    cursor: ClassVar[bool] = True
    nothing: ClassVar[str] = "no job is chosen"
    """What stands there where nothing was found."""

    def __init__(self, load: Loader[Found | None], *, id: str) -> None:
        super().__init__(load, id=id)
        self.found: Found | None = None
        self.list = LineList(cursor=self.cursor)
        self._width = 0
        """Cells that the lines were made for."""

    def lines(self, found: Found, width: int) -> tuple[Line, ...]:
        """What to show; each pane says what."""
        return ()

    def placed(self, lines: tuple[Line, ...]) -> None:
        """Called once these lines are shown."""

    def compose_pane(self) -> ComposeResult:
        yield self.list

    def on_mount(self) -> None:
        self.list.show((Line(Text("reading …", DIM)),))

    @property
    def room(self) -> int:
        """Cells of a line, beside the scrollbar."""
        return self.list.scrollable_content_region.width

    def on_resize(self) -> None:
        if self.room != self._width:
            self.redraw()

    def draw(self, found: Found | None) -> None:
        self.found = found
        if found is None:
            self.list.show((Line(Text(self.nothing, DIM)),))
        self.redraw()

    def _make(self, found: Found, width: int) -> Plain:
        made = Plain(self.lines(found, width))
        _ = made.width  # of thousands of lines it takes a while: better here than in the loop
        return made

    def redraw(self) -> None:
        """Make the lines anew: the room or the pane's settings are others."""
        width, found = self.room, self.found
        if found is None or not width:
            return
        self._width = width
        self.run_worker(
            lambda: self._make(found, width),
            thread=True,
            exclusive=True,
            exit_on_error=False,
            name="lines",
            group="lines",
        )

    @on(Worker.StateChanged)
    def _lines_made(self, event: Worker.StateChanged) -> None:
        if event.worker.name != "lines" or event.worker.node is not self:
            return
        event.stop()
        if event.state is WorkerState.SUCCESS:
            made = event.worker.result
            assert isinstance(made, Plain)
            self.list.show(made)
            self.placed(tuple(made.lines))
        elif event.state is WorkerState.ERROR:
            self.trouble(f"cannot show this: {type(event.worker.error).__name__}: {event.worker.error}")
