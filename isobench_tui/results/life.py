"""Whether a server's engine died in use, or only while the server was being stopped."""

from __future__ import annotations

import re

from isobench_tui.results.errors import MAX_TEXT
from isobench_tui.results.models import Evidence
from isobench_tui.results.text import MAX_PIECE, LogBytes, clean, clip

_LIFE = re.compile(
    # a server begins: what an earlier one did at its end is over (a fresh server per trial shares the log)
    rb"(?P<begins>non-default args:|Initializing an? |Started server process)"
    # it was told to stop: vLLM may then print EngineDeadError although nothing was wrong
    rb"|(?P<stops>API server: shutdown triggered|INFO: {5}Shutting down)"
    rb"|(?P<dead>EngineDeadError)"
)
_STEP = 1 << 20


def dead_engine(file: str, log: LogBytes) -> Evidence | None:
    """The first line of a server's log that says its engine died in use, not while the server was being stopped."""
    if log.find(b"EngineDeadError") < 0:
        return None
    stopping = False
    for mark in _LIFE.finditer(log):
        if mark["dead"] is None:
            stopping = mark["stops"] is not None
        elif not stopping:
            return _line(file, log, mark.start())
    return None


def _line(file: str, log: LogBytes, at: int) -> Evidence:
    """The line around an offset."""
    start = max(log.rfind(mark, max(0, at - MAX_PIECE), at) for mark in (b"\n", b"\r", b"\0")) + 1
    start = start or max(0, at - MAX_PIECE)
    text = re.split(rb"[\r\n\0]", log[start : start + MAX_PIECE], maxsplit=1)[0]
    number = 1 + sum(log[begin : min(at, begin + _STEP)].count(b"\n") for begin in range(0, at, _STEP))
    return Evidence(file, number, clip(clean(text.decode("utf-8", "replace")).strip(), MAX_TEXT))
