"""A pane whose content is read when somebody looks at it: in a thread, with its failure shown in the pane."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from isobench_tui.store.query import Revisions
from isobench_tui.tui.snapshot import Selection, Snapshot

Found = TypeVar("Found")
Loader = Callable[[Selection], Found]
"""Reads what a pane shows; called in a thread, may take long, may raise."""


class LazyPane(Vertical, Generic[Found]):
    """`draw` shows what `load` found. Read again when a counter of `watches` moved, or another job was chosen."""

    watches: ClassVar[tuple[str, ...]] = ("jobs", "attempts")
    by_job: ClassVar[bool] = True
    """Whether what is shown depends on the chosen job."""
    every_s: ClassVar[float] = 2.0
    """Not read more often than this while the store moves; another job is read at once."""

    def __init__(self, load: Loader[Found], *, id: str) -> None:
        super().__init__(id=id)
        self._load = load
        self._trouble = Static(id="trouble", markup=False)
        self._snapshot: Snapshot | None = None
        self._selection = Selection()
        self._shown: tuple[object, ...] | None = None
        self._wanted: tuple[object, ...] | None = None
        self._rest = False

    def compose_pane(self) -> ComposeResult:
        """The pane's own widgets; none unless a pane says otherwise."""
        return ()

    def draw(self, found: Found) -> None:
        """Show what was found; each pane says how."""

    def compose(self) -> ComposeResult:
        yield self._trouble
        yield from self.compose_pane()

    def tell(self, snapshot: Snapshot, selection: Selection) -> None:
        """What the dashboard knows now; nothing is read while nobody looks."""
        other = (
            self.by_job
            and selection.job != self._selection.job
            and (selection.job is None or self._selection.job is None or selection.job.id != self._selection.job.id)
        )
        self._snapshot, self._selection = snapshot, selection
        self.look(at_once=other)

    def reload(self) -> None:
        """Read again though nothing moved: the pane's own settings did."""
        self._shown = None
        self.look(at_once=True)

    def look(self, *, at_once: bool = False) -> None:
        """Read what is new, if the pane is seen."""
        if self._snapshot is None or not self.is_mounted or not self._seen():
            return
        key = self._key(self._snapshot.revisions)
        if key == self._shown or (self._rest and not at_once):
            return
        self._wanted, self._rest = key, True
        self.set_timer(self.every_s, self._rested)
        selection = self._selection
        self.run_worker(lambda: self._load(selection), thread=True, exclusive=True, exit_on_error=False, name="load")

    def _seen(self) -> bool:
        return self.display and all(getattr(widget, "display", True) for widget in self.ancestors)

    def _rested(self) -> None:
        self._rest = False
        self.look()

    def _key(self, moved: Revisions) -> tuple[object, ...]:
        job = self._selection.job
        of_job = (job.id, job.attempt) if job and self.by_job else ()
        return (*(getattr(moved, name) for name in self.watches), *of_job)

    @on(Worker.StateChanged)
    def _worker_moved(self, event: Worker.StateChanged) -> None:
        if event.worker.name != "load" or event.worker.node is not self:
            return
        event.stop()
        if event.state is WorkerState.SUCCESS:
            self._shown = self._wanted
            self.trouble("")
            self.draw(event.worker.result)  # type: ignore[arg-type]
        elif event.state is WorkerState.ERROR:
            self._shown = self._wanted  # tried again when something moves
            error = event.worker.error
            self.trouble(f"cannot show this: {type(error).__name__}: {error}")

    def trouble(self, text: str) -> None:
        """Say what is wrong above what is shown; empty once nothing is."""
        self._trouble.display = bool(text)
        self._trouble.update(text)
