"""What the store holds at one moment, as the dashboard shows it: frozen, read in a thread, handed to every pane.

Times are the store's own text (UTC, ISO-8601); sizes are bytes; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from isobench_tui.store.live import LiveForecast, LiveMachine, LiveModel, LivePhase, LivePull
from isobench_tui.store.query import Revisions, Tally

RunnerWord = Literal["never", "starting", "running", "idle", "ending", "silent", "dead"]
Clock = Callable[[], float]
"""Unix seconds now."""
Means = Mapping[tuple[str, str], float]
"""(mode, phase) -> mean seconds of the phase in attempts that ended well; mode `` stands for all modes."""


NOTHING = Revisions(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Runner:
    """Who works the queue. `silent`: the lock is held, but no heartbeat came for a while."""

    word: RunnerWord = "never"
    pid: int | None = None
    engine: str = ""
    beat_at: str | None = None

    @property
    def alive(self) -> bool:
        return self.word not in {"never", "dead"}


@dataclass(frozen=True, slots=True)
class Pause:
    """Why nothing new starts: an operator's wish, or a fault of the machine that the runner probes again."""

    by_itself: bool
    at: str
    by: str = ""
    failure: str = ""
    reason: str = ""
    probe_at: float | None = None
    """Unix seconds of the next probe; None: only `resume` helps."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign and what became of its jobs."""

    name: str
    state: str
    paused: bool
    simulated: bool
    tally: Tally
    submitted_at: str


class Job(NamedTuple):
    """One row of the queue with what its newest attempt and its result say. A tuple: there may be very many."""

    id: str
    campaign: str
    task: int
    commit: str
    parent: str
    arm: str
    agent: str
    repeat: int
    """1-based."""
    mode: str
    model: str
    state: str
    outcome: str | None
    valid: bool | None
    failure: str
    reason: str
    attempt: str | None
    phase: str | None
    stopping: bool
    started_at: str | None
    ended_at: str | None
    simulated: bool
    value: float | None = None
    """The mode's headline metric, of the newest successful attempt."""
    unit: str = ""
    metric: str = ""
    speedup: float | None = None
    """Over the mean of the task's valid baselines; > 1 is better, whatever the metric."""
    flags: tuple[str, ...] = ()
    invalidating: frozenset[str] = frozenset()

    @property
    def side(self) -> str:
        """`baseline`, `human`, or the agent's name."""
        return self.agent or self.arm

    @property
    def name(self) -> str:
        """`a3223766:trae_gpt5_0123#1`."""
        return f"{self.commit[:8]}:{self.side}#{self.repeat}"

    @property
    def unfinished(self) -> bool:
        return self.state in {"queued", "held", "running"}


@dataclass(frozen=True, slots=True)
class PhaseRow:
    phase: str
    started_at: str
    seconds: float | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt that is open, with what changes all the time about it."""

    attempt: str
    job: str
    lane: int
    host: str
    stop: str | None
    started_at: str
    phases: tuple[PhaseRow, ...]
    live_at: str
    """When `live` was written; empty where there is none."""
    live: LivePhase | None
    pull: LivePull | None
    model: LiveModel | None
    forecast: LiveForecast | None = None
    """What it will take on disk, as weighed before anything was fetched."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The newest full reading of the host, and the hour before it."""

    at: str
    now: LiveMachine
    past: Mapping[tuple[str, str], tuple[float | None, ...]] = field(default_factory=dict)
    """(kind, key) of `store.samples` -> means of equal steps, oldest first; None: nothing was read in that step."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the screen shows all the time; what a tab shows is read when it is looked at."""

    root: str
    """Folder of the workspace."""
    writable: bool
    at: float
    """Unix seconds of the reading."""
    revisions: Revisions = NOTHING
    runner: Runner = Runner()
    pause: Pause | None = None
    campaigns: tuple[Campaign, ...] = ()
    jobs: tuple[Job, ...] = ()
    """In the order of the queue."""
    places: Mapping[str, int] = field(default_factory=dict)
    """id -> where the job stands in `jobs`."""
    running: tuple[Running, ...] = ()
    machine: Machine | None = None
    means: Means = field(default_factory=dict)

    def job(self, key: str | None) -> Job | None:
        place = self.places.get(key or "")
        return None if place is None else self.jobs[place]


@dataclass(frozen=True, slots=True)
class Selection:
    """What the tabs show: the job under the queue's cursor."""

    job: Job | None = None

    @property
    def attempt(self) -> str | None:
        return self.job.attempt if self.job else None
