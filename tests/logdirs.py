"""Run directories with logs for the log pane's tests, and a reader without a thread whose clock the test moves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from isobench_tui.store.rundir import RunDir
from isobench_tui.store.runlogs import INDEX
from isobench_tui.tui.log.reader import LogReader
from isobench_tui.tui.log.state import State, Written

START = 1_769_200_000.0
"""Unix seconds at which the logs of tests begin."""


class Logs:
    """A run directory that grows."""

    def __init__(self, path: Path) -> None:
        self.run = RunDir(path)
        self.run.create(())

    def add(self, name: str, data: bytes, at: float | None = None) -> None:
        """Append to a log; with a time, the runner's index says so."""
        path = self.run.path / name
        with path.open("ab") as file:
            file.write(data)
        if at is not None:
            with (self.run.path / f"{name}.idx").open("ab") as file:
                file.write(INDEX.pack(START + at, path.stat().st_size))

    def age(self, name: str) -> None:
        """Make a log one that nobody writes any more."""
        os.utime(self.run.path / name, (START, START))


class Desk:
    """A reader, and all that it said."""

    def __init__(self, save_dir: Path) -> None:
        self.now = 0.0
        self.states: list[State] = []
        self.written: list[Written] = []
        self.reader = LogReader(self._hear, save_dir, lambda: self.now)

    def _hear(self, said: State | Written) -> None:
        if isinstance(said, State):
            self.states.append(said)
        else:
            self.written.append(said)

    @property
    def state(self) -> State:
        return self.states[-1]

    @property
    def texts(self) -> list[str]:
        return [line.shown.text for line in self.state.page.lines]

    def do(self, request: Callable[[], None] = lambda: None) -> State:
        """Ask for it, and let the reader work until nothing is left to do; two seconds pass."""
        self.reader.ask(request)
        for _ in range(2):
            self.now += 1.1
            while self.reader.turn():
                pass
        return self.state
