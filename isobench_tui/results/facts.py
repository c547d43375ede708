"""Everything about one attempt that the judgement rests on, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isobench_tui.campaign.models import Validity, Workload
from isobench_tui.results.diagnose import Logs
from isobench_tui.results.models import TrialFacts
from isobench_tui.results.text import LogBytes, clean, clip

SETUP_LOG = "setup.log"


@dataclass(frozen=True, slots=True)
class ForeignProcess:
    """A process on one of the attempt's GPUs that is not the attempt's own."""

    pid: int
    """As the host counts."""
    name: str
    """Command, or what the driver calls it; empty where it does not say."""
    memory: int
    """Most bytes of the GPU that it held while the trials ran."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What was seen of one GPU of the attempt's lane between the start of its first and the end of its last trial."""

    gpu: str
    """Id as the lane names it."""
    watched_s: float
    """Seconds that the samples stand for."""
    foreign: tuple[ForeignProcess, ...] = ()
    throttled_s: Mapping[str, float] = field(default_factory=dict)
    """Reason -> seconds that it slowed the GPU's clocks down, by NVML's names of the bits of
    nvmlDeviceGetCurrentClocksEventReasons: `sw_power_cap`, `hw_slowdown`, `sw_thermal_slowdown`,
    `hw_thermal_slowdown`, `hw_power_brake_slowdown`; idle clocks and those that somebody set are no throttling."""
    clock_mhz: float | None = None
    """Median of the SM clock."""
    max_clock_mhz: float | None = None
    """The SM clock that the GPU can reach."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What the monitors saw of the machine while the trials ran; the driver has no part in it."""

    gpus: tuple[GpuFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """One attempt at its end. Events are the driver's claims; exit code, signal and OOM are the engine's word."""

    workload: Workload
    events: tuple[Mapping[str, object], ...] = ()
    """Lines of events.jsonl, parsed, in order; what was no object is left out."""
    event_lines: tuple[int, ...] = ()
    """1-based line of events.jsonl that each of them stands on; () where that is not known."""
    trials: tuple[TrialFacts, ...] = ()
    logs: Mapping[str, LogBytes] = field(default_factory=dict)
    """File name in the run directory -> whole log: `setup.log`, `server.log`, `client-00.log` …"""
    holes: Mapping[str, int] = field(default_factory=dict)
    """Log -> bytes that it lost in its middle to stay below its cap."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Log that could not be read -> why."""
    exit_code: int | None = None
    """Of the driver; None where a signal ended it, or nothing ever ran."""
    signal: int | None = None
    oom_killed: bool = False
    """The engine says that the kernel killed a process of the container for memory."""
    engine_failure: tuple[str, str] | None = None
    """Failure class and message of what the engine or a phase before the driver raised."""
    timed_out: str | None = None
    """Phase whose deadline the runner enforced."""
    cancelled: bool = False
    interrupted: bool = False
    """Stopped by the operator to run again, or lost with its runner: no result of its own."""
    unseen_full: bool = False
    """Interrupted, because the driver saw a full disk where no runner did."""
    patched: bool = False
    """The job carries a patch."""
    patch_files: tuple[str, ...] = ()
    """Paths in the tree that the patch names."""
    min_window_s: float = 30
    validity: Validity = field(default_factory=Validity)
    """Thresholds of the flags."""
    machine: MachineFacts | None = None
    """None: nothing watched the GPUs, or the lane has none."""
    searched: Logs = field(init=False, compare=False, repr=False)
    """The logs with what was found in them, so that each is read once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "searched", Logs(self.logs))

    def of(self, name: str) -> list[Mapping[str, object]]:
        """The events of this name, in order."""
        return [event for event in self.events if event.get("event") == name]

    def last(self, name: str) -> Mapping[str, object] | None:
        """The last event of this name."""
        found = self.of(name)
        return found[-1] if found else None

    def line_of(self, event: Mapping[str, object]) -> int:
        """The line of events.jsonl on which an event stands; 0 where that is not known."""
        return next((line for one, line in zip(self.events, self.event_lines, strict=False) if one is event), 0)

    def log_names(self, start: str) -> list[str]:
        """Names of the logs that begin so, in order."""
        return sorted(name for name in self.logs if name.startswith(start))


def event_text(event: Mapping[str, object], key: str, limit: int = 500) -> str:
    """A string of an event, cleaned and clipped; empty if it is missing or none."""
    value = event.get(key)
    return clip(clean(value[: 4 * limit]).strip(), limit) if isinstance(value, str) else ""


def event_int(event: Mapping[str, object], key: str) -> int | None:
    """An integer of an event; None if it is missing or none."""
    value = event.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def event_names(event: Mapping[str, object], key: str) -> list[str]:
    """A list of strings of an event, cleaned; empty if it is missing or none."""
    value = event.get(key)
    return [clip(clean(item), 200) for item in value if isinstance(item, str)] if isinstance(value, list) else []
