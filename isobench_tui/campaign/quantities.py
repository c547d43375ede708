"""Sizes and durations as people write them in a campaign file."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator

from isobench_tui.campaign.problems import rejected

_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*(?:([kmgt])i?b?|b)?\s*", re.ASCII | re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZES = 'bytes as a number, or a string like "512m", "16g", "2GiB" (1g = 1024³ bytes, as docker counts)'
_LARGEST = 2**62

_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATIONS = 'seconds as a number, or a string like "90s", "30m", "1h30m" (at most 30 days)'
_LONGEST = 30 * 86400.0


def size(value: object) -> int:
    """Bytes. Raises the spec's own validation error for anything else than a number or `16g`, `2GiB`."""
    found: float | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        found = float(match[1]) * 1024 ** _POWER[(match[2] or "").lower()]
    if found is None or not 0 < found <= _LARGEST:
        raise rejected("not a size", _SIZES)
    return int(found)


def seconds(value: object) -> float:
    """Seconds, 0 included. Raises the spec's own validation error for anything else than a number or `1h30m`."""
    found: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value) if abs(value) < 1e12 else None
    elif isinstance(value, str):
        text = value.replace(" ", "")
        parts = _PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            found = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if found is None or not math.isfinite(found) or not 0 <= found <= _LONGEST:
        raise rejected("not a duration", _DURATIONS)
    return found


def deadline(value: object) -> float:
    """Seconds, more than 0."""
    found = seconds(value)
    if not found:
        raise rejected("a deadline of 0 would end everything at once", _DURATIONS)
    return found


Size = Annotated[int, BeforeValidator(size)]
Seconds = Annotated[float, BeforeValidator(seconds)]
Deadline = Annotated[float, BeforeValidator(deadline)]
