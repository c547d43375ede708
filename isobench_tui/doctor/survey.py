"""Which checks are made, in which order, for a campaign or for the host alone."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from isobench_tui.campaign.models import Submission
from isobench_tui.doctor import campaign, disk, docker, gpus, host, hub, storage
from isobench_tui.doctor.check import LIMIT_S, Check, Probe, run_all
from isobench_tui.engine.base import EngineError
from isobench_tui.engine.threads import in_thread
from isobench_tui.runner import models
from isobench_tui.store import db
from isobench_tui.store.workspace import Workspace, WorkspaceError

ROOM_S = models.WEIGH_S + 2 * disk.ANSWER_S
"""Seconds for hub, engine and registry to tell of all models and images."""


async def survey(workspace: Workspace, submission: Submission | None) -> list[Check]:
    """Everything that can be seen in a few seconds. Without a campaign: as for one in containers, without GPU ids."""
    settings = submission.settings if submission else None
    wanted = [gpu for lane in settings.lanes for gpu in lane.gpus] if settings else []
    engine: docker.Engine | None = None
    checks: list[Check] = []
    if settings is None or settings.engine == "docker":
        url = settings.docker_host if settings else None
        try:
            engine = await in_thread("doctor: engine", lambda: docker.look(url), LIMIT_S)
        except EngineError as error:
            checks.append(docker.absent(error))
        except TimeoutError:
            checks.append(docker.absent(EngineError(f"the engine does not answer in {LIMIT_S:g} s")))
    probes = _engine(engine, wanted, workspace) if engine is not None else []
    probes += [
        Probe("gpu", lambda: gpus.check(wanted)),
        Probe("nvidia-smi", lambda: gpus.smi(wanted)),
        Probe("workspace", lambda: host.workspace(workspace)),
    ]
    if submission is not None:
        probes += _campaign(
            submission, workspace, reachable=engine is not None or submission.settings.engine != "docker"
        )
    probes += [Probe("clock", host.clock), Probe("logout", host.logout_here), Probe("tmux", host.tmux)]
    return [*checks, *await run_all(probes)]


def _engine(engine: docker.Engine, wanted: Sequence[str], workspace: Workspace) -> list[Probe]:
    return [
        Probe("engine", lambda: docker.answers(engine)),
        Probe("storage", lambda: storage.check(engine)),
        Probe("live-restore", lambda: docker.live_restore(engine)),
        Probe("gpu-runtime", lambda: docker.gpu_runtime(engine, wanted, docker.hook_on_path())),
        Probe("leftovers", lambda: docker.leftovers(engine, _uuid(workspace), runner=workspace.locked())),
    ]


def _campaign(submission: Submission, workspace: Workspace, *, reachable: bool) -> list[Probe]:
    return [
        Probe("campaign", lambda: campaign.problems(submission)),
        Probe("secrets", lambda: campaign.stored_secrets(submission.settings)),
        Probe("disk", lambda: _room(submission, workspace, reachable=reachable), ROOM_S),
    ]


def _room(submission: Submission, workspace: Workspace, *, reachable: bool) -> list[Check]:
    """The models, then the disks, which also have to take those."""
    cache, lacks = hub.check(submission)
    return [cache, *disk.check(submission, workspace, lacks)] if reachable else [cache]


def _uuid(workspace: Workspace) -> str | None:
    """Of the workspace, where it has been made."""
    with contextlib.suppress(WorkspaceError), contextlib.closing(db.open_store(workspace)) as connection:
        return str(db.meta(connection, "uuid"))
    return None
