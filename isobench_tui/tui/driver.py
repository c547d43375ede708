"""A terminal that stops reading must not stop the dashboard: frames are dropped, and painted anew once it reads.

Textual's writer thread has a queue of 30 frames, and a full one blocks the event loop for ever
(textual 8.2.8, `drivers/_writer_thread.py`); the private names here are why textual is pinned exactly.
"""

from __future__ import annotations

import queue
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

LAST_WORDS_S = 1.0
"""How long the end of the dashboard waits for a terminal to take what was written."""


class LossyDriver(LinuxDriver):
    """Never waits for the terminal. `behind` tells that frames were dropped since it was last cleared."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.behind = False

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

    def close(self) -> None:
        """Leave. A terminal that reads no more gets no last words, since they would be waited for for ever."""
        thread = self._writer_thread
        if thread is None:
            return
        if thread._queue.full():
            with thread._queue.mutex:
                thread._queue.queue.clear()
        thread._queue.put_nowait(None)
        thread.join(LAST_WORDS_S)
