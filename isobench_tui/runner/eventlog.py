"""Reading the driver's `events.jsonl` while it grows. Its lines are claims: whatever is not ours is ignored."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from isobench_tui.engine.job import EVENTS_FILE
from isobench_tui.store.rundir import Hostile, RunDir

CHUNK = 1024**2
MAX_LINE = 1024**2
"""A longer line is no event of our driver."""
MAX_EVENTS = 20_000
"""Our driver writes some dozens; a rewritten file must not fill the runner's memory."""


@dataclass(slots=True)
class EventLog:
    """Follows one file from its start; complete lines only."""

    run_dir: RunDir
    seen: list[dict[str, Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """1-based line of the file that each event of `seen` stands on."""
    _passed: int = 0
    _offset: int = 0
    _rest: bytes = b""

    def read(self) -> list[dict[str, Any]]:
        """Events that were appended since the last call."""
        fresh: list[dict[str, Any]] = []
        while len(self.seen) + len(fresh) < MAX_EVENTS:
            try:
                data = self.run_dir.read_at(EVENTS_FILE, self._offset, CHUNK)
            except Hostile:
                break
            if not data:
                break
            self._offset += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[-MAX_LINE:]
            for number, line in enumerate(lines, self._passed + 1):
                if (event := _parse(line)) is not None:
                    fresh.append(event)
                    self.lines.append(number)
            self._passed += len(lines)
        self.seen.extend(fresh)
        return fresh

    def last(self, kind: str) -> dict[str, Any] | None:
        """The newest event of a kind."""
        return next((event for event in reversed(self.seen) if event["event"] == kind), None)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
        json.dumps(event, ensure_ascii=False).encode()  # half a surrogate pair is no text that the store could hold
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    at = event.get("at")
    return event if isinstance(at, int | float) and 0 < at < 1e11 else None
