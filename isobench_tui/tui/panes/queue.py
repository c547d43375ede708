"""The queue: a live list of jobs with marks, a filter, and the keys that steer."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from isobench_tui.tui.actions import QUEUE, allowed, bindings
from isobench_tui.tui.dialogs.prompt import Prompt
from isobench_tui.tui.messages import JobChosen, OpenJob, Steer
from isobench_tui.tui.snapshot import Clock, Job, Snapshot
from isobench_tui.tui.views.queue import QueueLines, matches
from isobench_tui.tui.widgets.lines import LineList


class QueuePane(Vertical):
    """Shows the jobs of a snapshot; the cursor and the marks stay on their jobs whatever arrives."""

    BINDINGS: ClassVar = bindings(QUEUE)
    ALLOW_MAXIMIZE = True

    def __init__(self, clock: Clock, *, id: str, readonly: bool, grouped: bool = True) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._readonly = readonly
        self._snapshot: Snapshot | None = None
        self._marked: frozenset[str] = frozenset()
        self._filter = ""
        self.list = LineList(id="queue-list")
        self._heading = Static(id="queue-heading", markup=False)
        self._headed = Text()
        self._said = "", ""
        self._grouped = grouped
        self._follows = True
        """The cursor goes with what runs, until the operator moves it."""
        self._followed = ""

    def compose(self) -> ComposeResult:
        yield self._heading
        yield self.list

    @property
    def chosen(self) -> tuple[Job, ...]:
        """The marked jobs, else the one under the cursor."""
        keys = self._marked or {self.list.key}
        return tuple(job for job in self._jobs if job.id in keys)

    @property
    def under(self) -> Job | None:
        return self._snapshot.job(self.list.key) if self._snapshot else None

    @property
    def _jobs(self) -> tuple[Job, ...]:
        return self._snapshot.jobs if self._snapshot else ()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        readonly = self._readonly or (self._snapshot is not None and not self._snapshot.writable)
        return allowed(QUEUE, action, readonly=readonly)

    def choose(self, job: str) -> None:
        """Put the cursor on a job, also on one that the filter left out."""
        if not self.list.choose(job) and self._filter:
            self._filter = ""
            self.draw()
            self.list.choose(job)

    def tell(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._marked = frozenset(key for key in self._marked if key in snapshot.places)
        self.draw()
        if self._follows:
            self._stand_on_what_runs(snapshot)

    def draw(self) -> None:
        """Show the rows that the filter leaves, as wide as the pane is."""
        if self._snapshot is None:
            return
        width = self.list.size.width or self.size.width
        found = [job for job in self._jobs if matches(job, self._filter)] if self._filter else self._jobs
        rows = QueueLines(found, self._clock(), width, self._marked, self._grouped)
        self.list.show(rows)
        if rows.heading != self._headed:
            self._headed = rows.heading
            self._heading.update(rows.heading)
        title = f"Queue {len(found)}/{len(self._jobs)}"
        notes = ["follows what runs"] if self._follows else []
        notes += [f"filter: {self._filter}"] if self._filter else []
        notes += [f"{len(self._marked)} marked"] if self._marked else []
        self._say(title, "  ".join(notes).replace("[", "\\["))

    def _say(self, title: str, subtitle: str) -> None:
        """On the border. To set what is there already would paint the whole pane anew."""
        if (title, subtitle) != self._said:
            self._said = title, subtitle
            self.border_title, self.border_subtitle = title, subtitle

    def on_resize(self) -> None:
        self.draw()

    def _stand_on_what_runs(self, snapshot: Snapshot) -> None:
        running = [one.job for one in snapshot.running]
        if running and self._followed not in running and self.list.choose(running[0]):
            self._followed = running[0]

    @on(LineList.Moved)
    def _moved(self, event: LineList.Moved) -> None:
        event.stop()
        if isinstance(event, LineList.Opened):
            return
        if self._followed and event.key != self._followed:
            self._follows = False
            self.draw()
        self.post_message(JobChosen(event.key))

    @on(LineList.Opened)
    def _opened(self, event: LineList.Opened) -> None:
        event.stop()
        self.post_message(OpenJob(event.key))

    def action_mark(self) -> None:
        key = self.list.key
        if key:
            self._marked ^= {key}
            self.list.action_down()
            self.draw()

    def action_unmark(self) -> None:
        if self._marked or self._filter:
            self._marked, self._filter = frozenset(), "" if not self._marked else self._filter
            self.draw()
        elif self.screen.maximized is not None:
            self.screen.minimize()

    def action_follow(self) -> None:
        self._follows, self._followed = not self._follows, ""
        if self._snapshot is not None:
            self.tell(self._snapshot)

    def action_group(self) -> None:
        self._grouped = not self._grouped
        self.draw()

    @work
    async def action_filter(self) -> None:
        words = await self.app.push_screen_wait(
            Prompt("Only rows with these words; !word leaves rows out", self._filter, "failed agent !a3223766")
        )
        if words is not None:
            self._filter = words.strip()
            self.draw()

    def _steer(self, action: str) -> None:
        self.post_message(Steer(action, tuple(job.id for job in self.chosen)))

    def action_skip(self) -> None:
        self._steer("skip")

    def action_skip_commit(self) -> None:
        self._steer("skip_commit")

    def action_retry(self) -> None:
        self._steer("retry")

    def action_hold(self) -> None:
        self._steer("hold")

    def action_first(self) -> None:
        self._steer("first")

    def action_last(self) -> None:
        self._steer("last")

    def action_after(self) -> None:
        self._steer("after")
