"""What the runner asks of an engine, in the words of the design. Both engines answer with these models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


class EngineError(Exception):
    """Base of what an engine raises. `failure` is the failure class that the retry table knows."""

    failure = "engine_error"


class EngineUnreachable(EngineError):
    """The engine does not answer: no socket, refused, or a call outlived its timeout."""


class ImageMissing(EngineError):
    """Neither the engine nor the registry has the image."""

    failure = "image_missing"


class PullFailed(EngineError):
    """The pull broke off; the message is the engine's own."""

    failure = "pull_failed"


class DiskFull(EngineError):
    """The engine's file system, or ours, has no space left, or not what will be needed."""

    failure = "disk_full"

    def __init__(self, message: str, wants: tuple[tuple[str, int], ...] = ()) -> None:
        super().__init__(message)
        self.wants = wants
        """(path, bytes that must be free there), where that was forecast and nothing was begun."""


class GpuUnavailable(EngineError):
    """The engine cannot give the GPUs that were asked for."""

    failure = "driver_mismatch"


class NameTaken(EngineError):
    """Another workspace's container holds the name that guards our GPUs."""

    def __init__(self, message: str, *, name: str, owner: str) -> None:
        super().__init__(message)
        self.name = name
        self.owner = owner
        """Workspace uuid of the holder, or `someone else` where the container carries no label of ours."""


LayerState = Literal["waiting", "downloading", "extracting", "done", "exists"]


@dataclass(frozen=True, slots=True)
class Layer:
    id: str
    state: LayerState
    done: int = 0
    """Bytes (compressed)."""
    total: int | None = None


@dataclass(frozen=True, slots=True)
class PullProgress:
    layers: tuple[Layer, ...]
    done: int
    """Bytes over all layers whose size is known."""
    total: int | None
    """None until every layer's size is known."""
    moved: int = 0
    """Grows with what else shows that work is done: bytes merged, the engine's disk moving in a silence."""


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """One layer as the registry describes it, the lowest first in an image."""

    digest: str
    """`sha256:…` of the blob that is fetched."""
    size: int
    """Bytes of that blob: what is fetched."""
    media_type: str
    diff_id: str
    """`sha256:…` of the tar in it; the engine knows layers by these."""
    unpacked: int | None = None
    """Bytes of the tar in it, as the blob says of itself; None where it does not say."""
    here: bool = False
    """The engine has it, with all the layers under it: nothing is fetched."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image wants of the containers made from it (`config` of the OCI image configuration)."""

    env: tuple[str, ...] = ()
    """`NAME=value`."""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    ref: str
    """As the campaign names it."""
    pinned: str
    """What to run: `repo@sha256:…`, a local image id, or the folder (process)."""
    digest: str | None
    """`sha256:…` of the manifest; None for local-only images and folders."""
    id: str | None
    """Local image id once present."""
    present: bool
    """No fetch needed."""
    size: int | None = None
    """Bytes to fetch where known before, on disk once present."""
    layers: tuple[ImageLayer, ...] = ()
    """From the registry, before it is fetched; empty where the image is present or only the engine could ask."""
    config: ImageConfig | None = None
    """What `launch` has to add, where the engine's image is a flattened one and has no configuration of its own."""
    note: str = ""
    """What the operator should know of how it was fetched."""


@dataclass(frozen=True, slots=True)
class Mount:
    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    attempt: str
    workspace: str
    """uuid of the workspace, from `meta`."""
    name: str
    """Container name: the engine-wide mutex of the lane's GPUs."""
    image: ImageInfo
    run_dir: Path
    tree: Path | None = None
    """Where the process engine copies the image folder; removed in cleanup."""
    mounts: tuple[Mount, ...] = ()
    gpus: tuple[str, ...] = ()
    network: str = "none"
    shm_size: int | None = None
    memory: int | None = None
    pids: int | None = None
    cpuset: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


HandleState = Literal["created", "running", "ended"]


@dataclass(frozen=True, slots=True)
class Handle:
    """A launched attempt. `id` is the container id, or `pid:starttime:boot_id` of the driver process."""

    attempt: str
    name: str
    id: str
    run_dir: Path
    state: HandleState


@dataclass(frozen=True, slots=True)
class Exit:
    """How the driver ended, as the engine tells it (never as the driver claims, unless `claimed`)."""

    code: int | None
    signal: int | None = None
    oom_killed: bool = False
    error: str = ""
    engine_away: bool = False
    """The engine did not answer for a while as it ran: the end may be the engine's doing, not the attempt's."""
    claimed: bool = False
    """The code is the driver's own word: the process engine cannot reap a driver that another runner started."""


@dataclass(frozen=True, slots=True)
class DiskUsage:
    path: Path
    """The file system that matters: the engine's data-root, or the workspace."""
    total: int
    free: int
    """Bytes available to an unprivileged process (statvfs f_bavail)."""


StorageKind = Literal["overlay2", "vfs", "containerd", "folder"]


@dataclass(frozen=True, slots=True)
class Storage:
    """How and where an engine keeps images and containers."""

    kind: StorageKind
    """`folder`: the process engine, which copies an image's folder for each attempt."""
    path: Path
    reflink: bool = False
    """Copies share their blocks until they differ (btrfs, XFS)."""
    flattens: bool = False
    """What is fetched becomes one layer, and its blobs stay in a cache."""
    cache: Path | None = None
    """Folder of that cache."""


class Engine(Protocol):
    """Every call may raise EngineError; every call may be cancelled with its task."""

    @property
    def kind(self) -> Literal["docker", "process"]: ...

    async def check(self) -> str:
        """Say in one line what answers (`docker 20.10.24 overlay2 /var/lib/docker`). Raises EngineUnreachable."""
        ...

    async def resolve(self, ref: str) -> ImageInfo:
        """Pin a reference. Raises ImageMissing."""
        ...

    async def fetch(self, image: ImageInfo, on_progress: Callable[[PullProgress], None]) -> ImageInfo:
        """Make the image present. Cancelled with its task."""
        ...

    async def launch(self, spec: LaunchSpec) -> Handle:
        """Create and start; idempotent per attempt. Raises NameTaken, ImageMissing, GpuUnavailable."""
        ...

    async def settled(self, attempt: str) -> None:
        """Return when no launch of the attempt that was cancelled is still on its way in the engine."""
        ...

    async def wait(self, handle: Handle) -> Exit:
        """Return when the driver has ended."""
        ...

    async def stop(self, handle: Handle, grace: float) -> Exit:
        """SIGTERM, `grace` seconds, SIGKILL - the whole container or process tree."""
        ...

    async def inspect(self, handle: Handle) -> dict[str, object]:
        """What the engine knows of it now, env values redacted; {} if it is gone."""
        ...

    async def remove(self, handle: Handle) -> None:
        """Remove the container (or the tree and every process that carries the attempt). Quiet if it is gone."""
        ...

    async def adopt(self, workspace: str, runs: Path) -> list[Handle]:
        """Everything of this workspace that the engine still holds, in any state."""
        ...

    async def remove_image(self, image: ImageInfo) -> bool:
        """Remove OUR reference to the image; False if it is in use or gone."""
        ...

    async def prune(self, spare: frozenset[str]) -> list[str]:
        """Remove, whoever made it, what no container uses: stopped containers that carry no label of ours, images but
        those with a name in `spare`, the build cache. Says what went."""
        ...

    async def drop_cache(self, needed: frozenset[str]) -> int:
        """Remove what only saves time later, but none of these layers' digests; bytes that were freed."""
        ...

    async def storage(self) -> Storage:
        """By which law images and containers take space, and where."""
        ...

    async def usage(self) -> DiskUsage:
        """statvfs of the engine's storage; never `docker system df`."""
        ...

    async def close(self) -> None: ...
