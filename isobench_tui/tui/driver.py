"""A terminal that stops reading must not stop the dashboard: frames are dropped, and painted anew once it reads.

Textual's writer thread has a queue of 30 frames, and a full one blocks the event loop for ever
(textual 8.2.8, `drivers/_writer_thread.py`); the private names here are why textual is pinned exactly.
"""

from __future__ import annotations

import queue
import termios
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

LAST_WORDS_S = 1.0
"""How long the end of the dashboard waits for a terminal to take what was written."""


class LossyDriver(LinuxDriver):
    """Never waits for the terminal. `behind` tells that frames were dropped since it was last cleared."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.behind = False
        self.stuck = False
        """After `close`: the terminal did not take the last words, and would not take any others."""

    def write(self, data: str) -> None:
        assert self._writer_thread is not None
        try:
            self._writer_thread._queue.put_nowait(data)
        except queue.Full:
            self.behind = True

    @property
    def drained(self) -> bool:
        """Whether the terminal took everything that was written."""
        return self._writer_thread is not None and self._writer_thread._queue.empty()

    @property
    def gone(self) -> bool:
        """Whether the terminal was hung up. Reading from it then returns at once, for ever."""
        try:
            termios.tcgetattr(self.fileno)
        except termios.error:
            return True
        return False

    def stop_application_mode(self) -> None:
        """Frames that still wait are worth nothing; what restores the terminal must find room."""
        self._forget()
        super().stop_application_mode()

    def close(self) -> None:
        """Leave. A terminal that reads no more gets no last words, since they would be waited for for ever."""
        thread = self._writer_thread
        if thread is None:
            return
        if thread._queue.full():
            self._forget()
        thread._queue.put_nowait(None)
        thread.join(LAST_WORDS_S)
        self.stuck = thread.is_alive()

    def _forget(self) -> None:
        if self._writer_thread is not None:
            with self._writer_thread._queue.mutex:
                self._writer_thread._queue.queue.clear()
