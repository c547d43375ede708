"""A stream of bytes of which some are passed on and some are not, in as large pieces as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from isobench_tui.engine.images.tarfmt import Unmergeable

Piece = bytes | memoryview


class Window:
    """Pieces of a tar as one stream. What is kept goes to `put` in order, neighbours together."""

    def __init__(self, pieces: Iterator[bytes], put: Callable[[Piece], None]) -> None:
        self._pieces = pieces
        self._put = put
        self._data = b""
        self._view = memoryview(b"")
        self._at = 0
        self._kept = 0
        """Where what is kept, and was not put yet, begins."""
        self.passed = 0
        """Bytes that came in."""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes without taking them, fewer at the end of the stream."""
        while len(self._data) - self._at < size:
            if not self._more():
                break
        return self._data[self._at : self._at + size]

    def keep(self, size: int) -> None:
        """Take the next bytes and pass them on. Raises Unmergeable where the stream ends before."""
        self._take(size, kept=True)

    def drop(self, size: int) -> None:
        """Take the next bytes and forget them. Raises Unmergeable where the stream ends before."""
        self._flush()
        self._take(size, kept=False)

    def insert(self, piece: Piece) -> None:
        """Pass something of the caller's own on, after all that was kept so far."""
        self._flush()
        self._put(piece)

    def end(self) -> None:
        """Put what is left to put."""
        self._flush()

    def _take(self, size: int, *, kept: bool) -> None:
        while (here := len(self._data) - self._at) < size:
            self._at += here
            size -= here
            if not kept:
                self._kept = self._at
            if not self._more():
                raise Unmergeable("a layer ends within a file")
        self._at += size
        if not kept:
            self._kept = self._at

    def _flush(self) -> None:
        if self._kept < self._at:
            self._put(self._view[self._kept : self._at])
        self._kept = self._at

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._flush()
        rest = self._data[self._at :]
        self._data = rest + piece if rest else piece
        self._view = memoryview(self._data)
        self._at = self._kept = 0
        self.passed += len(piece)
        return True
