"""The few statistics that the tables need, as numpy gives them."""

import math


def mean(values):
    """Arithmetic mean, 0 for nothing."""
    return sum(values) / len(values) if values else 0.0


def std(values):
    """Population standard deviation, 0 for nothing."""
    if not values:
        return 0.0
    middle = mean(values)
    return math.sqrt(sum((value - middle) ** 2 for value in values) / len(values))


def percentile(values, share):
    """The percentile with linear interpolation, 0 for nothing. `share` is 0 to 100."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100.0
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
