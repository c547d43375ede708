"""Free space against what a campaign will take, by the forecast that the runner makes before each pull."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isobench_tui.campaign.models import Submission
from isobench_tui.doctor.check import Check, fail, ok, warn
from isobench_tui.engine import forecast
from isobench_tui.engine.base import Engine, EngineError, ImageInfo, Storage
from isobench_tui.report.text import bytes_text
from isobench_tui.runner import keep, room
from isobench_tui.runner.services import make_engine
from isobench_tui.runner.space import Need, Volume, balances, volumes
from isobench_tui.store import db
from isobench_tui.store.workspace import Workspace, WorkspaceError

ANSWER_S = 10.0
"""Seconds that engine and registry get to tell of the images."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the images of a campaign take."""

    storage: Storage
    images: tuple[ImageInfo, ...]
    """Those that could be looked up, in the order of the queue."""
    asked: int
    one: tuple[Need, ...]
    """Of the image, with one container of it, that takes the most."""
    whole: int
    """Bytes for all of them beside each other."""
    unknown: int
    """How many could not be weighed."""


def check(submission: Submission, workspace: Workspace, models: Mapping[str, int]) -> list[Check]:
    """Of one attempt: the largest image, a container, logs, the workspace; all `models` (name -> bytes to fetch); and
    whether the images fit beside each other. Raises EngineError."""
    demand = asyncio.run(_demand(submission, workspace))
    cache = str(submission.settings.model_cache)
    needs = [
        *demand.one,
        Need("logs", str(workspace.runs), room.LOGS),
        Need("workspace", str(workspace.root), room.WORKSPACE),
        *(Need(f"model {name}", cache, size) for name, size in models.items()),
    ]
    found = volumes({need.path for need in needs} | {str(demand.storage.path)})
    said = [first_attempt(needs, found, str(demand.storage.path))]
    if demand.storage.kind != "folder":
        said.append(beside(demand, found[str(demand.storage.path)].free, submission.settings.keep_images))
    return said


def first_attempt(needs: Sequence[Need], places: Mapping[str, Volume], images: str) -> Check:
    """Whether the attempt that takes the most could start on empty disks; `images`: where the engine keeps them."""
    found = balances(needs, places)
    short = [balance for balance in found if balance.missing]
    if not short:
        return ok("disk", "; ".join(map(str, found)))
    cure = [f"df -h {balance.path}" for balance in short]
    if places[images].device in {balance.device for balance in short}:
        cure += ["isobench doctor   # `storage` says what makes images smaller", "docker system df"]
    return fail("disk", "; ".join(map(str, short)), *cure)


def beside(demand: Demand, free: int, policy: keep.Keep) -> Check:
    """Whether all images find room beside each other; where not, some are fetched more than once."""
    absent = sum(not image.present for image in demand.images)
    said = f"images: {demand.asked}, to fetch: {absent}: {bytes_text(demand.whole)} more, if all stay"
    said += f"; {bytes_text(free)} free in {demand.storage.path}"
    if demand.unknown:
        return warn(
            "images", f"{said}; {demand.unknown} could not be weighed", "docker login   # or another registry"
        )
    if demand.whole <= free:
        return ok("images", said)
    if policy == "all":
        return warn(
            "images", f'{said}: keep = "all" removes none, so the queue will pause', '[images] keep = "shared"'
        )
    return warn("images", f"{said}: some will be removed and fetched again")


def weigh(
    storage: Storage, images: Sequence[ImageInfo], asked: int, one: Sequence[Sequence[Need]], ratio: float
) -> Demand:
    """`one`: for each of the images what an attempt with it alone takes."""
    most = max(one, key=lambda needs: sum(need.bytes for need in needs), default=())
    feet = [forecast.footprint(storage, forecast.after(image, images[:at]), ratio) for at, image in enumerate(images)]
    whole = sum(int(foot.image * (1 + room.SPARE)) for foot in feet if foot is not None)
    return Demand(storage, tuple(images), asked, tuple(most), whole, asked - len(images) + feet.count(None))


async def _demand(submission: Submission, workspace: Workspace) -> Demand:
    refs = list(dict.fromkeys(job.image for job in submission.jobs))
    engine = make_engine(submission.settings, workspace)
    try:
        async with asyncio.timeout(ANSWER_S):
            storage = await engine.storage()
        images = await _resolve(engine, refs)
        ratio = _ratio(workspace)
        one = [(await room.weigh_image(storage, workspace.trees, image, ratio)).needs for image in images]
        return weigh(storage, images, len(refs), one, ratio)
    finally:
        await engine.close()


async def _resolve(engine: Engine, refs: Sequence[str]) -> list[ImageInfo]:
    """The images that engine and registry tell of in time, in order."""
    asking = [asyncio.create_task(engine.resolve(ref)) for ref in refs]
    done, late = await asyncio.wait(asking, timeout=ANSWER_S) if asking else (set(), set())
    for task in late:
        task.cancel()
    failed = {task for task in done if isinstance(task.exception(), EngineError)}
    return [task.result() for task in asking if task in done - failed]


def _ratio(workspace: Workspace) -> float:
    """As far as this workspace has seen images."""
    with contextlib.suppress(WorkspaceError), contextlib.closing(db.open_store(workspace)) as connection:
        return keep.ratio_of(connection)
    return forecast.EXPANSION
