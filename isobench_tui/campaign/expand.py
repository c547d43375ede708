"""Campaign file -> Submission: images, patches, workloads and the queue's order."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from isobench_tui.campaign import images, prediction, settings
from isobench_tui.campaign.argv import CommandError
from isobench_tui.campaign.files import Unreadable, digest, exists, local, read
from isobench_tui.campaign.identity import fingerprint
from isobench_tui.campaign.models import Arm, JobSpec, PlannedTask, Settings, Submission, Workload
from isobench_tui.campaign.patchlint import lint
from isobench_tui.campaign.problems import Notes
from isobench_tui.campaign.repos import check_folders
from isobench_tui.campaign.spec import CampaignFile, SetupTable, TaskTable
from isobench_tui.campaign.workload import Request, ServerArgsError, build, dataset_option, gpus_needed

_PATCH_CAP = 64 * 1024**2
_MOST_JOBS = 100_000
_PATHS_SHOWN = 3

Tasks = dict[str, TaskTable]
"""Complete tasks by what their problems are filed under, such as `tasks[2]`; in the order in which they shall run."""


@dataclass(frozen=True, slots=True)
class _Setup:
    commands: tuple[str, ...]
    wheels: str | None


class _Expander:
    """Walks the tasks of one file; everything wrong is noted and the rest still looked at."""

    def __init__(self, spec: CampaignFile, tasks: Tasks, base: Path, notes: Notes) -> None:
        self.spec = spec
        self.tasks = tasks
        self.base = base
        self.notes = notes
        self.patches: dict[str, str] = {}
        self.used_setup: set[int] = set()
        self.settings: Settings = settings.settings(spec, base, notes)

    def run(self, path: Path, text: str) -> Submission:
        """The whole submission. Raises SpecError with all problems at once."""
        self._check_file()
        planned: list[PlannedTask] = []
        groups: list[list[JobSpec]] = []
        for key, task in self.tasks.items():
            done = self._task(key, task)
            if done:
                planned.append(done[0])
                groups.append(done[1])
        jobs = [job for group in _neighbours(groups) for job in group]
        for index, block in enumerate(self.spec.setup):
            if index not in self.used_setup:
                self.notes.warn(f"setup[{index}]", f'no task has an image that matches "{block.images}"')
        self._check_jobs(jobs)
        self.notes.check()
        return Submission(
            name=self.spec.campaign.name,
            spec_path=str(path),
            spec_text=text,
            settings=self.settings,
            tasks=tuple(planned),
            jobs=tuple(jobs),
            patches=self.patches,
            findings=self.notes.findings,
        )

    def _check_file(self) -> None:
        seen: dict[str, str] = {}
        for key, task in self.tasks.items():
            if task.commit in seen:
                self.notes.error(f"{key}.commit", f"the same commit as {seen[task.commit]}", "each commit once")
            seen.setdefault(task.commit, key)
            if task.commit == task.parent:
                self.notes.error(f"{key}.parent", "is the commit itself", "the commit before it")
        models: set[str] = set()
        for index, row in enumerate(self.spec.model_overrides):
            if row.model in models:
                self.notes.error(f"model_overrides[{index}].model", f"{row.model} a second time", "each model once")
            models.add(row.model)
        arms = self.spec.campaign.arms
        if "agent" in arms and not any(task.patches for task in self.tasks.values()):
            self.notes.warn("campaign.arms", "no task has patches.AGENT, so no agent job will run")
        if "agent" not in arms and any(task.patches for task in self.tasks.values()):
            self.notes.info("campaign.arms", 'patches are given, but arms has no "agent": they will not run')
        if "agent" in arms and "baseline" not in arms:
            self.notes.warn("campaign.arms", "without baseline no agent's result can be compared or blamed")
        repeats = self.spec.campaign.repeats
        total = sum((task.repeats or repeats) * (2 + len(task.patches)) for task in self.tasks.values())
        if total > _MOST_JOBS:
            self.notes.error("tasks", f"about {total} jobs", f"at most {_MOST_JOBS} in one campaign")
            self.notes.check()

    def _check_jobs(self, jobs: list[JobSpec]) -> None:
        if not jobs and not self.notes.problems:
            self.notes.error(
                "campaign.arms", "no job comes out of it", "an arm for which some task has what it takes"
            )

    def _task(self, key: str, task: TaskTable) -> tuple[PlannedTask, list[JobSpec]] | None:
        refs = self._images(key, task)
        patches = self._patches(key, task)
        setup = self._setup(key, refs)
        workload = self._workload(key, task, setup)
        if workload is None:
            return None
        self._check_hardware(task, workload)
        check_folders(workload, self.settings, task.commit[:8], self.notes)
        planned = PlannedTask(
            commit=task.commit, parent=task.parent, workload=workload, fingerprint=fingerprint(workload)
        )
        return planned, self._jobs(task, planned, refs, patches, setup)

    def _images(self, key: str, task: TaskTable) -> dict[Arm, str]:
        """The image of each arm that runs."""
        refs: dict[Arm, str] = {}
        wanted: tuple[Arm, ...] = ("baseline", "human")
        for arm in wanted:
            patched = arm == "baseline" and "agent" in self.spec.campaign.arms and task.patches
            if arm not in self.spec.campaign.arms and not patched:
                continue
            own, common = getattr(task.images, arm), getattr(self.spec.images, arm)
            where = f"{key}.images.{arm}" if own else f"images.{arm}"
            if not (own or common):
                self.notes.error(where, "is missing", f"a template for the {arm} image, or {key}.images.{arm}")
                continue
            try:
                ref = images.render(own or common, commit=task.commit, parent=task.parent)
                refs[arm] = images.located(ref, self.spec.engine.kind, self.base)
            except images.ImageError as error:
                self.notes.error(where, error.what, error.accepted)
        if "baseline" in refs:
            refs["agent"] = refs["baseline"]
        return refs

    def _patches(self, key: str, task: TaskTable) -> dict[str, str]:
        """agent -> sha256 of its patch."""
        found: dict[str, str] = {}
        if "agent" not in self.spec.campaign.arms:
            return found
        if not task.patches and any(other.patches for other in self.tasks.values()):
            self.notes.info(task.commit[:8], "no patches: no agent job for this task")
        for agent, written in task.patches.items():
            path = local(self.base, written)
            try:
                data = read(path, _PATCH_CAP)
                if path.suffix == ".jsonl":
                    data = prediction.patch(data)
            except Unreadable as error:
                self.notes.error(f"{key}.patches.{agent}", f"{path}: {error}", "the path of a diff")
                continue
            sha256 = hashlib.sha256(data).hexdigest()
            where = f"{task.commit[:8]}:{agent}"
            for finding in lint(data):
                shown = ", ".join(finding.paths[:_PATHS_SHOWN]) + (" …" if len(finding.paths) > _PATHS_SHOWN else "")
                self.notes.warn(where, f"{finding.text}" + (f" ({shown})" if shown else ""))
            same = [other for other, known in found.items() if known == sha256]
            if same:
                self.notes.info(where, f"the same patch as {same[0]}")
            found[agent] = sha256
            self.patches.setdefault(sha256, base64.b64encode(data).decode("ascii"))
        return found

    def _setup(self, key: str, refs: dict[Arm, str]) -> _Setup:
        """What runs before the patch: a block that matches one image of the task runs in all its arms."""
        commands: list[str] = []
        wheels: dict[str, None] = {}
        for index, block in enumerate(self.spec.setup):
            if not any(fnmatchcase(ref, block.images) for ref in refs.values()):
                continue
            self.used_setup.add(index)
            commands.append(block.run)
            folder = self._wheels(f"setup[{index}].wheels", block)
            wheels.update({folder: None} if folder else {})
        if len(wheels) > 1:
            self.notes.error(f"{key}", f"its setup blocks name {len(wheels)} wheels folders", "one folder per task")
        return _Setup(tuple(commands), next(iter(wheels), None))

    def _wheels(self, key: str, block: SetupTable) -> str | None:
        if not block.wheels:
            return None
        folder = local(self.base, block.wheels)
        if not exists(folder, folder=True):
            self.notes.error(key, f"{folder}: no such folder", "a folder of this machine")
        if self.spec.engine.kind == "process":
            self.notes.warn(key, "only containers see /wheels; a local process does not")
        return str(folder)

    def _workload(self, key: str, task: TaskTable, setup: _Setup) -> Workload | None:
        spec = self.spec
        request = Request(
            where=task.commit[:8],
            model=task.model,
            mode=task.mode,
            env={**spec.env, **task.env},
            server_args=(*spec.server.args, *task.server_args),
            setup=setup.commands,
            overrides=spec.model_overrides,
            decided=task.override,
            trials=spec.measure.trials,
            warmups=spec.measure.warmups,
            dataset=task.dataset is not None,
        )
        try:
            workload = build(task.perf_command, request, self.notes)
        except ServerArgsError as error:
            mine = f"{key}.server_args" if task.server_args else "server.args"
            self.notes.error(mine, error.what, error.accepted)
            return None
        except CommandError as error:
            self.notes.error(f"{key}.perf_command", error.what, error.accepted)
            return None
        return workload.model_copy(update={"dataset": self._dataset(key, task, workload)})

    def _dataset(self, key: str, task: TaskTable, workload: Workload) -> str | None:
        """sha256 of the dataset: the task's own path, else what the client is told, seen through the volumes."""
        if task.dataset:
            path = local(self.base, task.dataset)
            try:
                return digest(path)
            except Unreadable as error:
                self.notes.error(f"{key}.dataset", f"{path}: {error}", "the path of a file on this machine")
                return None
        told = dataset_option(workload)
        if told is None or re.fullmatch(r"[\w.-]+/[\w.-]+", told):  # a data set's name on the hub
            return None
        for path in settings.on_host(told, self.settings):
            try:
                return digest(path)
            except Unreadable:
                continue
        self.notes.info(task.commit[:8], f"dataset {told} cannot be read here, so that its content is not recorded")
        return None

    def _check_hardware(self, task: TaskTable, workload: Workload) -> None:
        most = max(len(lane.gpus) for lane in self.settings.lanes)
        needed = gpus_needed(workload)
        if most and needed > most:
            self.notes.warn(task.commit[:8], f"asks for {needed} GPUs; the largest lane has {most}")
        if task.hub == "online" and self.spec.engine.kind == "docker" and self.spec.container.network == "none":
            self.notes.warn(task.commit[:8], 'hub = "online", but [container] network is "none"')

    def _jobs(
        self, task: TaskTable, planned: PlannedTask, refs: dict[Arm, str], patches: dict[str, str], setup: _Setup
    ) -> list[JobSpec]:
        """B H A B H A: repeats of the arms interleave, so that a drift of the machine hits all of them alike."""
        arms: list[tuple[Arm, str]] = [(arm, "") for arm in self.spec.campaign.arms if arm != "agent"]
        arms.sort()
        arms += [("agent", agent) for agent in patches]
        return [
            JobSpec(
                campaign=self.spec.campaign.name,
                commit=task.commit,
                parent=task.parent,
                arm=arm,
                agent=agent,
                repeat=repeat,
                image=refs[arm],
                workload=planned.workload,
                fingerprint=planned.fingerprint,
                patch_sha256=patches.get(agent),
                max_attempts=self.spec.limits.max_attempts,
                wheels=setup.wheels,
                hub=task.hub,
                dataset=str(local(self.base, task.dataset)) if task.dataset else None,
            )
            for repeat in range(task.repeats or self.spec.campaign.repeats)
            for arm, agent in arms
            if arm in refs
        ]


def _neighbours(groups: list[list[JobSpec]]) -> list[list[JobSpec]]:
    """Tasks in the file's order, but those that share an image with the one before stand behind it."""
    left = [(frozenset(job.image for job in group), group) for group in groups]
    ordered: list[list[JobSpec]] = []
    last: frozenset[str] = frozenset()
    while left:
        at = next((at for at, (images, _) in enumerate(left) if last & images), 0)
        last, group = left.pop(at)
        ordered.append(group)
    return ordered


def expand(spec: CampaignFile, tasks: Tasks, path: Path, text: str, notes: Notes) -> Submission:
    """Turn a validated file with its complete `tasks` into a submission. Raises SpecError."""
    return _Expander(spec, tasks, path.parent, notes).run(path, text)
