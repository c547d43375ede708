"""The one job that the reader runs, and what there is to say, of it or of anything else, for a while."""

from __future__ import annotations

from collections.abc import Callable

from isobench_tui.tui.log.jobs import GoTo, Job
from isobench_tui.tui.log.state import Written

NOTE_S = 10.0
"""How long a note is shown."""


class Errand:
    """A new job ends the one before."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._job: Job | None = None
        self._note = ""
        self._said = -NOTE_S
        self.progress: list[str] = []
        """A job may put here how far it is."""

    @property
    def note(self) -> str:
        return self._note if self._clock() - self._said < NOTE_S else ""

    def say(self, text: str) -> None:
        self._note, self._said = text, self._clock()

    def start(self, job: Job) -> None:
        self.drop("")
        self._job = job
        self.say("")

    def drop(self, why: str) -> None:
        """End the job, if one runs, and say why."""
        if self._job is not None:
            self._job.close()
            self._job = None
            self.say(why)

    def work(self, seconds: float) -> GoTo | Written | bool:
        """Its result once it has one; before, whether a job runs. A job that fails says so."""
        if self._job is None:
            return False
        until = self._clock() + seconds
        try:
            while self._clock() < until:
                next(self._job)
        except StopIteration as end:
            self._job = None
            result: GoTo | Written = end.value
            return result
        except OSError as error:
            self._job = None
            self.say(f"failed: {error}")
        if self.progress:
            self.say(self.progress.pop())
        return True
