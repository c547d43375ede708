"""The retry policy: one table from failure class to what happens next, and the pure functions that read it."""

from __future__ import annotations

from dataclasses import dataclass

from isobench_tui.results.models import Verdict
from isobench_tui.results.rules import TABLE, Retry
from isobench_tui.results.validity import passing
from isobench_tui.store.attempts import Done, Fate, Held, Requeue, Skipped

MAX_INTERRUPTIONS = 3
"""After that many the job is held: something about it ends its runner or its container."""


MAX_TOLD = 3
"""Attempts of one job that may pause the queue on the word of a log alone: measured code can print anything."""

RULES: dict[str, Retry] = {rule.failure: rule.retry for rule in TABLE}
"""A class that is not here is not retried."""

DEFAULT = Retry()


@dataclass(frozen=True, slots=True)
class Decision:
    fate: Fate
    counts: bool
    """The attempt counts against the job's max_attempts."""
    pause: bool = False
    """The queue pauses until a probe succeeds."""


def decide(
    verdict: Verdict,
    *,
    stop: str | None,
    counted: int,
    interruptions: int,
    max_attempts: int,
    told: int = 0,
    repeated: bool = False,
) -> Decision:
    """What becomes of a job whose attempt ended so.

    `stop` is the operator's wish; `counted` and `interruptions` are the job's own, without this attempt. `told`: its
    attempts, this one included, that a fault of the machine ended which only a log of the measured code tells of.
    `repeated`: an earlier attempt of it was such a success as is repeated once.
    """
    if verdict.outcome == "success":
        invalid = [flag.name for flag in verdict.flags if flag.effect == "invalidates"]
        if stop is None and not repeated and passing(invalid) and counted + 1 < max_attempts:
            return Decision(Requeue("behind", f"repeat after {', '.join(invalid)}"), counts=True)
        return Decision(Done(), counts=True)
    if stop in {"skip", "cancel"}:
        return Decision(Skipped("skipped while it ran" if stop == "skip" else "campaign cancelled"), counts=False)
    if stop is not None:
        return Decision(Requeue("front", "stopped by the operator" if stop == "stop" else "paused"), counts=False)
    if verdict.outcome == "interrupted":
        if interruptions + 1 >= MAX_INTERRUPTIONS:
            return Decision(
                Held(f"interrupted {MAX_INTERRUPTIONS} times; `isobench release` lets it run"), counts=False
            )
        return Decision(Requeue("front", "interrupted"), counts=False)
    failure = verdict.diagnosis.failure if verdict.diagnosis else "unknown"
    rule = RULES.get(failure, DEFAULT)
    if rule.pauses and told <= MAX_TOLD:
        return Decision(Requeue("front", failure), counts=False, pause=True)
    if counted + 1 < min(rule.attempts, max_attempts):
        return Decision(Requeue("behind", f"retry after {failure}"), counts=True)
    return Decision(Done(), counts=True)


def backoff(tries: int) -> float:
    """Seconds until the next probe of a paused queue: 5, 10, 20 … at most 300."""
    return float(min(300, 5 * 2 ** min(tries, 6)))


def same_failure(seen: dict[str, list[int]], failure: str | None, task: int) -> dict[str, list[int]]:
    """Tasks that failed one after another with one class: `{class: [task, …]}`, {} after anything else."""
    if failure is None or not RULES.get(failure, DEFAULT).repeats:
        return {}
    tasks = seen.get(failure, [])
    return {failure: tasks if task in tasks else [*tasks, task]}
