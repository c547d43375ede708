"""Speedups, their intervals and what may be said of them: known values, coverage, and what no input may break."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from isobench_tui.results.models import Better
from isobench_tui.results.stats import (
    MOST_REPEATS,
    Call,
    Floor,
    Ratio,
    call,
    drift,
    flip_risk,
    geometric_mean,
    noise_floor,
    outliers,
    speedup,
    wilson,
)

TWO_PERCENT = Floor(math.log(1.02), assumed=True, repeats=0)
VALUES = st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=8)
DIRECTIONS: tuple[Better, Better] = ("higher", "lower")


def normal(rng: random.Random, count: int, cv: float, mean: float = 100.0) -> list[float]:
    return [mean * math.exp(rng.gauss(0, cv)) for _ in range(count)]


# -------------------------------------------------------------------------------------------------------- the ratio


def test_a_speedup_against_numbers_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    ours, theirs = [105.0, 107.0, 104.0, 106.5], [100.0, 99.0, 102.0]
    found = speedup(ours, theirs, "higher")
    known = stats.ttest_ind([math.log(v) for v in ours], [math.log(v) for v in theirs], equal_var=False)
    low, high = known.confidence_interval(0.95)
    assert (found.ours, found.theirs) == (4, 3)
    assert found.value == pytest.approx(stats.gmean(ours) / stats.gmean(theirs))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert found.df == pytest.approx(known.df)


@pytest.mark.parametrize(("ours", "better"), [(110.0, "higher"), (100 / 1.1, "lower")])
def test_more_than_one_is_better_whatever_the_direction(ours: float, better: Better) -> None:
    assert speedup([ours], [100.0], better).value == pytest.approx(1.1)


def test_one_value_has_no_interval() -> None:
    found = speedup([2.0], [1.0, 1.1, 0.9], "higher")
    assert (found.half, found.low, found.high, found.df) == (None, None, None, None)
    assert found.spread is not None, "the other side still tells how many repeats are needed"
    assert speedup([2.0], [1.0], "higher").spread is None


def test_equal_values_have_an_interval_without_width() -> None:
    found = speedup([2.0, 2.0], [1.0, 1.0, 1.0], "higher")
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))
    assert found.df == 3.0


@pytest.mark.parametrize("bad", [[], [0.0], [1.0, -1.0], [math.nan], [math.inf]])
def test_what_has_no_logarithm_has_no_speedup(bad: list[float]) -> None:
    for ours, theirs in ((bad, [1.0]), ([1.0], bad)):
        with pytest.raises(ValueError, match="finite positive"):
            speedup(ours, theirs, "higher")
    with pytest.raises(ValueError, match="better side"):
        speedup([1.0], [1.0], "none")


@pytest.mark.parametrize("repeats", [2, 3, 5, 8])
def test_the_interval_covers_the_truth_as_often_as_it_says(repeats: int) -> None:
    rng = random.Random(20260124 + repeats)
    inside, rounds, truth = 0, 2000, 1.07
    for _ in range(rounds):
        found = speedup(normal(rng, repeats, 0.0235, truth), normal(rng, repeats, 0.0235, 1.0), "higher")
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
    # Welch is a little conservative at two repeats; 0.94 is more than two standard errors below 0.95.
    assert 0.94 <= inside / rounds <= 0.99


@given(VALUES, VALUES, st.sampled_from(DIRECTIONS))
def test_never_nan_and_symmetric(ours: list[float], theirs: list[float], better: Better) -> None:
    found, other = speedup(ours, theirs, better), speedup(theirs, ours, better)
    assert found.log == pytest.approx(-other.log, abs=1e-9)
    numbers = (found.value, found.low, found.high, found.df, found.spread)
    assert all(number is None or math.isfinite(number) for number in numbers)
    if found.half is not None:
        assert other.half == pytest.approx(found.half, abs=1e-9)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high
        floor = noise_floor(theirs)
        assert math.isfinite(floor.log)
        risk = flip_risk(found, 0.95, 1.05)
        assert risk is not None
        assert 0 <= risk <= 1
    decided = call(found, TWO_PERCENT)
    assert (decided.more is None) == (decided.word != "inconclusive")
    assert decided.more is None or 1 <= decided.more <= MOST_REPEATS
    assert all(math.isfinite(z) for _, z in outliers(ours))


@given(
    st.lists(st.floats(0.1, 1000), min_size=2, max_size=6),
    st.lists(st.floats(0.1, 1000), min_size=2, max_size=6),
    st.floats(1e-6, 1e6),
)
def test_the_unit_changes_nothing(ours: list[float], theirs: list[float], scale: float) -> None:
    plain = speedup(ours, theirs, "higher")
    scaled = speedup([v * scale for v in ours], [v * scale for v in theirs], "higher")
    assert scaled.log == pytest.approx(plain.log, abs=1e-9)
    assert scaled.half == pytest.approx(plain.half, abs=1e-6)
    assert speedup(ours, theirs, "lower").log == pytest.approx(-plain.log, abs=1e-12)


# ---------------------------------------------------------------------------------------------- floor and verdict


def test_the_floor_is_assumed_until_the_baseline_ran_three_and_three_times() -> None:
    noisy = [100.0, 110.0, 90.0, 105.0, 95.0]
    assert noise_floor(noisy, 0.03) == Floor(math.log1p(0.03), assumed=True, repeats=5)
    found = noise_floor([*noisy, 100.0])
    assert not found.assumed
    assert found.fraction == pytest.approx(0.16, abs=0.005)
    quiet = noise_floor([100.0, 100.1, 99.9] * 2)
    assert not quiet.assumed
    assert quiet.fraction == pytest.approx(0.02), "never below the configured one"
    assert noise_floor([]).assumed


def test_the_measured_floor_is_exceeded_by_one_a_a_pair_in_twenty() -> None:
    rng, over, rounds = random.Random(7), 0, 2000
    for _ in range(rounds):
        floor = noise_floor(normal(rng, 6, 0.05), 1e-9)
        again = speedup(normal(rng, 3, 0.05), normal(rng, 3, 0.05), "higher")
        over += abs(again.log) > floor.log
    assert 0.04 < over / rounds < 0.06


@pytest.mark.parametrize(
    ("log", "half", "word"),
    [
        (0.10, 0.02, "win"),
        (-0.10, 0.02, "loss"),
        (0.00, 0.01, "tie"),
        (0.01, 0.02, "inconclusive"),
        (0.03, 0.02, "inconclusive"),
        (-0.03, 0.02, "inconclusive"),
        (0.00, 0.50, "inconclusive"),
    ],
)
def test_only_the_interval_against_the_floor_decides(log: float, half: float, word: str) -> None:
    assert call(Ratio(3, 3, log, half, 4.0, 0.02), TWO_PERCENT).word == word


def test_no_effect_is_hardly_ever_called_a_win() -> None:
    rng, wins, rounds = random.Random(11), 0, 2000
    for _ in range(rounds):
        found = speedup(normal(rng, 3, 0.0235), normal(rng, 3, 0.0235), "higher")
        wins += call(found, TWO_PERCENT).word in ("win", "loss")
    assert wins / rounds < 0.03


def test_how_many_more_repeats() -> None:
    estimate, floor = math.log(1.06), Floor(math.log(1.02), assumed=True, repeats=3)
    told = call(Ratio(3, 3, estimate, 0.06, 4.0, 0.03), floor).more
    assert told is not None
    target, needed = estimate - floor.log, 3 + told
    special = pytest.importorskip("scipy.special")
    width = [float(special.stdtrit(2 * n - 2, 0.975)) * 0.03 * math.sqrt(2 / n) for n in (needed - 1, needed)]
    assert width[1] <= target < width[0], "the smallest number that makes the interval narrow enough"
    assert call(Ratio(1, 1, estimate), floor) == Call("inconclusive", 2)
    assert call(Ratio(3, 3, floor.log, 0.1, 4.0, 0.03), floor).more == MOST_REPEATS
    assert call(Ratio(1, 3, estimate, spread=0.001), floor) == Call("inconclusive", 1)


# ------------------------------------------------------------------------------------------- flip risk and the rest


def ratio(low: float, high: float) -> Ratio:
    return Ratio(3, 3, (math.log(low) + math.log(high)) / 2, (math.log(high) - math.log(low)) / 2, 4.0, 0.01)


def test_flip_risk_is_half_on_a_boundary_and_small_far_from_it() -> None:
    on_it = flip_risk(ratio(1.05 / 1.02, 1.05 * 1.02), 0.95, 1.05)
    assert on_it == pytest.approx(0.5, abs=0.01)
    assert flip_risk(ratio(1.29, 1.31), 0.95, 1.05) == pytest.approx(0, abs=1e-4)
    assert flip_risk(ratio(0.95, 1.05), 0.95, 1.05) == pytest.approx(0.05, abs=0.005), "its interval is the class"
    assert flip_risk(Ratio(1, 1, 0.0), 0.95, 1.05) is None
    assert flip_risk(Ratio(2, 2, 0.0, 0.0, 2.0, 0.0), 0.95, 1.05) == 0


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([100, 101, 99, 100.5, 140], [4]),
        ([100, 100, 100, 100, 130], [4]),
        ([100, 101, 99, 140], []),
        ([100, 101, 102, 99, 98], []),
        ([100.0] * 6, []),
    ],
)
def test_outliers_are_told(values: list[float], found: list[int]) -> None:
    assert [at for at, _ in outliers(values)] == found


def test_what_is_within_the_noise_is_no_outlier() -> None:
    close = [100.0, 100.5, 99.5, 100.2, 100.1]
    assert [at for at, _ in outliers(close)] == [2]
    assert outliers(close, 0.02) == []
    assert [at for at, _ in outliers([*close, 103.0], 0.02)] == [5]


def sides(rate: float, noise: float, rng: random.Random) -> Sequence[Sequence[tuple[float, float]]]:
    """Three arms, five repeats, interleaved, 10 minutes a run; the agent's is 10 % faster."""
    return [
        [(600.0 * (3 * i + arm), mean * math.exp(rate * (3 * i + arm) / 14 + rng.gauss(0, noise))) for i in range(5)]
        for arm, mean in enumerate((100, 100, 110))
    ]


def test_a_trend_through_all_arms_is_drift_and_a_speedup_is_none() -> None:
    rng = random.Random(3)
    found = drift(sides(0.03, 0.002, rng))
    assert found is not None
    assert found.change == pytest.approx(0.03, abs=0.005)
    assert found.hours == pytest.approx(14 / 6)
    false = sum(drift(sides(0.0, 0.01, rng)) is not None for _ in range(500))
    assert false / 500 < 0.03
    assert drift([[(0.0, 1.0), (1.0, 2.0)], [(2.0, 3.0), (3.0, 4.0)]]) is None, "too few"
    assert drift([[(0.0, 1.0 + i) for i in range(8)]]) is None, "all at one time"


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (18, 39, 0.3157, 0.6137), (1, 1, 0.2065, 1.0)],
)
def test_wilsons_interval(successes: int, total: int, low: float, high: float) -> None:
    assert wilson(successes, total) == pytest.approx((low, high), abs=1e-3)


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilsons_interval_holds_the_rate(successes: int, total: int) -> None:
    assume(successes <= total)
    low, high = wilson(successes, total)
    assert 0 <= low <= (successes / total if total else 0.5) <= high <= 1


def test_geometric_mean_over_tasks() -> None:
    assert geometric_mean([]) is None
    found = geometric_mean([Ratio(1, 1, math.log(v)) for v in (1.0, 1.2, 1.44)])
    assert found is not None
    assert found.tasks == 3
    assert found.value == pytest.approx(1.2)
    half = 4.302653 * math.log(1.2) / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((1.2 * math.exp(-half), 1.2 * math.exp(half)), rel=1e-5)
    alone = geometric_mean([ratio(1.1, 1.3)])
    assert alone is not None
    assert (alone.low, alone.high) == pytest.approx((1.1, 1.3))
    only = geometric_mean([Ratio(1, 1, 0.1)])
    assert only is not None
    assert (only.low, only.high) == (None, None)
