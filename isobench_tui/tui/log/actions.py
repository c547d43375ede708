"""What the keys of the log pane do: (id, keys, label, help), for bindings, help and the docs. Ids are for keymaps."""

from __future__ import annotations

from textual.binding import Binding

LOG_ACTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("log.search", "slash", "Search", "a regular expression; without capital letters it ignores case"),
    ("log.next", "n", "Next", "to the next match"),
    ("log.previous", "N", "Previous", "to the match before"),
    ("log.first_error", "e", "Errors", "to the first line that tells an error; n and N go on from there"),
    ("log.filter", "ampersand", "Filter", "show only lines that match a regular expression; empty: all lines"),
    ("log.inverse", "exclamation_mark", "Inverse filter", "show the lines that the filter hides"),
    ("log.follow", "f", "Follow", "stay at the end as it grows; again: stay here"),
    (
        "log.next_log",
        "right_square_bracket",
        "Next log",
        "the next log of the attempt, or all of them merged by time",
    ),
    ("log.previous_log", "left_square_bracket", "Previous log", "the log before"),
    ("log.goto", "colon", "Go to", "a line (1200), a time (14:32:10), a distance (-5m) or a share (50%)"),
    ("log.wrap", "w", "Wrap", "break long lines, or let them run out of sight"),
    ("log.times", "t", "Times", "when each line was written, to 0.2 s"),
    ("log.mark", "m", "Mark", "mark the line found last, else the first on the screen; again: unmark"),
    ("log.next_mark", "apostrophe", "Next mark", "to the next marked line"),
    ("log.copy", "y", "Copy", "what is marked (from the first mark to the last), else the lines on the screen"),
    ("log.save", "s", "Save", "all lines that the filter shows to a new file"),
    ("log.clear", "escape", "Clear", "stop what runs, then leave the search, then the filter, then the marks"),
    ("log.up", "up,k", "Up", "one row up"),
    ("log.down", "down,j", "Down", "one row down"),
    ("log.page_up", "pageup,b", "Page up", "one page up"),
    ("log.page_down", "pagedown,space", "Page down", "one page down"),
    ("log.first", "home,g", "Start", "to the first line"),
    ("log.last", "end,G", "End", "to the last line, and follow"),
    ("log.left", "left,h", "Left", "what is cut off on the left"),
    ("log.right", "right,l", "Right", "what is cut off on the right"),
)
_FOOTER = {"log.search", "log.first_error", "log.filter", "log.follow", "log.next_log", "log.copy"}


def bindings() -> list[Binding | tuple[str, str] | tuple[str, str, str]]:
    """Textual's bindings of the table."""
    return [
        Binding(keys, name.removeprefix("log."), label, show=name in _FOOTER, id=name, tooltip=text)
        for name, keys, label, text in LOG_ACTIONS
    ]
