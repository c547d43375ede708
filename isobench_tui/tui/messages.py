"""What the parts of the dashboard tell each other. Small and frozen; none carries a widget."""

from __future__ import annotations

from textual.message import Message

from isobench_tui.tui.snapshot import Snapshot


class SnapshotArrived(Message):
    """The store was read anew."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        """Two that wait in the queue are one too many."""
        return isinstance(message, SnapshotArrived)


class ReadFailed(Message):
    """The store could not be read; it is tried again."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class JobChosen(Message):
    """The queue's cursor stands on another job."""

    def __init__(self, job: str | None) -> None:
        super().__init__()
        self.job = job


class OpenJob(Message):
    """Look at this job more closely: in a tab, or in its log while it runs and in its diagnosis once it failed."""

    def __init__(self, job: str, tab: str = "") -> None:
        super().__init__()
        self.job = job
        self.tab = tab


class ShowLog(Message):
    """Open a line of a log of an attempt."""

    def __init__(self, attempt: str, file: str = "", line: int = 0) -> None:
        super().__init__()
        self.attempt = attempt
        self.file = file
        self.line = line


class Steer(Message):
    """Do an action of the action table that steers, to these jobs (empty: to what the action means by itself)."""

    def __init__(self, action: str, jobs: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.action = action
        self.jobs = jobs


class Copy(Message):
    """Put this text where the operator can take it: the terminal's clipboard, and always a file."""

    def __init__(self, text: str, what: str) -> None:
        super().__init__()
        self.text = text
        self.what = what
        """What it is, for the notice and the file's name."""
