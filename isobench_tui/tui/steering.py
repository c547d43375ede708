"""From a key to a command: pure, so that what a key would do can be tested without a terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from isobench_tui.report.text import safe
from isobench_tui.store.words import count_jobs
from isobench_tui.tui.snapshot import Job, Snapshot

MANY = 3
"""Jobs that a question names; of more it says how many."""


@dataclass(frozen=True, slots=True)
class Order:
    """A row for the command bus, and what to ask before it is written."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    question: str = ""
    """Empty: nothing is destroyed, so nothing is asked."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The key does nothing now; `why` is for the operator."""

    why: str


def order(action: str, snapshot: Snapshot, chosen: tuple[Job, ...], under: Job | None = None) -> Order | Nothing:
    """What an action of the table means for the chosen jobs; `under`: the job under the cursor.

    Raises KeyError for an action that does not steer.
    """
    make = _ORDERS.get(action)
    if make is not None:
        return make(snapshot)
    if action == "cancel":
        return _cancel(snapshot, under)
    return _of_jobs(action, snapshot, chosen, under)


def _pause(snapshot: Snapshot) -> Order:
    if snapshot.pause is not None:
        return Order("resume", {"campaign": None})
    held = [campaign.name for campaign in snapshot.campaigns if campaign.paused]
    if held:
        return Order("resume", {"campaign": held[0]})
    return Order("pause", {"campaign": None, "now": False})


def _pause_now(snapshot: Snapshot) -> Order:
    running = _running(snapshot)
    question = f"Pause and stop {running} now? It goes back to the front of the queue." if running else ""
    return Order("pause", {"campaign": None, "now": True}, question)


def _stop(snapshot: Snapshot) -> Order | Nothing:
    running = _running(snapshot)
    if not running:
        return Nothing("nothing is running")
    args = {"texts": [], "campaign": None, "failed": False, "saw": _seen(snapshot)}
    return Order("stop", args, f"Stop {running}? Its job goes back to the front of the queue.")


def _shutdown(snapshot: Snapshot) -> Order | Nothing:
    return _end(snapshot, now=False)


def _shutdown_now(snapshot: Snapshot) -> Order | Nothing:
    return _end(snapshot, now=True)


def _end(snapshot: Snapshot, *, now: bool) -> Order | Nothing:
    if not snapshot.runner.alive:
        return Nothing("no runner is alive")
    how = "at once? What runs goes on and is adopted by the next runner." if now else "after the running attempt?"
    return Order("shutdown", {"now": now, "at": None}, f"End the runner {how}")


_ORDERS = {
    "pause": _pause,
    "pause_now": _pause_now,
    "stop": _stop,
    "shutdown": _shutdown,
    "shutdown_now": _shutdown_now,
}


def _cancel(snapshot: Snapshot, under: Job | None) -> Order | Nothing:
    name = under.campaign if under else None
    found = next((campaign for campaign in snapshot.campaigns if campaign.name == name), None)
    if found is None or not found.tally.left + found.tally.held:
        return Nothing("nothing is left to cancel")
    left = count_jobs(found.tally.left + found.tally.held)
    args = {"campaign": found.name, "saw": _seen(snapshot)}
    return Order("cancel", args, f"Cancel campaign {safe(found.name)}? {left} will be skipped.")


def _of_jobs(action: str, snapshot: Snapshot, chosen: tuple[Job, ...], under: Job | None) -> Order | Nothing:
    if action == "skip_commit":
        return _skip_commit(snapshot, under)
    if action == "after":
        return _after(chosen, under)
    if not chosen:
        return Nothing("no job is chosen")
    if action == "skip":
        return _skip(snapshot, tuple(job for job in chosen if job.unfinished))
    if action == "retry":
        again = [job for job in chosen if job.state in {"done", "skipped"}]
        return (
            Order("retry", _args(again)) if again else Nothing("only jobs that ended or were skipped can be retried")
        )
    if action == "hold":
        return _hold(chosen)
    queued = [job for job in chosen if job.state in {"queued", "held"}]
    if not queued:
        return Nothing("only jobs that wait can be moved")
    return Order("move", {**_args(queued), "to": {"first": "first", "last": "last"}[action], "after": None})


def _skip(snapshot: Snapshot, jobs: tuple[Job, ...]) -> Order | Nothing:
    if not jobs:
        return Nothing("nothing to skip: it has ended or was skipped already")
    running = " The running one is cancelled." if any(job.state == "running" for job in jobs) else ""
    return Order("skip", {**_args(jobs), "saw": _seen(snapshot)}, f"Skip {_names(jobs)}?{running}")


def _skip_commit(snapshot: Snapshot, under: Job | None) -> Order | Nothing:
    if under is None:
        return Nothing("no job is chosen")
    jobs = tuple(
        job
        for job in snapshot.jobs
        if job.campaign == under.campaign and job.commit == under.commit and job.unfinished
    )
    found = _skip(snapshot, jobs)
    if isinstance(found, Nothing):
        return found
    question = f"Skip all that is left of commit {under.commit[:12]} ({count_jobs(len(jobs))})?"
    return Order("skip", found.args, question)


def _hold(chosen: tuple[Job, ...]) -> Order | Nothing:
    queued = [job for job in chosen if job.state == "queued"]
    if queued:
        return Order("hold", _args(queued))
    held = [job for job in chosen if job.state == "held"]
    return Order("release", _args(held)) if held else Nothing("only jobs that wait can be held")


def _after(chosen: tuple[Job, ...], under: Job | None) -> Order | Nothing:
    if under is None or not chosen or all(job.id == under.id for job in chosen):
        return Nothing("mark the jobs to move, then stand on the job that they shall follow")
    moved = [job for job in chosen if job.state in {"queued", "held"} and job.id != under.id]
    if not moved:
        return Nothing("only jobs that wait can be moved")
    return Order("move", {**_args(moved), "to": "after", "after": under.id})


def _args(jobs: tuple[Job, ...] | list[Job]) -> dict[str, Any]:
    return {"texts": [job.id for job in jobs], "campaign": None, "failed": False}


def _seen(snapshot: Snapshot) -> list[str]:
    """What the operator saw running: a command that meets something else is refused."""
    return [one.attempt for one in snapshot.running]


def _running(snapshot: Snapshot) -> str:
    jobs = [job for one in snapshot.running if (job := snapshot.job(one.job))]
    return _names(tuple(jobs)) if jobs else ""


def _names(jobs: tuple[Job, ...]) -> str:
    if len(jobs) > MANY:
        return count_jobs(len(jobs))
    return ", ".join(safe(job.name) for job in jobs)
