"""The log pane: the logs of one attempt with everything that can be done to them. It knows no database."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Hide, Show
from textual.message import Message
from textual.widgets import Input, Static
from textual.worker import Worker, WorkerState, get_current_worker

from isobench_tui.tui.actions import LOG, bindings
from isobench_tui.tui.log.match import BadPattern, Errors, Inverse, Matcher, compile_pattern
from isobench_tui.tui.log.place import HINT, BadPlace, ToLine, ToShare, parse_place
from isobench_tui.tui.log.reader import LogReader
from isobench_tui.tui.log.state import ALL, State, Written
from isobench_tui.tui.log.view import LogView
from isobench_tui.tui.log.words import Looks, status, title

Asking = Literal["search", "filter", "goto"]
_PROMPTS: dict[Asking, tuple[str, str]] = {
    "search": ("/", "regular expression"),
    "filter": ("&", "regular expression; empty shows all lines"),
    "goto": (":", HINT),
}


class LogPane(Vertical):
    """`show_attempt` opens the logs of an attempt, `show` a line of one of them; keys are in `actions`."""

    DEFAULT_CSS = """
    LogPane { height: 1fr; }
    LogPane > .log-line { height: 1; width: 100%; background: $panel; color: $foreground; }
    LogPane > #log-input { display: none; height: 1; border: none; padding: 0; background: $boost; }
    LogPane.-asking > #log-input { display: block; }
    LogPane.-asking > #log-status { display: none; }
    """
    BINDINGS: ClassVar = bindings(LOG)

    class Arrived(Message):
        """The reader has something to say; it comes from the reader's thread."""

        def __init__(self, said: State | Written) -> None:
            super().__init__()
            self.said = said

        def can_replace(self, message: Message) -> bool:
            """Of states only the newest matters."""
            return (
                isinstance(message, LogPane.Arrived)
                and isinstance(message.said, State)
                and isinstance(self.said, State)
            )

    def __init__(self, save_dir: Path, *, id: str | None = None) -> None:
        """`save_dir`: where copies and saved logs go; it is made when the first one is."""
        super().__init__(id=id)
        self._reader = LogReader(lambda said: self.post_message(self.Arrived(said)), save_dir)
        self._state = State()
        self._label = ""
        self._opened: tuple[Path, tuple[str, ...] | None] | None = None
        self._asking: Asking = "search"
        self.view = LogView(id="log-view")
        self._title = Static(id="log-title", classes="log-line", markup=False)
        self._status = Static(id="log-status", classes="log-line", markup=False)
        self._input = Input(id="log-input", compact=True, select_on_focus=True)
        self._filter: Matcher | None = None

    def compose(self) -> ComposeResult:
        yield self._title
        yield self.view
        yield self._status
        yield self._input

    # -- for the dashboard

    def show_attempt(self, run_dir: Path, names: Sequence[str] | None = None, *, label: str = "") -> None:
        """Follow the logs of an attempt, merged by time; the very same ones stay as they are.

        `names`: only these logs; None: all there are and will be. `label`: how the attempt is called in the title.
        """
        wanted = run_dir, None if names is None else tuple(names)
        self._label = label
        if wanted != self._opened:
            self._opened = wanted
            name = wanted[1][0] if wanted[1] is not None and len(wanted[1]) == 1 else ALL
            self._reader.ask(partial(self._reader.open, *wanted, name))
        self._say()

    def show(self, file: str, line: int) -> None:
        """A line of a log of the attempt, by its 1-based number; 0: just the log."""
        reader = self._reader
        reader.ask(partial(reader.go, ToLine(line), file) if line > 0 else partial(reader.select, file))

    # -- the reader

    def on_mount(self) -> None:
        self._say()
        self._read()

    def on_unmount(self) -> None:
        self._reader.ask(lambda: None)  # wakes it, so that it sees the end at once

    @on(Hide)
    def _hidden(self) -> None:
        self._reader.ask(partial(self._reader.rest, resting=True))

    @on(Show)
    def _shown(self) -> None:
        self._reader.ask(partial(self._reader.rest, resting=False))

    @work(thread=True, exclusive=True, group="log", exit_on_error=False)
    def _read(self) -> None:
        worker = get_current_worker()
        self._reader.run(lambda: worker.is_cancelled)

    @on(Worker.StateChanged)
    def _worker_moved(self, event: Worker.StateChanged) -> None:
        event.stop()
        if event.state is WorkerState.ERROR:
            error = event.worker.error
            text = f"the log cannot be shown: {type(error).__name__}: {error}; choose it again to try again"
            self._status.update(Text(text, "red"))
            self._opened = None
            self.set_timer(1.0, self._read)

    @on(Arrived)
    def _arrived(self, event: Arrived) -> None:
        if isinstance(event.said, Written):
            if event.said.clipboard:
                self.app.copy_to_clipboard(event.said.clipboard)
            self.notify(event.said.note, markup=False, timeout=15)
            return
        self._state = event.said
        self.view.show(event.said)
        self._say()

    @on(LogView.Wanted)
    def _wanted(self, event: LogView.Wanted) -> None:
        event.stop()
        self._reader.ask(partial(self._reader.look, event.at, event.before, event.after))

    @on(LogView.Moved)
    def _moved(self, event: LogView.Moved) -> None:
        event.stop()
        self._say()

    def on_resize(self) -> None:
        self._say()

    def _say(self) -> None:
        if not self.is_mounted:
            return
        view, width = self.view, self.size.width
        lines = view.lines
        looks = Looks(view.follow, view.here, lines[-1] if lines else None, len(view.marks))
        for line, text in (
            (self._title, title(self._state, self._label, width)),
            (self._status, status(self._state, looks, width)),
        ):
            if line.content != text:
                line.update(text)

    # -- asking

    def _ask(self, what: Asking, value: str = "") -> None:
        self._asking = what
        sign, hint = _PROMPTS[what]
        line = self._input
        line.placeholder = f"{sign} {hint}"
        line.value = value
        self.add_class("-asking")
        line.focus()

    def _answered(self) -> None:
        self.remove_class("-asking")
        self.view.focus()

    @on(Input.Submitted, "#log-input")
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        try:
            self._use(event.value)
        except (BadPattern, BadPlace) as error:
            self._input.placeholder = str(error)
            self.notify(str(error), severity="error", markup=False)
            return
        self._answered()

    @on(Input.Blurred, "#log-input")
    def _left(self) -> None:
        self.remove_class("-asking")

    def _use(self, text: str) -> None:
        """Do what was asked for. Raises BadPattern, BadPlace."""
        reader, here = self._reader, self.view.here
        if self._asking == "filter":
            self._set_filter(compile_pattern(text) if text else None)
        elif self._asking == "search":
            at = here.at - 1 if here is not None else None
            reader.ask(partial(reader.search, compile_pattern(text) if text else None, at))
        else:
            first = next((line.when for line in self._state.page.lines if line.when is not None), None)
            reader.ask(partial(reader.go, parse_place(text, first=first, here=here.when if here else None)))

    def _set_filter(self, matcher: Matcher | None) -> None:
        self._filter = matcher
        self._reader.ask(partial(self._reader.filter, matcher))

    # -- actions

    def action_search(self) -> None:
        self._ask("search", self._state.search.label if self._state.search else "")

    def action_filter(self) -> None:
        self._ask("filter", self._state.filter.label.removeprefix("not ") if self._state.filter else "")

    def action_goto(self) -> None:
        self._ask("goto")

    def action_inverse(self) -> None:
        if self._filter is None:
            self.action_filter()
        else:
            self._set_filter(self._filter.of if isinstance(self._filter, Inverse) else Inverse(self._filter))

    def _step(self, *, back: bool) -> None:
        here = self.view.here
        at = here.at if here is not None else -1
        self._reader.ask(partial(self._reader.step, at, back=back))

    def action_next(self) -> None:
        self._step(back=False)

    def action_previous(self) -> None:
        self._step(back=True)

    def action_first_error(self) -> None:
        self._reader.ask(partial(self._reader.search, Errors()))

    def action_follow(self) -> None:
        if self.view.follow:
            self.view.stay()
        else:
            self.view.to_end()

    def _other_log(self, by: int) -> None:
        order = (ALL, *self._state.names)
        if self._state.name in order:
            name = order[(order.index(self._state.name) + by) % len(order)]
            self._reader.ask(partial(self._reader.select, name))

    def action_next_log(self) -> None:
        self._other_log(1)

    def action_previous_log(self) -> None:
        self._other_log(-1)

    def action_wrap(self) -> None:
        self.view.toggle_wrap()

    def action_times(self) -> None:
        self.view.toggle_times()

    def action_mark(self) -> None:
        self.view.toggle_mark()

    def action_next_mark(self) -> None:
        here = self.view.here
        self._reader.ask(partial(self._reader.next_mark, tuple(self.view.marks), here.at if here else -1))

    def action_copy(self) -> None:
        keys = tuple(self.view.marks) or tuple(line.key for line in self.view.lines)
        if keys:
            self._reader.ask(partial(self._reader.copy, keys, self._stem))

    def action_save(self) -> None:
        self._reader.ask(partial(self._reader.save, self._stem))

    @property
    def _stem(self) -> str:
        """How files with lines of this log are called."""
        run_dir = self._opened[0].name if self._opened else "log"
        return f"{run_dir}-{self._state.name.removesuffix('.log')}"

    def action_clear(self) -> None:
        if self.has_class("-asking"):
            self._answered()
            return
        self._reader.ask(self._reader.stop)
        if self._state.search is not None:
            self._reader.ask(partial(self._reader.search, None))
        elif self._state.filter is not None:
            self._set_filter(None)
        elif self.view.marks:
            self.view.unmark()
            self._say()

    def action_up(self) -> None:
        self.view.move(-1)

    def action_down(self) -> None:
        self.view.move(1)

    def action_page_up(self) -> None:
        self.view.move(1 - self.view.size.height)

    def action_page_down(self) -> None:
        self.view.move(self.view.size.height - 1)

    def action_first(self) -> None:
        self._reader.ask(partial(self._reader.go, ToShare(0.0)))

    def action_last(self) -> None:
        self.view.to_end()

    def action_left(self) -> None:
        self.view.sideways(-1)

    def action_right(self) -> None:
        self.view.sideways(1)
