"""What is worth a word when one snapshot follows another: a campaign that pauses itself, fails, or ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isobench_tui.report.text import safe
from isobench_tui.tui.snapshot import Job, Snapshot
from isobench_tui.tui.views.header import total

MANY = 3
"""Failures that are told one by one; of more, their number is."""


@dataclass(frozen=True, slots=True)
class Notice:
    text: str
    severity: Literal["information", "warning", "error"] = "information"
    loud: bool = False
    """Worth the terminal's bell."""


def notices(old: Snapshot, new: Snapshot) -> tuple[Notice, ...]:
    """Between two snapshots of one workspace; nothing before the first."""
    if old.at == 0.0:
        return ()
    found: list[Notice] = []
    if new.pause is not None and new.pause.by_itself and (old.pause is None or not old.pause.by_itself):
        found.append(Notice(f"the queue paused itself: {safe(new.pause.reason)}", "error", True))
    elif new.pause is None and old.pause is not None:
        found.append(Notice("the queue goes on"))
    if new.jobs is not old.jobs:
        found += _ended(old, new)
    if new.runner.word == "dead" and old.runner.alive and total(new).left:
        found.append(Notice("the runner is not alive any more", "error", True))
    if total(old).left and not total(new).left:
        found.append(_all(new))
    return tuple(found)


def _ended(old: Snapshot, new: Snapshot) -> list[Notice]:
    bad = [job for job in new.jobs if job.state == "done" and not job.valid and _was(old, job) != "done"]
    if len(bad) > MANY:
        return [Notice(f"{len(bad)} jobs ended without a valid result", "warning", True)]
    return [Notice(_of_job(job), "warning", job.outcome != "success") for job in bad]


def _was(old: Snapshot, job: Job) -> str:
    before = old.job(job.id)
    return before.state if before else "done"


def _of_job(job: Job) -> str:
    if job.outcome == "success":
        return f"{safe(job.name)} is invalid: {', '.join(sorted(job.invalidating)) or 'see Diagnosis'}"
    return f"{safe(job.name)} {job.failure or job.outcome}: {safe(job.reason)}"


def _all(new: Snapshot) -> Notice:
    tally = total(new)
    text = f"all jobs have ended: {tally.valid} valid, {tally.invalid} invalid, {tally.failed} failed"
    return Notice(text, "information" if not tally.failed + tally.invalid else "warning", True)
