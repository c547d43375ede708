"""Reads the logs of one attempt in a thread of its own: whatever takes time happens here, in small steps.

The pane says what it wants through `ask`, which returns at once; the reader says what it has, as frozen states, at
most PER_SECOND times a second unless it was asked. It knows no widget and no app.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from isobench_tui.tui.log import jobs
from isobench_tui.tui.log.attempt import Attempt
from isobench_tui.tui.log.errand import Errand
from isobench_tui.tui.log.jobs import GoTo
from isobench_tui.tui.log.match import Matcher
from isobench_tui.tui.log.page import Key, Page, PageMaker, Wanted
from isobench_tui.tui.log.place import Place
from isobench_tui.tui.log.scan import Scan
from isobench_tui.tui.log.state import ALL, Jump, State, Written, found

PER_SECOND = 5
REFRESH_S = 1 / PER_SECOND
NAMES_S = 1.0
"""How often new logs are looked for."""
SLICE_S = 0.02
"""The longest that one task keeps the others waiting."""


class LogReader:
    """See the module. `turn` does one round of work; `run` does so until it is told to stop."""

    def __init__(
        self,
        publish: Callable[[State | Written], object],
        save_dir: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publish = publish
        self._save_dir = save_dir
        self._clock = clock
        self._wake = threading.Event()
        self._asked: deque[Callable[[], None]] = deque()
        self._attempt = Attempt()
        self._wanted = Wanted(None, 50, 0)
        self._maker: PageMaker | None = None
        self._page = Page()
        self._errand = Errand(clock)
        self._jump: Jump | None = None
        self._jumps = 0
        self._left: tuple[int, int] | None = None
        self._ordinal: int | None = None
        self._at_match = False
        self._generation = self._seen = self._opened = 0
        self._resting = self._broken = False
        self._problem = ""
        self._refreshed = self._listed = self._published = -1e9
        self._told: State | None = None
        self._urgent = False

    def ask(self, request: Callable[[], None]) -> None:
        """Have one of the methods below called in the reader's thread. From any thread."""
        self._asked.append(request)
        self._wake.set()

    # -- what may be asked -------------------------------------------------------------------------------------------

    def rest(self, *, resting: bool) -> None:
        """Read nothing while nobody looks."""
        self._resting = resting

    def open(self, run_dir: Path, names: tuple[str, ...] | None, name: str = ALL) -> None:
        """The logs of another attempt; of all there are, and will be, if `names` is None."""
        old, self._attempt = self._attempt.lens, Attempt(run_dir, names)
        for file in old.document.files:
            file.close()
        self._attempt.lens.filter, self._attempt.lens.search = old.filter, old.search
        self._attempt.list_names()
        self._end(name)

    def select(self, name: str) -> None:
        """Another log of the attempt, at its end; what is searched and filtered stays."""
        if name == self._attempt.name:
            return
        if not self._attempt.has(name):
            self._say(f"this attempt has no {name}")
            return
        self._end(name)

    def look(self, at: int | None, before: int, after: int) -> None:
        """The page around a line; around None: the end, as it moves."""
        if at is not None and self._wanted.at is None:
            self._left = None
        self._wanted = Wanted(at, before, after)
        self._make()

    def filter(self, matcher: Matcher | None) -> None:
        """Show only what matches; None: everything."""
        self._attempt.lens.filter = None if matcher is None else Scan(self._attempt.lens.document, matcher)
        self._left = None
        self._make()

    def search(self, matcher: Matcher | None, here: int | None = None) -> None:
        """Mark what matches, count it, and go to the first after `here`. None: to the first of all."""
        self._attempt.lens.search = None if matcher is None else Scan(self._attempt.lens.document, matcher)
        self._ordinal = None
        if matcher is not None:
            self._errand.start(jobs.next_match(self._attempt.lens, -1 if here is None else here, back=False))
        self._make()

    def step(self, here: int, *, back: bool) -> None:
        """To the next match after `here`, or the one before it."""
        self._errand.start(jobs.next_match(self._attempt.lens, here, back=back))

    def go(self, place: Place, name: str | None = None) -> None:
        """To a place, of the log `name` if given."""
        if name is not None:
            self.select(name)
            if self._attempt.name != name:
                return
        self._errand.start(jobs.to_place(self._attempt.lens, place))

    def copy(self, keys: tuple[Key, ...], stem: str) -> None:
        """From the first to the last of these lines, whatever their order, to the clipboard and a file."""
        if ends := self._places(keys):
            self._errand.start(jobs.copy(self._attempt.lens, ends[0], ends[-1] + 1, self._save_dir, stem))

    def next_mark(self, keys: tuple[Key, ...], here: int) -> None:
        """To the first of these lines behind `here`; behind the last one to the first."""
        if places := self._places(keys):
            self._go_to(GoTo(next((at for at in places if at > here), places[0])))

    def _places(self, keys: tuple[Key, ...]) -> list[int]:
        found = sorted(at for at in map(self._attempt.offset, keys) if at is not None)
        if not found:
            self._say("no marked line is in this log" if keys else "no line is marked: m marks one")
        return found

    def save(self, stem: str) -> None:
        """All that is shown to a new file."""
        job = jobs.save(self._attempt.lens, self._save_dir, stem, self._errand.progress)
        self._errand.start(job)

    def stop(self) -> None:
        """End the job that runs: a search for the next match, a save."""
        self._errand.drop("stopped")

    def _say(self, text: str) -> None:
        self._errand.say(text)
        self._urgent = True

    # -- work --------------------------------------------------------------------------------------------------------

    def run(self, cancelled: Callable[[], bool]) -> None:
        """Work until cancelled, then close the files. Sleeps while there is nothing to do."""
        try:
            while not cancelled():
                if not self.turn():
                    pause = NAMES_S if self._resting else self._refreshed + REFRESH_S - self._clock()
                    self._wake.wait(max(0.0, pause))
        finally:
            self._attempt.close()

    def turn(self) -> bool:
        """One round of everything there is to do. False: nothing is left until something changes."""
        self._wake.clear()
        try:
            while self._asked:
                self._asked.popleft()()
            if self._resting:
                self._refreshed = self._clock()
                return False
            self._refresh()
            busy = self._work_on_errand()
            busy |= self._work_on_page()
            for task in (self._attempt.lens.filter, self._attempt.lens.search, self._attempt.lens.index):
                busy |= task is not None and self._spend(task.step)
            busy |= self._look_again()
            self._problem = self._attempt.trouble
        except OSError as error:  # a disk that fails; it is tried again, and said meanwhile
            self._problem, self._maker, self._broken, busy = f"cannot be read: {error}", None, True, False
        self._tell()
        return busy or bool(self._asked)

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._refreshed < REFRESH_S:
            return
        self._refreshed = now
        if self._broken:
            self._broken = False
            self._make()
        if now - self._listed > NAMES_S:
            self._listed = now
            if self._attempt.list_names():
                self._choose(self._attempt.name)
        anchor = self._attempt.key(self._wanted.at)
        document = self._attempt.lens.document
        if not document.refresh():
            return
        if document.generation != self._seen:
            self._seen = document.generation
            self._generation += 1
            self._wanted = replace(self._wanted, at=self._attempt.offset(anchor))
            self._errand.drop("the log was cut or replaced meanwhile: once more, please")
            self._make()
        elif self._maker is None and self._page.last:
            self._make()

    def _work_on_errand(self) -> bool:
        result = self._errand.work(SLICE_S)
        if isinstance(result, bool):
            return result
        if isinstance(result, Written):
            self._publish(result)
        else:
            self._go_to(result)
        return True

    def _go_to(self, result: GoTo) -> None:
        self._say(result.note)
        if result.at is not None:
            self._jumps += 1
            self._jump = Jump(self._jumps, result.at)
            self.look(result.at, self._wanted.before, max(self._wanted.after, self._wanted.before))
            self._ordinal, self._at_match = None, result.match

    def _work_on_page(self) -> bool:
        if self._maker is None:
            return False
        if self._spend(self._maker.step):
            if self._due():
                self._page = self._maker.page()
            return True
        self._page, self._maker, self._urgent = self._maker.page(), None, True
        return False

    def _look_again(self) -> bool:
        """Make the page anew where what it needs has come: its line numbers; a filter that works."""
        lens = self._attempt.lens
        if lens.filter is not None and lens.filter.gave_up:
            self.filter(None)
            self._say("the filter was taken off: its pattern does not come to an end on this log")
        if self._at_match and self._ordinal is None and lens.search is not None and self._jump is not None:
            self._ordinal = lens.search.ordinal(self._jump.at)
        lines = self._page.lines
        if self._maker is None and lines and lines[0].number is None and not lens.document.merged:
            if not lens.index.complete:
                return False
            self._make()
        return self._maker is not None

    def _tell(self) -> None:
        """Publish what is new: at once what was asked for, all else when it is time."""
        if not (self._urgent or self._due()):
            return
        state = self._state()
        self._urgent = False
        if state != self._told:
            self._told, self._published = state, self._clock()
            self._publish(state)

    def _due(self) -> bool:
        return self._clock() - self._published >= REFRESH_S

    def _state(self) -> State:
        lens = self._attempt.lens
        size = lens.document.size
        return State(
            name=self._attempt.name,
            names=self._attempt.names,
            page=self._page,
            size=size,
            lines=lens.index.lines,
            share=1.0 if lens.index.complete or not size else lens.index.done / size,
            follow=self._wanted.at is None,
            unread=self._unread(),
            jump=self._jump,
            filter=found(lens.filter),
            search=found(lens.search, self._ordinal),
            note=self._errand.note,
            problem=self._problem,
            opened=self._opened,
            generation=self._generation,
        )

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _choose(self, name: str) -> None:
        """Look at a log, new to us; a line that was looked at stays in view if it is there."""
        anchor = self._attempt.key(self._wanted.at)
        self._attempt.choose(name)
        self._seen, self._generation = self._attempt.lens.document.generation, self._generation + 1
        self._wanted = replace(self._wanted, at=self._attempt.offset(anchor))
        self._errand.drop("")
        self._jump = self._left = self._ordinal = None
        self._page = Page()
        self._make()

    def _end(self, name: str) -> None:
        """The end of a log."""
        self._opened += 1
        self._wanted = replace(self._wanted, at=None, after=0)
        self._choose(name)

    def _make(self) -> None:
        self._maker, self._urgent = PageMaker(self._attempt.lens, self._wanted), True

    def _unread(self) -> int:
        """Lines that came, or matches, since the end was left and all before it was counted."""
        lens = self._attempt.lens
        if self._wanted.at is None or not lens.index.complete or (lens.filter and not lens.filter.complete):
            return 0
        counted = lens.index.lines, lens.filter.total if lens.filter else 0
        if self._left is None:
            self._left = counted
        return max(0, counted[1] - self._left[1] if lens.filter else counted[0] - self._left[0])

    def _spend(self, step: Callable[[], bool]) -> bool:
        """Take steps for a slice of time; False once there are none left."""
        until = self._clock() + SLICE_S
        while step():
            if self._clock() >= until:
                return True
        return False
