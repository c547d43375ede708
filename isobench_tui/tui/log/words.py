"""The two lines around the log: which log it is and what is done to it; where one is and how everything stands."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.text import Text

from isobench_tui.tui.log.page import Line
from isobench_tui.tui.log.state import ALL, Found, State


@dataclass(frozen=True, slots=True)
class Looks:
    """How the view stands."""

    follow: bool = True
    here: Line | None = None
    last: Line | None = None
    """The last line on the screen."""
    marks: int = 0


def title(state: State, label: str, width: int) -> Text:
    """`server.log 2/4 · 1a2b3c:human · filter: …`."""
    text = _title(state, label)
    if text.cell_len > width:
        text = _title(state, "")
        text.truncate(width, overflow="ellipsis")
    return text


def _title(state: State, label: str) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis", end="")
    if not state.opened:
        return text.append("no log is open", "dim")
    everything = state.name == ALL
    text.append("all logs by time" if everything else state.name, "bold")
    order = (ALL, *state.names)
    if len(order) > 1 and state.name in order:
        text.append(f" {order.index(state.name)}/{len(state.names)}" if not everything else f" ({len(state.names)})")
    if label:
        text.append(f" · {label}", "dim")
    if state.filter is not None:
        text.append(f" · filter: {state.filter.label}", "bold yellow")
        text.append(f" ({_total(state.filter)})", "yellow")
    if state.search is not None:
        text.append(f" · search: {state.search.label}", "bold cyan")
        text.append(f" ({_hits(state.search)})", "cyan")
    return text


def status(state: State, looks: Looks, width: int) -> Text:
    """`line 1,234 of 50,000 · 14:32:10 · 42 % · following`, and what there is to say."""
    text = Text(no_wrap=True, overflow="ellipsis", end="")
    if state.problem:
        text.append(f"{state.problem} ", "red")
    if state.opened and not state.problem:
        text.append_text(_where(state, looks))
    if looks.marks:
        text.append(f" · {looks.marks} marked")
    if looks.follow:
        text.append(" · following", "green")
    else:
        text.append(f" · {state.unread:,} new below" if state.unread else " · not following", "yellow")
    if state.note:
        # what was just said matters more than where one is
        note = Text(f" {state.note} ", "reverse", no_wrap=True, end="")
        room = width - note.cell_len
        if room < text.cell_len:
            text.truncate(max(0, room - 1), overflow="ellipsis")
        text.append(" ").append_text(note)
    text.truncate(width, overflow="ellipsis")
    return text


def _where(state: State, looks: Looks) -> Text:
    text = Text(end="")
    here = looks.last if looks.follow else looks.here
    if here is not None and here.number is not None:
        text.append(f"line {here.number:,}")
        text.append(f" of {state.lines:,}" if state.share >= 1 else "")
    elif state.share >= 1:
        text.append(f"{state.lines:,} line{'' if state.lines == 1 else 's'}")
    else:
        text.append(f"counting lines, {state.share:.0%}")
    if here is not None and here.when is not None:
        text.append(time.strftime(" · %d %b %H:%M:%S", time.localtime(here.when)))
    if not looks.follow and here is not None and state.size:
        text.append(f" · {here.at / state.size:.0%}")
    return text


def _total(found: Found) -> str:
    lines = f"{found.total:,} line{'' if found.total == 1 else 's'}"
    return lines if found.share >= 1 else f"{lines}, {found.share:.0%} read"


def _hits(found: Found) -> str:
    if found.gave_up:
        return "does not come to an end"
    if found.ordinal is None:
        return _total(found)
    of = f"{found.total:,}" if found.share >= 1 else f"{found.total:,}+"
    return f"{found.ordinal:,} of {of}"
