"""Time as the store writes it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """This moment: UTC, ISO-8601, milliseconds, `Z`."""
    return stamp(datetime.now(UTC).timestamp())


def stamp(seconds: float) -> str:
    """Unix seconds in the store's form."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def seconds(text: str) -> float:
    """The store's form as unix seconds."""
    return datetime.fromisoformat(text).timestamp()


def ago(text: str) -> float:
    """Seconds since a stored time."""
    return datetime.now(UTC).timestamp() - seconds(text)
