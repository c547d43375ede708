"""A thread that watches the runner itself: that its loop turns, its threads move, its phases end, its clock runs.

What it finds is an event and a line in runner.log, never an action: deadlines and recovery act. It has its own
connection, because the loop and the writer are what it watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import itertools
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from concurrent.futures import thread as pool
from dataclasses import dataclass, field
from types import FrameType

from isobench_tui.store import db, events
from isobench_tui.store.clock import ago
from isobench_tui.store.workspace import Workspace

TICK_S = 0.5
PHASES_EVERY = 10
"""Looks from one at the phases to the next: they are read from the store."""
_IDLE = frozenset({(pool.__file__, "_worker"), (threading.__file__, "wait"), (threading.__file__, "_bootstrap")})
"""Where a thread that has nothing to do stands: (file, function)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is told, in seconds."""

    look: float = 1.0
    """Between two looks."""
    still: float = 10.0
    """The whole process did not run, or its loop did not turn."""
    jump: float = 10.0
    """The wall clock moved against the monotonic one."""
    stuck: float = 900.0
    """A worker thread stands in the same call; the engine's longest calls may take some minutes."""
    over: float = 120.0
    """A phase goes on beyond its deadline."""


@dataclass(slots=True)
class Watchdog:
    """`watching` runs it around the runner's work."""

    workspace: Workspace
    limits: Limits = Limits()
    _ticked: float = 0.0
    _halt: threading.Event = field(default_factory=threading.Event)
    _loop_told: bool = False
    _stands: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Thread -> (its innermost frame, since when it stands there)."""
    _told: set[tuple[object, ...]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch while the body runs."""
        self._ticked = time.monotonic()
        ticking = asyncio.create_task(self._tick())
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._halt.set()
            ticking.cancel()
            thread.join(2 * self.limits.look)

    async def _tick(self) -> None:
        while True:
            self._ticked = time.monotonic()
            await asyncio.sleep(TICK_S)

    def _watch(self) -> None:
        at, wall, used = time.monotonic(), time.time(), time.process_time()
        looks = itertools.count()
        while not self._halt.wait(self.limits.look):
            now, clock, cpu = time.monotonic(), time.time(), time.process_time()
            gap, drift = now - at - self.limits.look, (clock - wall) - (now - at)
            if gap > self.limits.still:
                self._ticked = now  # the loop could not turn either
                self._tell(f"the runner stood still for {gap:.0f} s: it was stopped, or had no CPU")
            if abs(drift) > self.limits.jump:
                self._tell(f"the clock of this machine jumped by {drift:+.0f} s; deadlines do not go by it")
            self._look_at_loop(now, cpu - used)
            self._look_at_threads(now)
            if next(looks) % PHASES_EVERY == 0:
                self._look_at_phases()
            at, wall, used = now, clock, cpu

    def _look_at_loop(self, now: float, cpu: float) -> None:
        late = now - self._ticked
        if late <= self.limits.still:
            self._loop_told = False
        elif not self._loop_told:
            self._loop_told = True
            how = "busy" if cpu > self.limits.look / 2 else "waiting"
            self._tell(f"the runner's loop has not turned for {late:.0f} s ({how}); the stacks are in runner.log")
            faulthandler.dump_traceback(sys.stderr)

    def _look_at_threads(self, now: float) -> None:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        frames = sys._current_frames()
        mine = {threading.get_ident(), threading.main_thread().ident}
        for ident in [known for known in self._stands if known not in frames]:
            del self._stands[ident]
        for ident, frame in frames.items():
            if ident in mine or _idle(frame):
                self._stands.pop(ident, None)
                continue
            place, since = self._stands.get(ident, (0, now))
            here = hash((id(frame), frame.f_lasti))
            if here != place:
                self._stands[ident] = (here, now)
            elif now - since > self.limits.stuck and self._once("thread", ident, here):
                text = f"thread {names.get(ident, ident)} has stood in {_place(frame)} for {now - since:.0f} s"
                self._tell(text)

    def _look_at_phases(self) -> None:
        query = (
            "SELECT attempt_id, value ->> 'phase' AS phase, value ->> 'since' AS since, "
            "value ->> 'deadline_s' AS deadline FROM live WHERE key LIKE 'phase/%'"
        )
        try:
            with contextlib.closing(db.connect(self.workspace.database)) as connection:
                rows = connection.execute(query).fetchall()
        except sqlite3.Error:  # the writer meets it too, and tells
            return
        for row in rows:
            over = ago(row["since"]) - float(row["deadline"] or 0)
            if over > self.limits.over and self._once("phase", row["attempt_id"], row["phase"], row["since"]):
                self._tell(
                    f"{row['attempt_id']} is {over:.0f} s over its deadline in {row['phase']}", row["attempt_id"]
                )

    def _once(self, *what: object) -> bool:
        new = what not in self._told
        self._told.add(what)
        return new

    def _tell(self, text: str, attempt: str | None = None) -> None:
        _log(f"watchdog: {text}")
        try:
            with contextlib.closing(db.connect(self.workspace.database)) as connection, db.transaction(connection):
                events.add(connection, "watchdog", text, attempt=attempt)
        except sqlite3.Error as error:
            _log(f"watchdog: the event could not be written: {error}")


def _log(text: str) -> None:
    with contextlib.suppress(OSError):  # its disk is full: the watch goes on
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - runner.log is our only output


def _idle(frame: FrameType) -> bool:
    return (frame.f_code.co_filename, frame.f_code.co_name) in _IDLE


def _place(frame: FrameType) -> str:
    """The innermost line of ours, and what it calls."""
    stack = traceback.extract_stack(frame)
    ours = next((line for line in reversed(stack) if "isobench_tui" in line.filename), stack[-1])
    where = f"{ours.filename.rpartition('isobench_tui/')[2]}:{ours.lineno} {ours.name}"
    return where if ours is stack[-1] else f"{where} ({stack[-1].name})"
