"""Values that change all the time: one row per key, replaced and never grown."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

from isobench_tui.store.clock import now

RUNNER_KEY = "runner"


@dataclass(frozen=True, slots=True)
class LiveLayer:
    id: str
    state: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class LivePull:
    """Key `pull/<attempt>`: bytes are compressed bytes."""

    layers: tuple[LiveLayer, ...]
    done: int
    total: int | None
    rate: float | None
    """Bytes a second over the last seconds; None before there are two readings."""
    eta: float | None
    """Seconds left; None where total or rate is unknown."""
    stalled_since: str | None


@dataclass(frozen=True, slots=True)
class LiveModel:
    """Key `model/<attempt>`: a model on its way into the host's cache. Sizes are bytes."""

    model: str
    revision: str
    """The commit that was pinned."""
    files: int
    files_total: int
    done: int
    total: int
    rate: float | None
    """Bytes a second over the last seconds; None before there are two readings."""
    eta: float | None
    """Seconds left; None where the rate is unknown."""
    stalled_since: str | None


@dataclass(frozen=True, slots=True)
class LivePhase:
    """Key `phase/<attempt>`: where the attempt is now."""

    phase: str
    since: str
    deadline_s: float
    detail: str = ""
    tokens_per_s: float | None = None
    """Generation throughput as the server's log says it: for display, never a result."""
    running: int | None = None
    waiting: int | None = None


@dataclass(frozen=True, slots=True)
class LiveRunner:
    """Key `runner`: the heartbeat, every 5 s."""

    pid: int
    state: str
    """starting, running, idle, ending."""
    engine: str = ""
    """What the engine said of itself."""


def put(
    connection: sqlite3.Connection,
    key: str,
    value: LivePull | LiveModel | LivePhase | LiveRunner,
    attempt: str | None = None,
) -> None:
    """Replace a live row inside the caller's transaction."""
    connection.execute(
        "INSERT OR REPLACE INTO live VALUES (?, ?, ?, ?)", (key, attempt, now(), json.dumps(asdict(value)))
    )


def drop(connection: sqlite3.Connection, attempt: str) -> None:
    """Remove every live row of an attempt."""
    connection.execute("DELETE FROM live WHERE attempt_id = ?", (attempt,))


def get(connection: sqlite3.Connection, key: str) -> tuple[str, dict[str, Any]] | None:
    """(when it was written, the value) of a live row; None if there is none."""
    row = connection.execute("SELECT at, value FROM live WHERE key = ?", (key,)).fetchone()
    return None if row is None else (row["at"], json.loads(row["value"]))
