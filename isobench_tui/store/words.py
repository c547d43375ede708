"""Small words that several messages share."""

from __future__ import annotations


def count_jobs(number: int) -> str:
    """`1 job`, `3 jobs`."""
    return f"{number} job" if number == 1 else f"{number} jobs"
