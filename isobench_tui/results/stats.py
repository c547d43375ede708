"""The statistics of speedups. All of it works on logarithms, where a ratio is a difference and noise is symmetric.

Why Welch's t on logs: at 2 to 8 repeats an arm its 95 % interval covers the true ratio 95 to 98 times of 100, where a
percentile bootstrap covers it 67 to 91 times. scipy gives the distributions; it is imported where one is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal

from isobench_tui.results.models import Better

Word = Literal["win", "tie", "loss", "inconclusive"]

CONFIGURED_FLOOR: Final = 0.02
"""Difference below which two results count as equal where nothing better is known: 2 %."""
FLOOR_REPEATS: Final = 6
"""Baseline repeats (3 + 3) from which the noise of the host is measured instead of assumed."""
OUTLIER_Z: Final = 3.5
"""Iglewicz and Hoaglin's bound for the modified z-score."""
OUTLIER_REPEATS: Final = 5
"""With fewer values the median of deviations says next to nothing: of three, one is often far out."""
DRIFT_REPEATS: Final = 6
MOST_REPEATS: Final = 99
"""`Call.more` says this where as many more repeats, or more than that, would be needed."""
_Z95: Final = 1.959963984540054
_EXP_LIMIT: Final = 709.0


@dataclass(frozen=True, slots=True)
class Ratio:
    """A speedup: how many times better ours is than theirs, whatever the metric's direction; over 1 is better."""

    ours: int
    """Values on our side: valid attempts."""
    theirs: int
    log: float
    """Natural logarithm of the ratio of the geometric means."""
    half: float | None = None
    """Half the width of the 95 % interval of `log`; None where a side has one value only."""
    df: float | None = None
    """Welch-Satterthwaite degrees of freedom."""
    spread: float | None = None
    """Standard deviation of the logs within the sides, pooled: nearly the coefficient of variation."""

    @property
    def value(self) -> float:
        return _exp(self.log)

    @property
    def low(self) -> float | None:
        return None if self.half is None else _exp(self.log - self.half)

    @property
    def high(self) -> float | None:
        return None if self.half is None else _exp(self.log + self.half)


@dataclass(frozen=True, slots=True)
class Floor:
    """The difference that noise alone makes on a host with a workload."""

    log: float
    assumed: bool
    """Too few baseline repeats to measure it: this is the configured one."""
    repeats: int
    """Baseline repeats that it was looked for in."""

    @property
    def fraction(self) -> float:
        return math.expm1(self.log)


@dataclass(frozen=True, slots=True)
class Call:
    """What may be said of a speedup."""

    word: Word
    more: int | None = None
    """With `inconclusive`: about how many more repeats of each side would settle it, if the estimate stays."""


@dataclass(frozen=True, slots=True)
class Mean:
    """Geometric mean of the speedups of several tasks."""

    value: float
    low: float | None
    high: float | None
    tasks: int


@dataclass(frozen=True, slots=True)
class Drift:
    """A trend in time that runs through all sides alike."""

    change: float
    """Relative change of the values from the first to the last run; 0.03 is 3 % more."""
    hours: float


def _exp(log: float) -> float:
    return math.exp(max(-_EXP_LIMIT, min(_EXP_LIMIT, log)))


@lru_cache(maxsize=4096)
def _t(df: float, level: float = 0.95) -> float:
    """Two-sided quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + level / 2))


def _logs(values: Sequence[float]) -> list[float]:
    if not values or not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError("a ratio needs finite positive values on both sides")
    return [math.log(value) for value in values]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _squares(values: Sequence[float]) -> float:
    """Sum of the squared deviations from the mean."""
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def speedup(ours: Sequence[float], theirs: Sequence[float], better: Better) -> Ratio:
    """Ratio of geometric means with Welch's 95 % interval. A value is an attempt: its trials were averaged before.

    Raises ValueError where a side is empty, a value is not finite and positive, or the metric has no better side.
    """
    if better == "none":
        raise ValueError("a metric without a better side has no speedup")
    mine, other = _logs(ours), _logs(theirs)
    log = _mean(mine) - _mean(other)
    if better == "lower":
        log = -log
    counts = len(mine), len(other)
    squares, free = [_squares(mine), _squares(other)], [count - 1 for count in counts]
    spread = math.sqrt(math.fsum(squares) / sum(free)) if sum(free) else None
    if 0 in free:
        return Ratio(*counts, log, spread=spread)
    parts = [square / have / count for square, have, count in zip(squares, free, counts, strict=True)]
    total = math.fsum(parts)
    if total == 0:
        return Ratio(*counts, log, 0.0, float(sum(free)), 0.0)
    df = 1 / math.fsum((part / total) ** 2 / have for part, have in zip(parts, free, strict=True))
    return Ratio(*counts, log, _t(df) * math.sqrt(total), df, spread)


def noise_floor(baseline: Sequence[float], configured: float = CONFIGURED_FLOOR) -> Floor:
    """The difference that the baseline against itself (A/A, as often as here) exceeds in 1 of 20 cases.

    Computed from the spread of its repeats, and never below `configured`; below 3 + 3 repeats `configured`, marked
    as assumed.
    """
    assumed, count = math.log1p(configured), len(baseline)
    if count < FLOOR_REPEATS:
        return Floor(assumed, assumed=True, repeats=count)
    half = count // 2
    spread = math.sqrt(_squares(_logs(baseline)) / (count - 1))
    upper = _t(float(count - 1)) * spread * math.sqrt(1 / half + 1 / (count - half))
    return Floor(max(assumed, upper), assumed=False, repeats=count)


def call(ratio: Ratio, floor: Floor) -> Call:
    """Win or loss: the whole interval lies beyond the floor. Tie: it lies within. Else inconclusive."""
    if ratio.half is not None:
        low, high = ratio.log - ratio.half, ratio.log + ratio.half
        if low > floor.log:
            return Call("win")
        if high < -floor.log:
            return Call("loss")
        if -floor.log <= low and high <= floor.log:
            return Call("tie")
    have = min(ratio.ours, ratio.theirs)
    if ratio.spread is None:
        return Call("inconclusive", max(1, 3 - have))
    needed = _repeats_for(ratio.spread, abs(abs(ratio.log) - floor.log))
    return Call("inconclusive", min(MOST_REPEATS, max(1, needed - have)))


def _repeats_for(spread: float, target: float) -> int:
    """Repeats of each side that make half an interval no wider than `target`: (t * spread * sqrt(2) / target)^2."""
    most = 2 * MOST_REPEATS
    if target <= spread * _Z95 * math.sqrt(2 / most):
        return most
    count = max(2, math.ceil(2 * (_Z95 * spread / target) ** 2))
    while count < most and _t(float(2 * count - 2)) * spread * math.sqrt(2 / count) > target:
        count += 1
    return count


def flip_risk(ratio: Ratio, worse: float, better: float) -> float | None:
    """Probability that the true speedup lies in another class than the estimate; None without an interval.

    The classes are: below `worse`, up to `better`, above it (both as speedups).
    """
    if ratio.half is None or ratio.df is None:
        return None
    if ratio.half == 0:
        return 0.0
    from scipy.special import stdtr

    scale = ratio.half / _t(ratio.df)
    edges = (-math.inf, math.log(worse), math.log(better), math.inf)
    low, high = next((low, high) for low, high in pairwise(edges) if ratio.log <= high)
    inside = float(stdtr(ratio.df, (high - ratio.log) / scale)) - float(stdtr(ratio.df, (low - ratio.log) / scale))
    return min(1.0, max(0.0, 1 - inside))


def _median(values: Sequence[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def outliers(values: Sequence[float], least: float = 0.0) -> list[tuple[int, float]]:
    """Index and modified z-score (by the median absolute deviation of the logs) of values that are far out.

    Those within `least` (0.02: 2 %) of the median are none: a few values can lie very close together by chance. Where
    more than half are equal, the mean absolute deviation stands in. Outliers are told, never dropped.
    """
    if len(values) < OUTLIER_REPEATS:
        return []
    logs = _logs(values)
    middle = _median(logs)
    away = [abs(log - middle) for log in logs]
    unit = _median(away) / 0.6745 or _mean(away) * 1.2533
    bound = max(OUTLIER_Z * unit, math.log1p(least))
    return [(at, far / unit) for at, far in enumerate(away) if far > bound]


def drift(sides: Sequence[Sequence[tuple[float, float]]]) -> Drift | None:
    """A common slope over time through sides of (unix seconds, value), if it is there at the 99 % level.

    Needs `DRIFT_REPEATS` values on sides of two or more. Each side is centred first, so that a speedup is no trend.
    """
    used = [side for side in sides if len(side) > 1]
    count = sum(map(len, used))
    df = count - len(used) - 1
    if count < DRIFT_REPEATS or df < 1:
        return None
    xs: list[float] = []
    ys: list[float] = []
    for side in used:
        times, logs = [at for at, _ in side], _logs([value for _, value in side])
        xs += [at - _mean(times) for at in times]
        ys += [log - _mean(logs) for log in logs]
    sxx = math.fsum(x * x for x in xs)
    if sxx == 0:
        return None
    slope = math.fsum(x * y for x, y in zip(xs, ys, strict=True)) / sxx
    rest = math.fsum((y - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    if abs(slope) <= _t(float(df), 0.99) * math.sqrt(rest / df / sxx):
        return None
    span = max(at for side in used for at, _ in side) - min(at for side in used for at, _ in side)
    return Drift(math.expm1(min(_EXP_LIMIT, slope * span)), span / 3600)


def wilson(successes: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate; (0, 1) where nothing was tried."""
    if total == 0:
        return 0.0, 1.0
    rate, square = successes / total, _Z95**2
    centre = rate + square / (2 * total)
    half = _Z95 * math.sqrt(rate * (1 - rate) / total + square / (4 * total**2))
    low, high = ((centre + sign * half) / (1 + square / total) for sign in (-1, 1))
    return (0.0 if successes == 0 else max(0.0, low)), (1.0 if successes == total else min(1.0, high))


def geometric_mean(speedups: Sequence[Ratio]) -> Mean | None:
    """Over tasks, with Student's 95 % interval of the mean log between tasks; None without a task.

    One task alone has the interval of its own repeats, if any.
    """
    if not speedups:
        return None
    if len(speedups) == 1:
        only = speedups[0]
        return Mean(only.value, only.low, only.high, 1)
    logs, count = [ratio.log for ratio in speedups], len(speedups)
    centre = _mean(logs)
    half = _t(float(count - 1)) * math.sqrt(_squares(logs) / (count - 1) / count)
    return Mean(_exp(centre), _exp(centre - half), _exp(centre + half), count)
