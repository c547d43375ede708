"""What an operator types to go somewhere: a line, a time, a share of the log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

_CLOCK = re.compile(r"(?:(\d{4}-\d\d-\d\d)[T ])?(\d{1,2}):(\d\d)(?::(\d\d)(?:\.\d*)?)?")
_SHIFT = re.compile(r"([+-])(\d{1,6})\s*([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
HINT = "a line (1200), a time (14:32, 2026-01-24 14:32:10), a distance (-5m, +30s, +2h), a share (50%)"


class BadPlace(ValueError):
    """Not a place; the message says what is."""


@dataclass(frozen=True, slots=True)
class ToLine:
    number: int


@dataclass(frozen=True, slots=True)
class ToTime:
    """Unix seconds."""

    at: float


@dataclass(frozen=True, slots=True)
class ToShare:
    """0 to 1 of the bytes."""

    share: float


Place = ToLine | ToTime | ToShare


def parse_place(text: str, *, first: float | None, here: float | None) -> Place:
    """Read a place. Times are local; one without a date is the first such time after the log's first entry.

    `first`, `here`: unix seconds of the log's first entry and of the line that is looked at, None if nobody knows.
    Raises BadPlace.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return ToLine(int(text))
    if text.endswith("%"):
        try:
            return ToShare(min(1.0, max(0.0, float(text[:-1]) / 100)))
        except ValueError:
            pass
    if found := _SHIFT.fullmatch(text):
        if here is None:
            raise BadPlace("it is not known when this line was written, so there is no distance from it")
        return ToTime(here + int(f"{found[1]}{found[2]}") * _UNITS[found[3]])
    if found := _CLOCK.fullmatch(text):
        return ToTime(_clock(found, first))
    raise BadPlace(f"{text!r} is no place; give {HINT}" if text else f"give {HINT}")


def _clock(found: re.Match[str], first: float | None) -> float:
    start = datetime.now().astimezone() if first is None else datetime.fromtimestamp(first).astimezone()
    try:
        day = datetime.fromisoformat(found[1]) if found[1] else start
        at = day.replace(hour=int(found[2]), minute=int(found[3]), second=int(found[4] or 0), microsecond=0)
    except ValueError as error:
        raise BadPlace(f"{found[0]!r} is no time: {error}") from error
    at = at.replace(tzinfo=None).astimezone()
    if not found[1] and first is not None and at < start.replace(second=0, microsecond=0):
        at = (at.replace(tzinfo=None) + timedelta(days=1)).astimezone()
    return at.timestamp()
