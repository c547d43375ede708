"""From a job to what the driver reads (`job.json`) and what the engine mounts."""

from __future__ import annotations

import os
from pathlib import Path

from isobench_tui.campaign.models import SEED, JobSpec, Lane, Settings
from isobench_tui.engine import job as contract
from isobench_tui.engine.base import ImageInfo, LaunchSpec, Mount
from isobench_tui.runner.services import Services, container_name
from isobench_tui.store import secrets

TRIAL = "{isobench:trial}"
"""Stands for a trial's two-digit number in an argv."""

_PYTHONS = ("/opt/venv/bin/python3", "/usr/local/bin/python3", "/usr/bin/python3", "python3", "python")
"""Where the interpreter that imports vllm lies in the published images, most specific first."""

_CACHE = "/root/.cache/huggingface"


def build(attempt: str, spec: JobSpec, settings: Settings, run_dir: Path, tree: Path | None) -> contract.DriverJob:
    """The driver's orders. Paths are those that the driver sees."""
    inside = tree is None
    workload, limits = spec.workload, settings.timeouts
    patch = None
    if spec.patch_sha256:
        path = f"/isobench/{contract.PATCH_FILE}" if inside else str(run_dir / contract.PATCH_FILE)
        patch = contract.PatchJob(path=path, sha256=spec.patch_sha256)
    dataset = None
    if spec.dataset and workload.dataset:
        path = _dataset(spec.dataset) if inside else spec.dataset
        dataset = contract.DatasetJob(path=path, sha256=workload.dataset.removeprefix("sha256:"))
    server = None
    if workload.server:
        server = contract.ServerJob(argv=workload.server, port=8000 if inside else 0, model_ids=workload.model_ids)
    planned = trials(spec, settings)
    return contract.DriverJob(
        attempt=attempt,
        engine=settings.engine,
        mode=workload.mode,
        run="/isobench/run" if inside else str(run_dir),
        tree=None if tree is None else str(tree),
        pythons=_PYTHONS
        if tree is None
        else (f"{tree}/bin/python3", f"{tree}/.venv/bin/python3", "python3", "python"),
        env={**_hub(spec, settings), **workload.env},
        secrets={n: f"/isobench/secrets/{n}" if inside else str(secrets.path(n)) for n in settings.secrets},
        model=workload.model,
        override=workload.override,
        setup=workload.setup,
        patch=patch,
        dataset=dataset,
        server=server,
        fresh_server=not workload.seeds and len(planned) > 1,
        trials=planned,
        deadlines=contract.Deadlines(
            setup=limits.setup,
            server=limits.server,
            measure=limits.measure,
            stall=limits.stall,
            overall=limits.setup + limits.server + limits.measure + limits.slack,
        ),
        grace=limits.grace,
        owner=contract.Owner(uid=os.getuid(), gid=os.getgid()) if inside else None,
    )


def files(job: contract.DriverJob) -> tuple[str, ...]:
    """The files that the runner makes before the container starts, so that they are the operator's."""
    names = [contract.EVENTS_FILE, contract.SETUP_LOG, *(trial.log for trial in job.trials)]
    names += [trial.result for trial in job.trials if trial.result]
    if job.server:
        names.append(contract.SERVER_LOG)
    return tuple(names)


def launch_spec(
    services: Services,
    attempt: str,
    spec: JobSpec,
    settings: Settings,
    lane: Lane,
    image: ImageInfo,
    tree: Path | None,
) -> LaunchSpec:
    """What the engine creates."""
    box = settings.container
    return LaunchSpec(
        attempt=attempt,
        workspace=services.uuid,
        name=container_name(lane),
        image=image,
        run_dir=services.workspace.run_dir(attempt),
        tree=tree,
        mounts=tuple(_mounts(spec, settings)),
        gpus=lane.gpus,
        network=box.network,
        shm_size=box.shm_size,
        memory=box.memory,
        pids=box.pids,
        cpuset=lane.cpus,
    )


def trials(spec: JobSpec, settings: Settings) -> tuple[contract.TrialJob, ...]:
    """Every run of the client, warm-ups first, with its own seed and files."""
    total = settings.warmups + settings.trials
    made = []
    for index in range(total):
        seed = spec.workload.seeds[index] if index < len(spec.workload.seeds) else None
        number = f"{index:02d}"
        load = spec.workload
        argv, *optional = (
            tuple(token.replace(SEED, str(seed)).replace(TRIAL, number) for token in tokens)
            for tokens in (load.client, *load.optional)
        )
        made.append(
            contract.TrialJob(
                index=index,
                counted=index >= settings.warmups,
                argv=argv,
                optional=tuple(optional),
                log=f"client-{number}.log",
                result=f"client-{number}.json" if spec.workload.writes_result else None,
                seed=seed,
            )
        )
    return tuple(made)


def _dataset(path: str) -> str:
    """Where a container sees the task's data set; its name stays, for clients that go by the suffix."""
    return f"/isobench/dataset/{Path(path).name}"


def _hub(spec: JobSpec, settings: Settings) -> dict[str, str]:
    """Hugging Face's own switches: measured processes fetch nothing unless the task says `hub = "online"`."""
    env = {} if spec.hub == "online" else {"HF_HUB_OFFLINE": "1"}
    if settings.model_cache:
        env["HF_HOME"] = _CACHE if settings.engine == "docker" else settings.model_cache
        if settings.engine == "docker" and spec.hub != "online":
            # The code of models that bring their own is copied there before it is imported; the cache is read-only.
            env["HF_MODULES_CACHE"] = "/tmp/hf_modules"  # noqa: S108 - inside the container
    return env


def _mounts(spec: JobSpec, settings: Settings) -> list[Mount]:
    mounts = [Mount(secrets.path(name), f"/isobench/secrets/{name}") for name in settings.secrets]
    if settings.model_cache:
        mounts.append(Mount(Path(settings.model_cache), _CACHE, read_only=spec.hub != "online"))
    if spec.wheels:
        mounts.append(Mount(Path(spec.wheels), "/wheels"))
    if spec.dataset:
        mounts.append(Mount(Path(spec.dataset), _dataset(spec.dataset)))
    for volume in settings.container.volumes:
        source, target, *mode = volume.split(":")
        mounts.append(Mount(Path(source), target, read_only="ro" in mode))
    return mounts
