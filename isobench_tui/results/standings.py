"""Agents of a campaign in one line each: how often they succeed, and how much faster what succeeds is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from isobench_tui.results import stats
from isobench_tui.results.compare import UNFINISHED, Comparison, Contest, Side, Versus
from isobench_tui.results.isoclass import IsoWord
from isobench_tui.results.metrics import headline

Fate = Literal["success", "agent_fault", "other", "unfinished"]


@dataclass(frozen=True, slots=True)
class Standing:
    """An agent over all tasks of a campaign that it has jobs in."""

    campaign: str
    simulated: bool
    agent: str
    tasks: int
    """The full denominator: every task with a job of this agent, whatever became of it."""
    fates: Counter[Fate]
    low: float
    """Wilson's 95 % interval of successes / tasks."""
    high: float
    baseline: stats.Mean | None
    """Geometric mean over tasks of the speedup of the metric that stands for the result."""
    human: stats.Mean | None
    words: Counter[stats.Word]
    """Verdicts against the baseline, by tasks."""
    iso: Counter[IsoWord]

    @property
    def rate(self) -> float:
        return self.fates["success"] / self.tasks if self.tasks else 0.0


def fate(side: Side) -> Fate:
    """What became of an agent's patch for one task.

    A failure that is the agent's outweighs a repeat that went well; any other failure (machine, image, harness) does
    not, but a task without any valid result is no success whoever is to blame.
    """
    if any(job.blame == "agent" for job in side.jobs):
        return "agent_fault"
    if side.runs:
        return "success"
    return "unfinished" if any(job.state in UNFINISHED for job in side.jobs) else "other"


def standings(comparisons: Iterable[Comparison]) -> list[Standing]:
    """By campaign, then by the lower end of the interval of the mean speedup over the baseline, best first.

    An agent without an interval stands behind those that have one.
    """
    found: dict[tuple[str, str], list[tuple[Comparison, Contest]]] = {}
    order: dict[str, int] = {}
    for comparison in comparisons:
        campaign = comparison.task.campaign
        order.setdefault(campaign, len(order))
        for contest in comparison.contests:
            if contest.side.arm == "agent" and contest.side.jobs:
                found.setdefault((campaign, contest.side.agent), []).append((comparison, contest))
    made = [_standing(campaign, agent, tasks) for (campaign, agent), tasks in found.items()]
    return sorted(made, key=lambda one: (order[one.campaign], *_rank(one), one.agent))


def _rank(standing: Standing) -> tuple[float, float]:
    mean = standing.baseline
    if mean is None:
        return math.inf, 0.0
    return (math.inf if mean.low is None else -mean.low), -mean.value


def _standing(campaign: str, agent: str, tasks: Sequence[tuple[Comparison, Contest]]) -> Standing:
    fates = Counter(fate(contest.side) for _, contest in tasks)
    against: list[stats.Ratio] = []
    humans: list[stats.Ratio] = []
    words: Counter[stats.Word] = Counter()
    iso: Counter[IsoWord] = Counter()
    for comparison, contest in tasks:
        name = headline(comparison.task.mode)
        if shown := contest.baseline.metrics.get(name):
            against.append(shown.ratio)
            words[shown.call.word] += 1
        if shown := (contest.human or Versus()).metrics.get(name):
            humans.append(shown.ratio)
        if contest.iso is not None:
            iso[contest.iso.word] += 1
    low, high = stats.wilson(fates["success"], len(tasks))
    return Standing(
        campaign=campaign,
        simulated=tasks[0][0].task.simulated,
        agent=agent,
        tasks=len(tasks),
        fates=fates,
        low=low,
        high=high,
        baseline=stats.geometric_mean(against),
        human=stats.geometric_mean(humans),
        words=words,
        iso=iso,
    )
