"""What every attempt needs of the runner, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from isobench_tui.campaign.models import Lane, Settings
from isobench_tui.engine.base import Engine
from isobench_tui.runner.monitors.gpu import GpuWatch
from isobench_tui.runner.pulls import SharedPulls
from isobench_tui.runner.space import Need
from isobench_tui.runner.writer import Writer
from isobench_tui.store.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Services:
    workspace: Workspace
    uuid: str
    """Of the workspace: the label by which our containers are known."""
    writer: Writer
    engine: Engine
    pulls: SharedPulls
    gpus: GpuWatch
    promised: dict[str, tuple[Need, ...]] = field(default_factory=dict)
    """Attempt -> what it is about to take of the disk: from its forecast until its container has started."""


def make_engine(settings: Settings, workspace: Workspace) -> Engine:
    """The engine that a campaign asks for. Raises EngineError for a remote one."""
    if settings.engine == "docker":
        from isobench_tui.engine.docker import DockerEngine
        from isobench_tui.engine.images.images import Flatten

        flatten = None
        if settings.flatten is not False:
            flatten = Flatten(workspace.images, settings.blob_cache, always=settings.flatten is True)
        return DockerEngine(settings.docker_host, flatten=flatten)
    from isobench_tui.engine.process import ProcessEngine

    return ProcessEngine(workspace.root)


def container_name(lane: Lane) -> str:
    """The engine-wide mutex of a lane's GPUs, or of its CPUs where it has none."""
    if lane.gpus:
        return f"isobench-gpu-{'-'.join(sorted(lane.gpus))}"
    return f"isobench-cpu-{lane.cpus.replace(',', '_')}" if lane.cpus else "isobench-cpu"
