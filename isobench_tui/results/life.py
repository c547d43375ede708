"""Whether a server's engine died in use, or only while the server was being stopped."""

from __future__ import annotations

import re

from isobench_tui.results.errors import MAX_TEXT
from isobench_tui.results.models import Evidence
from isobench_tui.results.text import Hints, LogBytes, clip

_LIFE = re.compile(
    # a server begins: what an earlier one did at its end is over (a fresh server per trial shares the log)
    rb"(?P<begins>non-default args:|Initializing an? |Started server process)"
    # it was told to stop: vLLM may then print EngineDeadError although nothing was wrong
    rb"|(?P<stops>API server: shutdown triggered|INFO: {5}Shutting down)"
    rb"|(?P<dead>EngineDeadError)"
)
_HINTS = Hints(
    b"non-default args", b"Initializing a", b"Started server", b"shutdown triggered", b"Shutting down",
    b"EngineDeadError",
)  # fmt: skip


def dead_engine(file: str, log: LogBytes) -> Evidence | None:
    """The first line of a server's log that says its engine died in use, not while the server was being stopped."""
    stopping = False
    for piece in _HINTS.pieces(log):
        for mark in _LIFE.finditer(piece.raw):
            if mark["dead"] is None:
                stopping = mark["stops"] is not None
            elif not stopping:
                return Evidence(file, piece.line, clip(piece.text.strip(), MAX_TEXT))
    return None
