"""The circuit breaker: faults of the machine pause the queue, burn no job, and are probed again with back-off.

Its state is one row of `meta`, so that it outlives the runner.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import asdict, dataclass

from isobench_tui.runner.policy import backoff
from isobench_tui.store import events
from isobench_tui.store.clock import now
from isobench_tui.store.db import meta, set_meta

KEY = "breaker"


@dataclass(frozen=True, slots=True)
class Breaker:
    """Why the queue paused itself."""

    at: str
    failure: str
    reason: str
    tries: int
    probe_at: float | None
    """Unix seconds of the next probe; None: only an operator's `resume` helps."""
    wants: tuple[tuple[str, int], ...] = ()
    """(path, bytes that must be free there) before anything is tried; () where that is not known."""
    foreseen: bool = False
    """The want of space was forecast, and nothing was begun: space alone ends the pause, with no probe."""


def read(connection: sqlite3.Connection) -> Breaker | None:
    """The pause that is on; None where the queue goes."""
    value = meta(connection, KEY)
    if value is None:
        return None
    found = json.loads(str(value))
    return Breaker(**{**found, "wants": tuple((path, size) for path, size in found.get("wants", ()))})


def trip(
    connection: sqlite3.Connection,
    failure: str,
    reason: str,
    *,
    probe: bool = True,
    wants: tuple[tuple[str, int], ...] = (),
    foreseen: bool = False,
) -> None:
    """Pause the queue, or lengthen the pause that is on already. `wants`, `foreseen`: see Breaker."""
    old = read(connection)
    if old is not None and old.probe_at is None:
        return  # only the operator ends that pause
    tries = old.tries + 1 if old is not None else 0
    wait = 0.0 if foreseen else backoff(tries)
    state = Breaker(
        at=old.at if old is not None else now(),
        failure=failure,
        reason=reason,
        tries=tries,
        probe_at=time.time() + wait if probe else None,
        wants=wants or (old.wants if old is not None else ()),
        foreseen=foreseen,
    )
    set_meta(connection, KEY, json.dumps(asdict(state)))
    how = f"looking again in {wait:.0f} s" if probe else "`isobench resume` goes on"
    if foreseen:
        how = "going on by itself when there is space"
    if old is None or old.reason != reason:
        events.add(connection, "paused", f"the queue paused itself: {failure}: {reason}; {how}")


def retell(connection: sqlite3.Connection, reason: str) -> None:
    """The same fault in newer words; the pause is no longer for it."""
    state = read(connection)
    if state is not None and state.reason != reason:
        set_meta(connection, KEY, json.dumps({**asdict(state), "reason": reason}))


def due(connection: sqlite3.Connection, failure: str) -> None:
    """A fault of this class is seen to be gone: the next probe need not wait for its time."""
    state = read(connection)
    if state is not None and state.failure == failure and state.probe_at is not None:
        set_meta(connection, KEY, json.dumps({**asdict(state), "probe_at": time.time()}))


def reset(connection: sqlite3.Connection, why: str = "the fault is gone") -> None:
    """The fault is gone."""
    if read(connection) is not None:
        set_meta(connection, KEY, None)
        events.add(connection, "resumed", f"{why}, the queue goes on")
