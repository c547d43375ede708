"""A progress bar shaped like tqdm's, on stderr."""

import sys
import time

INTERVAL_S = 0.1


class Progress:
    """`total` things to do. Redraws at most ten times a second, and at the end."""

    def __init__(self, total, label="", enabled=True):
        self.total = total
        self.label = label + ": " if label else ""
        self.enabled = enabled
        self.done = 0
        self.note = ""
        self._start = time.monotonic()
        self._drawn = self._start
        if enabled:
            self._draw()

    def update(self, done):
        """`done` of the total are done now."""
        self.done = done
        now = time.monotonic()
        if self.enabled and now - self._drawn >= INTERVAL_S and done < self.total:
            self._drawn = now
            self._draw()

    def close(self):
        """Draw the end state and leave the line."""
        if self.enabled:
            self._draw()
            sys.stderr.write("\n")
            sys.stderr.flush()

    def _draw(self):
        seconds = time.monotonic() - self._start
        share = self.done / self.total if self.total else 1.0
        rate = "%.2fit/s" % (self.done / seconds) if self.done and seconds > 0 else "?it/s"
        rate += ", " + self.note if self.note else ""
        bar = ("#" * int(share * 10)).ljust(10)
        left = _clock(seconds / share - seconds) if share else "?"
        sys.stderr.write(
            f"\r{self.label}{int(share * 100):3d}%|{bar}| {self.done}/{self.total} [{_clock(seconds)}<{left}, {rate}]"
        )
        sys.stderr.flush()


def _clock(seconds):
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"
