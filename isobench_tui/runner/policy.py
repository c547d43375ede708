"""The retry policy: one table from failure class to what happens next, and the pure functions that read it."""

from __future__ import annotations

from dataclasses import dataclass

from isobench_tui.results.models import Verdict
from isobench_tui.store.attempts import Done, Fate, Held, Requeue, Skipped

MAX_INTERRUPTIONS = 3
"""After that many the job is held: something about it ends its runner or its container."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a failure class does to its job and to the queue."""

    attempts: int = 1
    """Counted attempts that a job may spend on it, the campaign's max_attempts permitting."""
    pauses: bool = False
    """A fault of the machine, not of the job: the queue pauses, the job burns nothing and is tried again."""
    repeats: bool = True
    """Counts towards `same_failure`: seen over different tasks it points at the harness, not at a patch."""


_PATCH = Rule(repeats=False)
_MACHINE = Rule(pauses=True, repeats=False)
_TWICE = Rule(attempts=2)

RULES: dict[str, Rule] = {
    "disk_full": _MACHINE,
    "engine_error": _MACHINE,
    "pull_failed": _MACHINE,
    "gpu_lost": _MACHINE,
    "gpu_busy_leaked": _MACHINE,
    "driver_mismatch": _MACHINE,
    "patch_empty": _PATCH,
    "patch_not_applied": _PATCH,
    "patch_not_compiled": _PATCH,
    "image_missing": Rule(),
    "gated_auth": Rule(),
    "model_not_found": Rule(),
    "env_broken": Rule(),
    "bench_script_missing": Rule(),
    "bench_script_deprecated": Rule(),
    "harness_misconfig": Rule(),
    "port_in_use": _TWICE,
    "host_oom": _TWICE,
    "server_crash": _TWICE,
    "server_timeout": _TWICE,
    "client_failed": _TWICE,
    "no_metrics": _TWICE,
    "timeout": _TWICE,
    "unknown": Rule(attempts=3),
}
"""A class that is not here is not retried."""

DEFAULT = Rule()


@dataclass(frozen=True, slots=True)
class Decision:
    fate: Fate
    counts: bool
    """The attempt counts against the job's max_attempts."""
    pause: bool = False
    """The queue pauses until a probe succeeds."""


def decide(verdict: Verdict, *, stop: str | None, counted: int, interruptions: int, max_attempts: int) -> Decision:
    """What becomes of a job whose attempt ended so.

    `stop` is the operator's wish; `counted` and `interruptions` are the job's own, without this attempt.
    """
    if verdict.outcome == "success":
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
    if rule.pauses:
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
