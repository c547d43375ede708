"""Values that change all the time: one row per key, replaced and never grown."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

from isobench_tui.store.clock import now

RUNNER_KEY = "runner"
MACHINE_KEY = "machine"


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
class LiveNeed:
    """Bytes that an attempt will still take."""

    what: str
    """image, downloads, container, blob cache, model NAME, logs, workspace, other attempts."""
    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class LiveVolume:
    """One file system that an attempt needs; several paths may lie on it."""

    path: str
    free: int
    needed: int


@dataclass(frozen=True, slots=True)
class LiveImage:
    """An image that we brought."""

    image: str
    bytes: int
    """On disk, with layers that it shares with others."""
    use: str
    """used, next, queued, idle: whether an attempt uses it, the next job or a later one waits for it, or none."""


@dataclass(frozen=True, slots=True)
class LiveForecast:
    """Key `forecast/<attempt>`: what the attempt will take on disk, as it stood before anything was fetched."""

    fetch: int
    """Bytes over the network: layers and files of models that are not here."""
    needs: tuple[LiveNeed, ...]
    volumes: tuple[LiveVolume, ...]
    unknown: tuple[str, ...]
    """What could not be weighed beforehand."""
    held: tuple[LiveImage, ...]
    freeable: int
    """Bytes that the keep policy would give up for it, as far as layers are known."""


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


@dataclass(frozen=True, slots=True)
class LiveProcess:
    """A process that holds memory of a GPU, as this host sees it."""

    pid: int
    name: str
    """Its command line, shortened; empty where it is not visible."""
    user: str
    memory: int | None
    """Bytes; None where the driver does not tell."""
    graphics: bool = False
    """A display server or the like: it computes nothing."""
    attempt: str | None = None
    """The attempt of ours to which it belongs; None: it is somebody else's, or not visible."""
    visible: bool = True
    """False: it cannot be looked up here (another pid namespace, or it has ended), so whose it is remains open."""

    @property
    def ours(self) -> bool:
        return self.attempt is not None


_NO_SLOWDOWN = frozenset({"gpu_idle", "applications_clocks_setting", "sync_boost", "display_clock_setting"})


@dataclass(frozen=True, slots=True)
class LiveGpu:
    """One GPU. Sizes are bytes; None: this GPU or its driver does not tell."""

    index: int
    """As nvidia-smi counts, in the order of the PCI bus."""
    uuid: str
    name: str
    memory_used: int
    """Without what the driver keeps for itself."""
    memory_total: int
    utilization: int | None
    """Percent of the last moment (1 s or less) in which a kernel ran."""
    temperature: int | None
    """Degrees Celsius."""
    sm_clock: int | None
    sm_clock_max: int | None
    """MHz."""
    power: float | None
    power_limit: float | None
    """Watts."""
    throttle: tuple[str, ...] = ()
    """What holds the clocks where they are, in NVML's names: `gpu_idle`, `sw_power_cap`, `hw_thermal_slowdown` …"""
    processes: tuple[LiveProcess, ...] = ()

    @property
    def slowed(self) -> tuple[str, ...]:
        """The reasons among them that slow down a GPU which has work to do."""
        return tuple(reason for reason in self.throttle if reason not in _NO_SLOWDOWN)


@dataclass(frozen=True, slots=True)
class LiveHost:
    """The whole host, out of /proc. Sizes are bytes."""

    cpus: int
    cpu_percent: float | None
    """Busy share of all CPUs since the reading before; None in the first one."""
    load: tuple[float, float, float]
    """Runnable and blocked tasks, averaged over 1, 5 and 15 minutes."""
    memory_total: int
    memory_available: int


@dataclass(frozen=True, slots=True)
class LiveDisk:
    """A file system that matters, by statvfs. Sizes are bytes."""

    path: str
    holds: tuple[str, ...]
    """`workspace`, `images`: what lies there."""
    kind: str
    """Type of the file system."""
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class LiveMachine:
    """Key `machine`: the newest full reading of the host. It stays after the runner's end; `at` tells its age."""

    host: LiveHost
    disks: tuple[LiveDisk, ...]
    gpus: tuple[LiveGpu, ...]
    gpu_note: str = ""
    """Why there is no reading of GPUs, in one line; empty where there is one."""
    driver: str = ""
    """Version of the GPU driver."""


def put(
    connection: sqlite3.Connection,
    key: str,
    value: LivePull | LiveModel | LiveForecast | LivePhase | LiveRunner | LiveMachine,
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


def machine(value: dict[str, Any]) -> LiveMachine:
    """The model of a live row `machine`."""
    gpus = []
    for gpu in value["gpus"]:
        processes = tuple(LiveProcess(**process) for process in gpu["processes"])
        gpus.append(LiveGpu(**{**gpu, "throttle": tuple(gpu["throttle"]), "processes": processes}))
    return LiveMachine(
        host=LiveHost(**{**value["host"], "load": tuple(value["host"]["load"])}),
        disks=tuple(LiveDisk(**{**disk, "holds": tuple(disk["holds"])}) for disk in value["disks"]),
        gpus=tuple(gpus),
        gpu_note=value["gpu_note"],
        driver=value["driver"],
    )
