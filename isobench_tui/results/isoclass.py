"""ISO-Bench's own classification of an agent's result against the human's, kept beside ours because papers cite it.

Its hard metric is the mean TTFT for serving, the latency for latency runs, throughput otherwise; a result within 5 %
of the human's is similar. It knows no noise: how easily a class flips is told with it. An agent whose patch failed
is counted worse there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from isobench_tui.campaign.models import Mode
from isobench_tui.results import stats
from isobench_tui.results.models import Metric

IsoWord = Literal["beats", "similar", "worse", "agent_failed", "no_data"]

THRESHOLD: Final = 5.0
"""Percent of the human's value."""

_METRICS: Final[dict[Mode, tuple[str, ...]]] = {
    "serving": ("mean_ttft_ms", "request_throughput"),
    "throughput": ("tokens_per_second", "requests_per_second"),
    "latency": ("avg_latency",),
    "prefix_caching": ("output_throughput", "cost_time"),
}


@dataclass(frozen=True, slots=True)
class IsoClass:
    """The class, and the number that made it."""

    word: IsoWord
    metric: str | None = None
    percent: float | None = None
    """How much better than the human's, in percent of the human's value."""
    flip_risk: float | None = None
    """Probability that the true value lies in another class; None without repeats."""


def iso_metrics(mode: Mode) -> tuple[str, ...]:
    """The metrics that may classify a result of this mode: the first one that both sides have does."""
    return _METRICS[mode]


def iso_class(
    mode: Mode, agent: Sequence[Mapping[str, Metric]], human: Sequence[Mapping[str, Metric]], *, failed: bool
) -> IsoClass:
    """Classify by the means over the runs of both, which may be compared. `failed`: only the agent has no result."""
    if failed:
        return IsoClass("agent_failed")
    for name in iso_metrics(mode):
        ours = [run[name] for run in agent if name in run and run[name].value > 0]
        theirs = [run[name].value for run in human if name in run and run[name].value > 0]
        if ours and theirs:
            return _classify(name, ours, theirs)
    return IsoClass("no_data")


def _classify(name: str, ours: Sequence[Metric], theirs: Sequence[float]) -> IsoClass:
    values, better = [item.value for item in ours], ours[0].better
    gain = (sum(values) / len(values)) / (sum(theirs) / len(theirs)) - 1
    edges = 1 - THRESHOLD / 100, 1 + THRESHOLD / 100
    if better == "lower":
        gain, edges = -gain, (1 / edges[1], 1 / edges[0])
    percent = 100 * gain
    word: IsoWord = "beats" if percent > THRESHOLD else "worse" if percent < -THRESHOLD else "similar"
    return IsoClass(word, name, percent, stats.flip_risk(stats.speedup(values, theirs, better), *edges))
