"""What the engine says of itself while it works, for display only: never a result."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isobench_tui.results.text import LogBytes, lines

TAIL = 64 * 1024
"""Bytes at the end of the log that are looked at."""


@dataclass(frozen=True, slots=True)
class LiveValues:
    """The engine's periodic line (every 5 or 10 s). None: the line of this version does not say."""

    prompt_tokens_s: float | None = None
    generation_tokens_s: float | None = None
    running: int | None = None
    waiting: int | None = None
    kv_cache_percent: float | None = None


_LINE = re.compile(
    r"Avg prompt throughput: (\d{1,12}(?:\.\d{1,6})?) tokens/s, "
    r"Avg generation throughput: (\d{1,12}(?:\.\d{1,6})?) tokens/s"
)
_RUNNING = re.compile(r"\bRunning: (\d{1,9}) reqs")
_WAITING = re.compile(r"\b(?:Waiting|Pending): (\d{1,9}) reqs")
_CACHE = re.compile(r"(?<!CPU )\bKV cache usage: (\d{1,3}(?:\.\d{1,6})?)%")


def latest(log: LogBytes) -> LiveValues | None:
    """The last periodic line of a server's log, or of its tail, in the shapes of V0 (`Pending: N reqs`) and V1."""
    found: LiveValues | None = None
    for _, text in lines(log[max(0, len(log) - TAIL) :]):
        if line := _LINE.search(text):
            rest = text[line.end() :]
            running, waiting, cache = _RUNNING.search(rest), _WAITING.search(rest), _CACHE.search(rest)
            found = LiveValues(
                float(line[1]),
                float(line[2]),
                int(running[1]) if running else None,
                int(waiting[1]) if waiting else None,
                float(cache[1]) if cache else None,
            )
    return found
