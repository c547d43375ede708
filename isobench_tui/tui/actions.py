"""The action table: everything a key does, once. Bindings, footer, help, palette and the docs are made from it.

Ids are `pane.name`; a keymap in the configuration names them. Keys are Textual's names for keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from textual.binding import Binding


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that the operator can do."""

    id: str
    """`pane.name`; the pane `app` works everywhere. The method that does it is `action_name`."""
    key: str
    """Keys, separated by commas; empty: only in the palette."""
    label: str
    """One or two words for the footer and the palette."""
    help: str
    """One line for the help."""
    steers: bool = False
    """Writes a command: absent with --readonly."""
    asks: bool = False
    """Destroys something, so it asks first."""
    footer: bool = False

    @property
    def pane(self) -> str:
        return self.id.partition(".")[0]

    @property
    def name(self) -> str:
        return self.id.partition(".")[2]


APP = (
    Action("app.help", "question_mark", "Help", "what the keys do, here and everywhere", footer=True),
    Action(
        "app.pause",
        "p",
        "Pause",
        "start nothing new; what is measured runs to its end. Again: go on",
        True,
        footer=True,
    ),
    Action("app.pause_now", "P", "Pause now", "also stop what runs; it goes back to the front", True, True),
    Action("app.stop", "x", "Stop", "kill the running attempt; its job goes back to the front", True, True),
    Action("app.start_runner", "S", "Start runner", "start a runner where none is alive", True),
    Action("app.export", "E", "Export", "write a table of results to a file"),
    Action("app.commands", "c", "Commands", "the exact commands of the chosen job, to copy"),
    Action("app.tab('log')", "1", "Log", "the logs of the chosen job"),
    Action("app.tab('leaderboard')", "2", "Leaderboard", "agents and arms, ranked"),
    Action("app.tab('compare')", "3", "Compare", "the arms of the chosen job's task side by side"),
    Action("app.tab('diagnosis')", "4", "Diagnosis", "why the chosen job ended as it did"),
    Action("app.tab('events')", "5", "Events", "the story of the run"),
    Action("app.zoom", "z", "Zoom", "the focused pane alone; again or escape: all of them", footer=True),
    Action("app.queue", "0", "Queue", "go to the queue"),
    Action("app.shutdown", "", "Shut down runner", "end the runner after the running attempt", True, True),
    Action("app.shutdown_now", "", "Shut down runner now", "end it at once; what runs is adopted later", True, True),
    Action("app.cancel", "", "Cancel campaign", "skip all that is left of the chosen job's campaign", True, True),
    Action("app.quit", "q", "Detach", "close this window; the runner works on", footer=True),
)

LISTS = (
    Action("list.up", "up,k", "Up", "one line up"),
    Action("list.down", "down,j", "Down", "one line down"),
    Action("list.page_up", "pageup", "Page up", "one page up"),
    Action("list.page_down", "pagedown", "Page down", "one page down"),
    Action("list.first", "home,g", "First", "to the first line"),
    Action("list.last", "end,G", "Last", "to the last line"),
    Action("list.left", "left", "Left", "what is cut off on the left"),
    Action("list.right", "right", "Right", "what is cut off on the right"),
    Action("list.open", "enter", "Open", "look at it more closely"),
)

QUEUE = (
    Action("queue.mark", "space", "Mark", "mark the job; what steers then takes all that are marked", footer=True),
    Action("queue.unmark", "escape", "Unmark", "mark nothing"),
    Action("queue.filter", "slash", "Filter", "only rows with these words; !word: only rows without it", footer=True),
    Action("queue.follow", "f", "Follow", "the cursor goes with what runs, until you move it"),
    Action("queue.group", "t", "Group", "a heading for each task, or plain rows"),
    Action("queue.skip", "s", "Skip", "skip the jobs; a running one is cancelled", True, True, True),
    Action(
        "queue.skip_commit",
        "X",
        "Skip commit",
        "every unfinished job of the commit, all arms and repeats",
        True,
        True,
    ),
    Action("queue.retry", "r", "Retry", "undo a skip, or queue another attempt of an ended job", True, footer=True),
    Action(
        "queue.hold",
        "h",
        "Hold",
        "leave them where they are, but do not start them; again: release",
        True,
        footer=True,
    ),
    Action("queue.first", "left_square_bracket", "Move first", "before everything else of the campaign", True),
    Action("queue.last", "right_square_bracket", "Move last", "behind everything else of the campaign", True),
    Action("queue.after", "v", "Move here", "the marked jobs behind the one under the cursor", True),
)

LEADERBOARD = (
    Action(
        "leaderboard.sort", "o", "Sort", "by rank, speedup, over human, value, n, commit, side: the next", footer=True
    ),
    Action("leaderboard.reverse", "O", "Reverse", "the other way round"),
)

COMPARE = (Action("compare.patch", "d", "Patch", "to the next agent's patch", footer=True),)

DIAGNOSIS = (
    Action("diagnosis.log", "l", "Log line", "the line that proves it, in the log", footer=True),
    Action("diagnosis.retry", "r", "Retry", "queue another attempt of this job", True, footer=True),
)

EVENTS = (
    Action("events.words", "slash", "Filter", "only events with these words", footer=True),
    Action("events.kind", "t", "Kind", "only events of one kind: the next; after the last all of them", footer=True),
    Action("events.mine", "m", "This job", "only events about the job under the queue's cursor, or all", footer=True),
    Action("events.all", "escape", "All", "every event again"),
)


LOG = (
    Action(
        "log.search", "slash", "Search", "a regular expression; without capital letters it ignores case", footer=True
    ),
    Action("log.next", "n", "Next", "to the next match"),
    Action("log.previous", "N", "Previous", "to the match before"),
    Action(
        "log.first_error",
        "e",
        "Errors",
        "to the first line that tells an error; n and N go on from there",
        footer=True,
    ),
    Action(
        "log.filter",
        "ampersand",
        "Filter",
        "show only lines that match a regular expression; empty: all lines",
        footer=True,
    ),
    Action("log.inverse", "exclamation_mark", "Inverse filter", "show the lines that the filter hides"),
    Action("log.follow", "f", "Follow", "stay at the end as it grows; again: stay here", footer=True),
    Action(
        "log.next_log",
        "right_square_bracket",
        "Next log",
        "the next log of the attempt, or all of them merged by time",
        footer=True,
    ),
    Action("log.previous_log", "left_square_bracket", "Previous log", "the log before"),
    Action("log.goto", "colon", "Go to", "a line (1200), a time (14:32:10), a distance (-5m) or a share (50%)"),
    Action("log.wrap", "w", "Wrap", "break long lines, or let them run out of sight"),
    Action("log.times", "t", "Times", "when each line was written, to 0.2 s"),
    Action("log.mark", "m", "Mark", "mark the line found last, else the first on the screen; again: unmark"),
    Action("log.next_mark", "apostrophe", "Next mark", "to the next marked line"),
    Action(
        "log.copy",
        "y",
        "Copy",
        "what is marked (from the first mark to the last), else the lines on the screen",
        footer=True,
    ),
    Action("log.save", "s", "Save", "all lines that the filter shows to a new file"),
    Action("log.clear", "escape", "Clear", "stop what runs, then leave the search, then the filter, then the marks"),
    Action("log.up", "up,k", "Up", "one row up"),
    Action("log.down", "down,j", "Down", "one row down"),
    Action("log.page_up", "pageup,b", "Page up", "one page up"),
    Action("log.page_down", "pagedown,space", "Page down", "one page down"),
    Action("log.first", "home,g", "Start", "to the first line"),
    Action("log.last", "end,G", "End", "to the last line, and follow"),
    Action("log.left", "left,h", "Left", "what is cut off on the left"),
    Action("log.right", "right,l", "Right", "what is cut off on the right"),
)


def bindings(table: tuple[Action, ...]) -> list[Binding | tuple[str, str] | tuple[str, str, str]]:
    """Textual's bindings of a table; ids let a keymap change them."""
    return [
        Binding(action.key, action.name, action.label, show=action.footer, id=action.id, tooltip=action.help)
        for action in table
        if action.key
    ]


def tables() -> Iterator[tuple[str, tuple[Action, ...]]]:
    """(heading, actions) of every table, in the order of the help."""
    yield "Everywhere", APP
    yield "Lists", LISTS
    yield "Queue", QUEUE
    yield "Log", LOG
    yield "Leaderboard", LEADERBOARD
    yield "Compare", COMPARE
    yield "Diagnosis", DIAGNOSIS
    yield "Events", EVENTS


def allowed(table: tuple[Action, ...], name: str, *, readonly: bool) -> bool:
    """Whether the action with this method may be done and shown: what steers is neither where one may only read."""
    return not (readonly and any(action.steers for action in table if action.name == name))
