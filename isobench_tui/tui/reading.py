"""From the store to a snapshot: each slice is read again only when its counter moved."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass, field, replace

from isobench_tui.store import db, live, query, samples
from isobench_tui.store.clock import seconds
from isobench_tui.store.workspace import Workspace
from isobench_tui.tui.jobs import Jobs
from isobench_tui.tui.snapshot import (
    Campaign,
    Clock,
    Machine,
    Means,
    Pause,
    PhaseRow,
    Runner,
    RunnerWord,
    Running,
    Snapshot,
)

SILENT_S = 20.0
"""A heartbeat older than this is worth a word although the lock is held."""
JOBS_EVERY_S = 1.0
"""The queue is not read more often than this, however much is written."""
MEANS_EVERY_S = 5.0
PAST_S, PAST_STEPS = 3600, 60
"""What the little graphs of the machine show: the last hour, a minute a step."""


@dataclass(slots=True)
class Reading:
    """One reader's connection and what it read last. Lives in one thread."""

    workspace: Workspace
    connection: sqlite3.Connection
    campaign: str | None = None
    clock: Clock = time.time
    _last: Snapshot | None = None
    _jobs_at: float = 0.0
    _means_at: float = 0.0
    _jobs_of: tuple[int, int] = (-1, -1)
    _jobs: Jobs = field(init=False)
    _version: int = -1
    _alive_at: float = 0.0
    _dirty: bool = field(default=False)

    def __post_init__(self) -> None:
        self._jobs = Jobs(self.campaign)

    @property
    def started(self) -> bool:
        """Whether anything was read yet."""
        return self._last is not None

    def next(self) -> Snapshot | None:
        """A new snapshot if anything moved, else None. Raises sqlite3.Error."""
        version = query.data_version(self.connection)
        quiet = version == self._version and not self._dirty
        if quiet and time.monotonic() - self._alive_at < 1.0:
            return None
        self._alive_at = time.monotonic()
        if quiet and self._last is not None:
            runner = runner_of(self.workspace, self.connection, self.clock())
            if runner == self._last.runner:
                return None
        self._version = version
        with db.snapshot(self.connection):
            self._last = self._read(self._last or Snapshot(str(self.workspace.root), True, 0.0))
        return self._last

    def _read(self, old: Snapshot) -> Snapshot:
        moved, first = query.revisions(self.connection), old.at == 0.0
        new = replace(
            old,
            at=self.clock(),
            writable=db.writable(self.workspace),
            revisions=moved,
            runner=runner_of(self.workspace, self.connection, self.clock()),
            pause=pause_of(self.connection),
        )
        if first or moved.live != old.revisions.live or moved.attempts != old.revisions.attempts:
            new = replace(new, running=running(self.connection), machine=machine(self.connection, old.machine))
        return self._with_jobs(new, (moved.jobs, moved.attempts))

    def _with_jobs(self, new: Snapshot, moved: tuple[int, int]) -> Snapshot:
        self._dirty = False
        if moved == self._jobs_of:
            return new
        now = time.monotonic()
        if now - self._jobs_at < JOBS_EVERY_S:
            self._dirty = True
            return new
        self._jobs_at, self._jobs_of = now, moved
        if now - self._means_at > MEANS_EVERY_S or not new.means:
            self._means_at = now
            new = replace(new, means=means(self.connection))
        return replace(
            new,
            campaigns=campaigns(self.connection, self.campaign),
            jobs=self._jobs.read(self.connection),
            places=self._jobs.places,
        )


def runner_of(workspace: Workspace, connection: sqlite3.Connection, now: float) -> Runner:
    """By its lock and its heartbeat."""
    beat = live.get(connection, live.RUNNER_KEY)
    alive = workspace.locked()
    if beat is None:
        return Runner("starting" if alive else "never")
    at, value = beat
    word: RunnerWord = "dead"
    if alive:
        word = "silent" if now - seconds(at) > SILENT_S else value["state"]
    return Runner(word, value["pid"], value["engine"], at if word in {"dead", "silent"} else None)


def pause_of(connection: sqlite3.Connection) -> Pause | None:
    """Who paused the queue, or why it paused itself."""
    found = query.pause_state(connection)
    if found is None:
        return None
    if found["kind"] == "pause":
        return Pause(False, found["at"], by=found["by"])
    return Pause(True, found["at"], failure=found["failure"], reason=found["reason"], probe_at=found["probe_at"])


def campaigns(connection: sqlite3.Connection, only: str | None) -> tuple[Campaign, ...]:
    """Campaigns in order of submission; only one of them where it is named."""
    return tuple(
        Campaign(
            row["name"],
            row["state"],
            row["paused"] is not None,
            bool(row["simulated"]),
            query.tally(connection, row["name"]),
            row["submitted_at"],
        )
        for row in query.campaigns(connection)
        if only in (None, row["name"])
    )


def running(connection: sqlite3.Connection) -> tuple[Running, ...]:
    """The open attempts with all that moves about them, by lane."""
    return tuple(_running(connection, row) for row in query.open_attempts(connection))


def _running(connection: sqlite3.Connection, row: sqlite3.Row) -> Running:
    phase = live.get(connection, f"phase/{row['id']}")
    return Running(
        attempt=row["id"],
        job=row["job_id"],
        lane=row["lane"],
        host=row["host"] or "",
        stop=row["stop"],
        started_at=row["started_at"],
        phases=tuple(PhaseRow(*values) for values in query.phases(connection, row["id"])),
        live_at=phase[0] if phase else "",
        live=live.LivePhase(**phase[1]) if phase else None,
        pull=query.live_pull(connection, row["id"]),
        forecast=query.live_forecast(connection, row["id"]),
        model=query.live_model(connection, row["id"]),
    )


def machine(connection: sqlite3.Connection, known: Machine | None) -> Machine | None:
    """The newest reading; its past is read again only when there is a newer one than `known`."""
    found = query.live_machine(connection)
    if found is None:
        return None
    at, now = found
    if known is not None and known.at == at:
        return known
    wanted: list[tuple[samples.Kind, str]] = [("disk", disk.path) for disk in now.disks]
    wanted += [(kind, gpu.uuid) for gpu in now.gpus for kind in ("gpu_memory", "gpu_utilization")]
    wanted += [("load", "host")]
    return Machine(at, now, {(kind, key): _past(connection, kind, key, at) for kind, key in wanted})


def _past(connection: sqlite3.Connection, kind: samples.Kind, key: str, until: str) -> tuple[float | None, ...]:
    points = samples.history(connection, kind, key, span_s=PAST_S, points=PAST_STEPS, until=until)
    return tuple(None if point is None else point.value for point in points)


def means(connection: sqlite3.Connection) -> Means:
    """Mean duration of every phase, for each mode and (mode ``) for all."""
    sums: dict[tuple[str, str], tuple[float, int]] = {}
    for mode, phase, total, count in query.phase_sums(connection):
        for key in ((mode, phase), ("", phase)):
            old = sums.get(key, (0.0, 0))
            sums[key] = (old[0] + total, old[1] + count)
    return {key: total / count for key, (total, count) in sums.items()}
