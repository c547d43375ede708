"""The thread that reads the store: it begins before there is a screen, and tells the screen what it finds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from isobench_tui.store import db
from isobench_tui.tui.reading import Reading
from isobench_tui.tui.snapshot import Clock, Snapshot
from isobench_tui.tui.source import Source

POLL_S = 0.2
AGAIN_S = 2.0
"""Seconds after which a store that could not be read is tried again."""
Hear = Callable[[Snapshot | str], None]
"""Is told a snapshot, or in words why there is none now. Called in the feed's thread."""


class Feed:
    """Snapshots of a workspace, for one listener. SQLite reads while what paints them is still being imported."""

    def __init__(self, source: Source, clock: Clock = time.time) -> None:
        self.source, self.clock = source, clock
        self._hear: Hear | None = None
        self._listened = threading.Event()
        self._ending = threading.Event()
        # a daemon: a store on a disk that hangs must not hold up the end
        self._thread = threading.Thread(target=self._read_on, name="feed", daemon=True)

    def begin(self) -> None:
        """Read from now on; what is found waits for the listener."""
        if self._thread.ident is None:
            self._thread.start()

    def listen(self, hear: Hear) -> None:
        """From now on `hear` is told what there is, first what was found already."""
        self._hear = hear
        self._listened.set()
        self.begin()

    def close(self) -> None:
        """Nothing more is told, but for what is being read now."""
        self._ending.set()
        self._listened.set()

    def _read_on(self) -> None:
        """Poll the store until the end; whatever goes wrong is told, and tried again."""
        while not self._ending.is_set():
            try:
                self._read()
            except Exception as error:
                self._tell(f"cannot read the store: {error or type(error).__name__}")
                self._ending.wait(AGAIN_S)

    def _read(self) -> None:
        with contextlib.closing(db.open_store(self.source.workspace)) as connection:
            reading = Reading(self.source.workspace, connection, self.source.campaign, self.clock)
            while not self._ending.wait(POLL_S if reading.started else 0.0):
                snapshot = reading.next()
                if snapshot is not None:
                    self._tell(snapshot)

    def _tell(self, what: Snapshot | str) -> None:
        self._listened.wait()
        if self._hear is not None and not self._ending.is_set():
            self._hear(what)
