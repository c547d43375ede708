"""The jobs of a snapshot, kept from one reading to the next: only those of tasks that were written are read again."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from isobench_tui.results.metrics import HEADLINE, describe
from isobench_tui.store import changes
from isobench_tui.store.changes import Marks, QueuedJob, QueuedTask
from isobench_tui.tui.snapshot import Job


@dataclass(slots=True)
class Jobs:
    """The jobs of one campaign, or of all, as one reader last saw them."""

    campaign: str | None = None
    found: tuple[Job, ...] = ()
    """In the order of the queue, with headline metrics, speedups and flags."""
    places: dict[str, int] = field(default_factory=dict)
    """id -> where it stands in `found`; another one where the order is another."""
    _marks: Marks = changes.NOTHING
    _known: dict[str, Job] = field(default_factory=dict)

    def read(self, connection: sqlite3.Connection) -> tuple[Job, ...]:
        """What is true now; the same tuple where nothing changed. To be called in a read transaction.

        Raises sqlite3.Error; then the next call makes up for it.
        """
        now = changes.marks(connection)
        if now == self._marks:
            return self.found
        fresh: dict[str, Job] = {}
        if now.jobs != self._marks.jobs:
            tasks = changes.tasks_since(connection, self._marks.jobs, HEADLINE, self.campaign)
            fresh = {job.id: job for task in tasks for job in jobs_of(task)}
        if now.order != self._marks.order:
            self.places = {key: place for place, key in enumerate(changes.order(connection, self.campaign))}
        self._known.update(fresh)
        if len(self._known) != len(self.places):  # some were deleted
            self._known = {key: self._known[key] for key in self.places}
        self._marks = now
        self.found = tuple(map(self._known.__getitem__, self.places))
        return self.found


def jobs_of(task: QueuedTask) -> list[Job]:
    """A task's jobs. Each valid one beside the mean of its valid baselines: a first look; Compare has intervals."""
    base = [job.value for job in task.jobs if job.arm == "baseline" and job.valid and job.value]
    return [_job(task, job, base) for job in task.jobs]


def _job(task: QueuedTask, job: QueuedJob, base: list[float]) -> Job:
    return Job(
        id=job.id,
        campaign=task.campaign,
        task=task.id,
        commit=task.commit,
        parent=task.parent,
        arm=job.arm,
        agent=job.agent,
        repeat=job.repeat + 1,
        mode=task.mode,
        model=job.model_used or task.model,
        state=job.state,
        outcome=job.outcome,
        valid=None if job.valid is None else bool(job.valid),
        failure=job.failure or "",
        reason=job.reason or (job.why if job.state == "done" else "") or "",
        attempt=job.attempt,
        phase=job.phase,
        stopping=bool(job.stopping),
        started_at=job.started_at,
        ended_at=job.ended_at,
        simulated=bool(task.simulated),
        value=job.value,
        unit=job.unit or "",
        metric=job.metric or "",
        speedup=_speedup(job, base),
        flags=tuple(name for name, _ in job.flags),
        invalidating=frozenset(name for name, effect in job.flags if effect == "invalidates"),
    )


def _speedup(job: QueuedJob, base: list[float]) -> float | None:
    if job.arm == "baseline" or not job.valid or not job.value or not base:
        return None
    known = describe(job.metric or "")
    if known is None:
        return None
    mean = sum(base) / len(base)
    return job.value / mean if known[1] == "higher" else mean / job.value
