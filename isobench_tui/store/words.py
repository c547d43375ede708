"""Small words that several messages share."""

from __future__ import annotations

from typing import Final

NO_IMAGE: Final = "(not recorded)"
"""Image of a job whose result was imported: it can be read, and never run."""


def count_jobs(number: int) -> str:
    """`1 job`, `3 jobs`."""
    return f"{number} job" if number == 1 else f"{number} jobs"
