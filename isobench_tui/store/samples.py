"""The history of the host: readings of disks, GPUs and the machine, thinned out as they age.

| kind | key | value | total |
|---|---|---|---|
| disk | path | bytes free | bytes |
| cpu | host | busy share of all CPUs, percent | 100 |
| load | host | tasks, mean of a minute | CPUs |
| memory | host | bytes that are not available | bytes |
| gpu_memory | the GPU's UUID | bytes used | bytes |
| gpu_utilization | UUID | percent | 100 |
| gpu_temperature | UUID | degrees Celsius | |
| gpu_clock | UUID | MHz of the SMs | highest MHz |
| gpu_power | UUID | watts | limit |
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from isobench_tui.store.clock import now, seconds, stamp

Kind = Literal[
    "disk",
    "cpu",
    "load",
    "memory",
    "gpu_memory",
    "gpu_utilization",
    "gpu_temperature",
    "gpu_clock",
    "gpu_power",
]

STEP_S = 10
"""Seconds between two readings as they are written."""

_AGES = ((STEP_S, 3600, 60, 16, ":00.000Z"), (60, 86400, 600, 15, "0:00.000Z"))
"""(step, age in s at which it is merged, step of what comes of it, how much of a time names that, the rest of it)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one thing; units as the module says."""

    kind: Kind
    key: str
    value: float
    total: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A reading in the store, or the mean of those that lie in one step of a history."""

    key: str
    at: str
    value: float
    total: float | None


def add(connection: sqlite3.Connection, readings: Iterable[Reading], at: str | None = None) -> None:
    """Write readings of one moment inside the caller's transaction."""
    at = at or now()
    connection.executemany(
        "INSERT OR REPLACE INTO samples (at, kind, key, value, total, step) VALUES (?,?,?,?,?,?)",
        [(at, one.kind, one.key, one.value, one.total, STEP_S) for one in readings],
    )


def thin(connection: sqlite3.Connection) -> None:
    """Merge what has aged into means: a minute's beyond an hour, ten minutes' beyond a day. Reads no more than that.

    Runs inside the caller's transaction.
    """
    for step, age, merged, length, rest in _AGES:
        horizon = stamp(time.time() - age)[:length]  # whole steps alone, so that each is merged once
        connection.execute(
            "INSERT OR REPLACE INTO samples (at, kind, key, value, total, step) "
            "SELECT substr(at, 1, ?) || ?, kind, key, avg(value), max(total), ? FROM samples "
            "WHERE step = ? AND at < ? GROUP BY kind, key, substr(at, 1, ?)",
            (length, rest, merged, step, horizon, length),
        )
        connection.execute("DELETE FROM samples WHERE step = ? AND at < ?", (step, horizon))


def newest(connection: sqlite3.Connection, kind: Kind) -> list[Point]:
    """The last reading of each key of a kind."""
    # with max() the other columns are those of the row that has it (sqlite.org/lang_select.html#bareagg)
    rows = connection.execute(
        "SELECT key, max(at) AS at, value, total FROM samples WHERE kind = ? GROUP BY key", (kind,)
    )
    return [Point(row["key"], row["at"], row["value"], row["total"]) for row in rows]


def history(
    connection: sqlite3.Connection, kind: Kind, key: str, *, span_s: float, points: int, until: str | None = None
) -> list[Point | None]:
    """The last `span_s` seconds in `points` steps of equal length, oldest first, each the mean of its readings.

    None is a step without a reading: the runner was away. A row that stands for more than one step (it has aged)
    fills all of its steps. `at` is the beginning of the step.
    """
    end = time.time() if until is None else seconds(until)
    start, width = end - span_s, span_s / points
    rows = connection.execute(
        "SELECT CAST(round((julianday(at) - julianday(?)) * 86400000) / ? AS INTEGER) AS place, avg(value) AS value, "
        "max(total) AS total, max(step) AS step FROM samples "
        "WHERE kind = ? AND key = ? AND at >= ? AND at < ? GROUP BY place ORDER BY place",
        (stamp(start), 1000 * width, kind, key, stamp(start), stamp(end)),
    ).fetchall()
    found: list[Point | None] = [None] * points
    for row in rows:
        for place in range(row["place"], min(points, row["place"] + max(1, round(row["step"] / width)))):
            found[place] = Point(key, stamp(start + place * width), row["value"], row["total"])
    return found
