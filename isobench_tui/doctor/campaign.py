"""What one campaign needs of this host: its secrets, its models, room for its images."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from isobench_tui.campaign.models import Settings, Submission
from isobench_tui.campaign.repos import needs
from isobench_tui.doctor.check import LIMIT_S, Check, fail, ok, warn
from isobench_tui.engine import forecast
from isobench_tui.engine.base import EngineError, ImageInfo, Storage
from isobench_tui.engine.docker import DockerEngine
from isobench_tui.engine.storage import usage_of
from isobench_tui.report.text import bytes_text
from isobench_tui.runner.hubcache import Repository
from isobench_tui.runner.room import WORKSPACE
from isobench_tui.store import secrets
from isobench_tui.store.answer import USAGE
from isobench_tui.store.words import count_jobs
from isobench_tui.store.workspace import Workspace


def problems(submission: Submission) -> Check:
    """What the campaign file's own check found."""
    found = {level: [one for one in submission.findings if one.level == level] for level in ("error", "warning")}
    said = f"{submission.name}: {count_jobs(len(submission.jobs))}"
    plan = f"isobench plan {submission.spec_path}"
    if found["error"]:
        first = found["error"][0]
        return fail("campaign", f"{said}; {first.where}: {first.text}", plan, code=USAGE)
    if found["warning"]:
        return warn("campaign", f"{said}, warnings: {len(found['warning'])}", plan)
    return ok("campaign", said)


def stored_secrets(settings: Settings) -> Check:
    """Whether each secret has a value, stored or in the environment of `isobench run`."""
    names = settings.secrets
    if not names:
        return ok("secrets", "the campaign names none")
    absent = [name for name in secrets.missing(names) if not os.environ.get(name)]
    if absent:
        do = f"export {absent[0]}=…   # in the shell of `isobench run`, which stores it 0600"
        return fail("secrets", f"no value for {', '.join(absent)}", do, code=USAGE)
    return ok("secrets", f"{', '.join(names)}: a value is there")


def model_cache(submission: Submission) -> Check:
    """The host's Hugging Face cache, and which models are not in it yet."""
    settings = submission.settings
    repos = {repo.model for job in submission.jobs for repo in needs(job.workload)}
    if settings.model_cache is None:
        return ok("model-cache", f"no [model] cache: {len(repos)} models must come with the images or mounts")
    cache = Path(settings.model_cache)
    folder = next(path for path in (cache, *cache.parents) if path.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        return fail("model-cache", f"{folder} is not writable", f"chown -R $USER {folder}", code=USAGE)
    absent = sorted(name for name in repos if not Repository(cache, name).folder.exists())
    room = f"{cache}: {bytes_text(usage_of(folder).free)} free"
    if absent and importlib.util.find_spec("huggingface_hub") is None:
        text = f"{room}; {len(absent)} of {len(repos)} models are missing, and huggingface_hub is not installed"
        return fail("model-cache", text, "pip install 'isobench-tui[hub]'", code=USAGE)
    if absent:
        return ok("model-cache", f"{room}; to be fetched: {', '.join(absent[:3])}{' …' if absent[3:] else ''}")
    return ok("model-cache", f"{room}; all {len(repos)} models are there" if repos else room)


def room(submission: Submission, workspace: Workspace) -> list[Check]:
    """Free space against what the images take, by the forecast that the runner makes too."""
    own = usage_of(workspace.root)
    least = [_workspace(own.path, own.free)]
    if submission.settings.engine != "docker":
        return least
    refs = list(dict.fromkeys(job.image for job in submission.jobs))
    storage, images = asyncio.run(_resolve(submission.settings.docker_host, refs))
    return [*least, weigh(storage, images, len(refs), usage_of(storage.path).free)]


def weigh(storage: Storage, images: Sequence[ImageInfo], asked: int, free: int) -> Check:
    """Of the images that could be weighed: the largest must fit, all together may have to take turns."""
    whole = most = unknown = 0
    for place, image in enumerate(images):
        alone = forecast.footprint(storage, image)
        beside = forecast.footprint(storage, forecast.after(image, images[:place]))
        if alone is None or beside is None:
            unknown += 1
            continue
        most = max(most, alone.image + alone.transit + alone.container)
        whole += beside.image
    unknown += asked - len(images)
    absent = sum(not image.present for image in images)
    said = f"{bytes_text(free)} free in {storage.path}; images: {asked}, to fetch: {absent}: {bytes_text(whole)} more"
    said += f", {bytes_text(most)} at once" if most else ""
    said += f"; {unknown} could not be weighed" if unknown else ""
    if most > free:
        return fail("disk", f"{said}: not even one image fits", "isobench doctor   # `storage` has the cure")
    if whole > free:
        return warn("disk", f"{said}: images will be removed and fetched again", '[images] keep = "next" says so')
    return warn("disk", said, "docker login   # if the registry asks for it") if unknown else ok("disk", said)


def _workspace(path: Path, free: int) -> Check:
    text = f"{bytes_text(free)} free in {path}, {bytes_text(WORKSPACE)} are needed"
    return ok("workspace-disk", text) if free >= WORKSPACE else fail("workspace-disk", text, f"df -h {path}")


async def _resolve(url: str | None, refs: Sequence[str]) -> tuple[Storage, list[ImageInfo]]:
    """The images that engine and registry know within the time of a check, in order. Raises EngineError."""
    engine = DockerEngine(url, quick=LIMIT_S - 1)
    try:
        storage = await engine.storage()
        asking = [asyncio.create_task(engine.resolve(ref)) for ref in refs]
        await asyncio.wait(asking, timeout=LIMIT_S - 1)
        found = []
        for task in asking:
            if not task.done():
                task.cancel()
            elif not isinstance(task.exception(), EngineError):
                found.append(task.result())
        return storage, found
    finally:
        await engine.close()
