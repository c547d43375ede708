"""How long the rest takes: the sum of each job's phases, by their own history. No history, no estimate."""

from __future__ import annotations

from collections import Counter

from isobench_tui.store.clock import seconds
from isobench_tui.tui.snapshot import Means, Running, Snapshot

PHASES = ("preflight", "image", "model", "start", "setup", "server", "measure", "collect", "cleanup")
_SERVING_ONLY = "server"


def eta(snapshot: Snapshot, now: float) -> float | None:
    """Seconds until nothing is left, over all lanes that work; None before any attempt has ended."""
    if ("", "cleanup") not in snapshot.means:
        return None
    waiting = Counter(job.mode for job in snapshot.jobs if job.state == "queued")
    rest = sum(count * expected(snapshot.means, mode) for mode, count in waiting.items())
    ends = [max(0.0, _of_attempt(snapshot, one) - (now - seconds(one.started_at))) for one in snapshot.running]
    return (rest + sum(ends)) / max(1, len(snapshot.running))


def _of_attempt(snapshot: Snapshot, one: Running) -> float:
    job = snapshot.job(one.job)
    return expected(snapshot.means, job.mode if job else "")


def expected(means: Means, mode: str) -> float:
    """Seconds that an attempt of this mode takes."""
    return sum(of_phase(means, mode, phase) for phase in PHASES)


def of_phase(means: Means, mode: str, phase: str) -> float:
    """Mean seconds of a phase in this mode; of all modes where this one has no history."""
    if (mode, "measure") in means or (phase == _SERVING_ONLY and mode != "serving"):
        return means.get((mode, phase), 0.0)
    return means.get(("", phase), 0.0)
