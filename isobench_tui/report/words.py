"""How reports write speedups and what may be said of them."""

from __future__ import annotations

from isobench_tui.results.compare import Compared, Versus
from isobench_tui.results.isoclass import IsoClass
from isobench_tui.results.stats import MOST_REPEATS, Call, Floor, Mean, Ratio


def number(value: float) -> str:
    """Two decimals, or four digits of something small."""
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"


def percent(fraction: float) -> str:
    """`23 %`."""
    return f"{100 * fraction:.0f} %"


def times(value: float) -> str:
    """A speedup: `1.036`; extreme ones short."""
    return f"{value:.3f}" if 0.01 <= value < 1000 else f"{value:.3g}"


def interval(low: float | None, high: float | None) -> str:
    """`[1.011, 1.062]`, or that there is none."""
    return "no CI" if low is None or high is None else f"[{times(low)}, {times(high)}]"


def count(ratio: Ratio) -> str:
    """`n=3`, or ours against theirs: `n=3:5`."""
    return f"n={ratio.ours}" if ratio.ours == ratio.theirs else f"n={ratio.ours}:{ratio.theirs}"


def speedup(ratio: Ratio) -> str:
    """`1.036 [1.011, 1.062] n=3`, or `1.036 (n=1, no CI)`."""
    if ratio.half is None:
        return f"{times(ratio.value)} ({count(ratio)}, no CI)"
    return f"{times(ratio.value)} {interval(ratio.low, ratio.high)} {count(ratio)}"


def verdict(call: Call) -> str:
    """`win`, or `inconclusive (2 more repeats)`."""
    return call.word if call.more is None else f"{call.word} ({more_repeats(call.more)})"


def more_repeats(count: int) -> str:
    """`2 more repeats`: what would settle a speedup that is inconclusive."""
    if count >= MOST_REPEATS:
        return f"{MOST_REPEATS} or more repeats"
    return "1 more repeat" if count == 1 else f"{count} more repeats"


def outcome(versus: Versus | None, metric: str) -> str | None:
    """Speedup and verdict of one metric, or why there is none; None where nothing was compared."""
    if versus is None:
        return None
    if versus.refused is not None:
        return f"not compared: {versus.refused}"
    found: Compared | None = versus.metrics.get(metric)
    return f"{speedup(found.ratio)}, {verdict(found.call)}" if found else None


def mean(found: Mean | None) -> str | None:
    """`1.12 [1.05, 1.19], 14 tasks`."""
    if found is None:
        return None
    tasks = "1 task" if found.tasks == 1 else f"{found.tasks} tasks"
    return f"{times(found.value)} {interval(found.low, found.high)}, {tasks}"


def floor(found: Floor) -> str:
    """`2.0 % (assumed: 3 baseline repeats, 6 would tell)`."""
    why = f"assumed: {found.repeats} baseline repeats, 6 would tell" if found.assumed else f"{found.repeats} repeats"
    return f"{100 * found.fraction:.1f} % ({why})"


def iso(found: IsoClass | None) -> str | None:
    """`beats (+7.1 % mean_ttft_ms, flip risk 3 %)`."""
    if found is None:
        return None
    if found.percent is None:
        return found.word
    risk = "n=1, no CI" if found.flip_risk is None else f"flip risk {percent(found.flip_risk)}"
    return f"{found.word} ({found.percent:+.1f} % {found.metric}, {risk})"
