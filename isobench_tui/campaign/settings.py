"""Campaign-wide settings: the tables of the file that the runner needs beside the jobs."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from packaging.version import InvalidVersion, Version

from isobench_tui.campaign.files import exists, local
from isobench_tui.campaign.models import Container, Lane, Notify, Settings, Timeouts, Validity, cpu_ids
from isobench_tui.campaign.problems import Notes
from isobench_tui.campaign.spec import CampaignFile

_VOLUME = re.compile(r"([^:]+):(/[^:]*)(?::(ro|rw))?")
_RESERVED = ("/isobench", "/wheels", "/proc", "/sys", "/dev")
_VOLUMES = "HOST_FOLDER:/CONTAINER_PATH or HOST_FOLDER:/CONTAINER_PATH:ro"


def settings(spec: CampaignFile, base: Path, notes: Notes) -> Settings:
    """The settings of a campaign; what is wrong with them goes to `notes`."""
    _check(spec, notes)
    container = spec.container
    cache = local(base, spec.model.cache) if spec.model.cache else None
    if cache and not exists(cache, folder=True):
        notes.warn("model.cache", f"{cache}: no such folder yet")
    return Settings(
        engine=spec.engine.kind,
        docker_host=spec.engine.host,
        container=Container(
            shm_size=container.shm_size,
            network=container.network,
            volumes=tuple(_volumes(spec, base, notes)),
            memory=container.memory,
            pids=container.pids,
        ),
        lanes=tuple(Lane(gpus=tuple(lane.gpus), cpus=lane.cpus) for lane in spec.lanes) or (Lane(),),
        timeouts=Timeouts(**spec.timeouts.model_dump()),
        keep_images=spec.images.keep,
        prune=spec.images.prune,
        flatten=spec.images.flatten,
        blob_cache=spec.images.blob_cache,
        same_failure=spec.limits.same_failure,
        min_window_s=spec.limits.min_window,
        validity=Validity(**spec.validity.model_dump()),
        noise_floor=spec.limits.noise_floor,
        trials=spec.measure.trials,
        warmups=spec.measure.warmups,
        log_cap=spec.logs.cap,
        model_cache=str(cache) if cache else None,
        secrets=tuple(dict.fromkeys(spec.model.secrets)),
        notify=Notify(command=tuple(spec.notify.command), urls=tuple(dict.fromkeys(spec.notify.urls))),
        backup_to=_backup_to(spec, base, notes),
        simulated=spec.campaign.simulated,
    )


def _backup_to(spec: CampaignFile, base: Path, notes: Notes) -> str | None:
    if spec.backup.to is None:
        return None
    folder = local(base, spec.backup.to)
    if not exists(folder, folder=True):
        notes.warn("backup.to", f"{folder}: no such folder; nothing is copied before it is there")
    return str(folder)


def on_host(path: str, settings: Settings) -> list[Path]:
    """Where a path that the client is told may lie on this machine."""
    if settings.engine == "process":
        return [Path(path)] if path.startswith("/") else []
    for volume in settings.container.volumes:
        host, inside, *_ = volume.split(":")
        try:
            return [Path(host) / PurePosixPath(path).relative_to(inside)]
        except ValueError:
            continue
    return []


def _volumes(spec: CampaignFile, base: Path, notes: Notes) -> list[str]:
    made = []
    for index, written in enumerate(spec.container.volumes):
        key = f"container.volumes[{index}]"
        match = _VOLUME.fullmatch(written)
        if not match or ":" in str(local(base, match[1])):
            notes.error(key, f'"{written}" is no volume', _VOLUMES)
            continue
        host, inside = local(base, match[1]), PurePosixPath(match[2])
        if str(inside) == "/" or any(inside.is_relative_to(taken) for taken in _RESERVED):
            notes.error(key, f"{inside} is taken in the container", "another container path")
            continue
        if not exists(host):
            notes.warn(key, f"{host}: does not exist")
        made.append(f"{host}:{inside}" + (":ro" if match[3] == "ro" else ""))
    return made


def _check_lanes(spec: CampaignFile, notes: Notes) -> bool:
    """Lanes must not share what they measure on. Says whether any has a GPU."""
    gpus: dict[str, int] = {}
    cpus: dict[int, int] = {}
    for index, lane in enumerate(spec.lanes):
        key = f"lanes[{index}]"
        if not lane.gpus and not lane.cpus and len(spec.lanes) > 1:
            notes.error(
                f"{key}.gpus", "a lane without GPUs and CPUs of its own beside others", "gpus or cpus in each"
            )
        for gpu in lane.gpus:
            if gpu in gpus:
                notes.error(f"{key}.gpus", f"GPU {gpu} is already in lanes[{gpus[gpu]}]", "each GPU once")
            gpus.setdefault(gpu, index)
        mine = cpu_ids(lane.cpus) if lane.cpus else frozenset()
        if lane.cpus and not mine:
            notes.error(f"{key}.cpus", f'"{lane.cpus}" has no CPU in it', 'CPUs like "0-7" or "0,2,4"')
        for cpu in sorted(mine):
            if cpu in cpus:
                notes.error(f"{key}.cpus", f"CPU {cpu} is already in lanes[{cpus[cpu]}]", "each CPU once")
                break
            cpus[cpu] = index
    return bool(gpus)


def _check(spec: CampaignFile, notes: Notes) -> None:
    gpus = _check_lanes(spec, notes)
    for index, row in enumerate(spec.model_overrides):
        try:
            Version(row.before_vllm or "0")
        except InvalidVersion:
            key = f"model_overrides[{index}].before_vllm"
            notes.error(key, f'"{row.before_vllm}" is no version', 'a version like "0.5.3.post1"')
    if spec.engine.kind == "process":
        if spec.engine.host:
            notes.error("engine.host", 'means nothing with kind = "process"', 'kind = "docker", or no host')
        if spec.container.model_fields_set:
            notes.warn("container", 'means nothing with kind = "process"')
        if gpus:
            notes.warn("lanes", 'with kind = "process" nothing keeps a command on its lane\'s GPUs')
    for name in spec.model.secrets:
        if name in spec.env or any(name in task.env for task in spec.tasks):
            notes.error("model.secrets", f"{name} is also in env", "one of them")
