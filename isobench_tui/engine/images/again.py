"""Trying again after what passes: too many requests, errors of a server, connections that broke."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from isobench_tui.engine.base import PullFailed

T = TypeVar("T")

ATTEMPTS = 5
LONGEST_S = 120.0
"""No single wait is longer, whatever the registry asks for: the phase has a deadline of its own."""


class Passing(PullFailed):
    """A failure that may be gone a moment later. `after`: seconds that the registry asks us to wait, if it did."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


async def tried(
    work: Callable[[], Awaitable[T]],
    *,
    backoff: float,
    attempts: int = ATTEMPTS,
    progressed: Callable[[], object] | None = None,
) -> T:
    """Do it until it works, `attempts` times at most; `backoff` seconds lie between, doubled each time.

    Where `progressed` returns something else than after the failure before, it counts as the first again. Raises the
    last Passing, and at once whatever else comes.
    """
    failures, mark = 0, progressed() if progressed else None
    while True:
        try:
            return await work()
        except Passing as error:
            now = progressed() if progressed else None
            failures = 1 if now != mark else failures + 1
            mark = now
            if failures >= attempts:
                raise
            wait = max(backoff * 2 ** (failures - 1), error.after or 0.0)
        await asyncio.sleep(min(wait, LONGEST_S))


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date (RFC 9110, 10.2.3). None: it says nothing."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
