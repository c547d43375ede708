"""The story of the run as lines, newest at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from isobench_tui.report.text import clock
from isobench_tui.store.events import RUNNER, Event, Wanted
from isobench_tui.tui.views.cells import fit, plain
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.views.words import BAD, DIM, GOOD, HEAD, LIVE, WARN

_KIND = {
    "started": LIVE, "ended": "", "paused": WARN, "resumed": GOOD, "stopping": WARN, "skipped": WARN,
    "cancelled": WARN, "held": WARN, "diagnosis": BAD, "shutdown": WARN, "recovered": GOOD, "waiting": WARN,
}  # fmt: skip
_WIDE = 100
OLDER = "older"
"""Key of the line that stands for events before those that are shown."""


def lines(events: Sequence[Event], width: int, *, older: bool = False) -> tuple[Line, ...]:
    """One line an event, its id as the key, a heading where another day begins; `older`: there are more before."""
    found = [Line(Text("enter: older events", DIM), OLDER)] if older else []
    day = ""
    for event in events:
        if (today := f"{datetime.fromisoformat(event.at).astimezone():%A, %Y-%m-%d}") != day:
            day = today
            found.append(Line(Text(day, HEAD)))
        found.append(Line(_line(event, width), str(event.id)))
    return tuple(found) if events else (Line(Text("no such event", DIM)),)


def title(wanted: Wanted, job: str) -> str:
    """What is shown alone, in words; empty where all is. `job`: name of the job that is looked for."""
    parts = [f"kind: {wanted.kind}"] if wanted.kind else []
    parts += [f"job: {job}"] if wanted.job else []
    parts += [f"words: {wanted.text}"] if wanted.text else []
    return f"only {plain(', '.join(parts))} (escape: all)" if parts else ""


def _line(event: Event, width: int) -> Text:
    text = Text(f"{clock(event.at)} ", DIM, no_wrap=True)
    if width >= _WIDE:
        text.append(fit(plain(event.kind), 10) + " ", _KIND.get(event.kind, DIM))
    text.append(plain(event.text), _KIND.get(event.kind, "") if width < _WIDE else "")
    if event.actor != RUNNER:
        text.append(f"  ({plain(event.actor)})", DIM)
    return text
