"""What would run, in order, said before anything starts: for a terminal, and as JSON."""

from __future__ import annotations

import base64
import shlex
import textwrap
from typing import Any

from isobench_tui.campaign.argv import is_option, options
from isobench_tui.campaign.identity import identity, job_id
from isobench_tui.campaign.models import Finding, JobSpec, Override, PlannedTask, Submission, Workload
from isobench_tui.campaign.options import span
from isobench_tui.campaign.patchlint import read
from isobench_tui.campaign.problems import plain

_WIDTH = 80


def render_plan(submission: Submission) -> str:
    """The plan as plain text; columns fit 80, only references, paths and single options may be longer."""
    numbers = _image_numbers(submission)
    parts = [_head(submission), _images(numbers), _order(submission, numbers)]
    jobs: dict[str, list[JobSpec]] = {task.commit: [] for task in submission.tasks}
    for job in submission.jobs:
        jobs[job.commit].append(job)
    findings: dict[str, list[Finding]] = {task.commit[:8]: [] for task in submission.tasks}
    rest: list[Finding] = []
    for finding in submission.findings:
        findings.get(finding.where.split(":")[0], rest).append(finding)
    for task in submission.tasks:
        arms = _arms(jobs[task.commit], submission.patches, numbers)
        parts.append(_task(task, arms, findings[task.commit[:8]]))
    if rest:
        parts.append(["findings", *_findings(rest, named=True)])
    return "\n\n".join("\n".join(plain(line).rstrip() for line in part) for part in parts if part) + "\n"


def plan_json(submission: Submission) -> dict[str, Any]:
    """The plan as JSON: `campaign`, `settings`, `jobs` in order, `tasks`, `findings`."""
    return {
        "campaign": submission.name,
        "file": submission.spec_path,
        "settings": submission.settings.model_dump(mode="json"),
        "jobs": [
            {"position": position, "id": job_id(identity(job, submission.settings)), **_job(job)}
            for position, job in enumerate(submission.jobs)
        ],
        "tasks": [
            {
                "commit": task.commit,
                "parent": task.parent,
                "fingerprint": task.fingerprint,
                "workload": task.workload.model_dump(mode="json"),
            }
            for task in submission.tasks
        ],
        "findings": [finding.model_dump(mode="json") for finding in submission.findings],
    }


def _job(job: JobSpec) -> dict[str, Any]:
    return job.model_dump(mode="json", exclude={"workload"}) | {"mode": job.workload.mode}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _seconds(value: float) -> str:
    for unit, size in (("h", 3600), ("m", 60)):
        if value >= size and value % size == 0:
            return f"{value / size:g}{unit}"
    return f"{value:g}s"


def _head(submission: Submission) -> list[str]:
    settings = submission.settings
    lanes = [
        ("GPU " + ",".join(lane.gpus) if lane.gpus else "no GPU") + (f" on CPUs {lane.cpus}" if lane.cpus else "")
        for lane in settings.lanes
    ]
    runs = _count(settings.trials, "trial") + (
        f" after {_count(settings.warmups, 'warm-up')}" * bool(settings.warmups)
    )
    timeouts = settings.timeouts
    shown = ("image", *(["model"] if settings.model_cache else []), "setup", "server", "measure")
    deadlines = ", ".join(f"{name} {_seconds(getattr(timeouts, name))}" for name in shown)
    head = [
        f"campaign {submission.name}: {_count(len(submission.jobs), 'job')}, {_count(len(submission.tasks), 'task')}",
        f"  file       {submission.spec_path}",
        f"  engine     {settings.engine}" + (f" at {settings.docker_host}" if settings.docker_host else ""),
        f"  lanes      {'; '.join(lanes)}",
        f"  attempt    {runs}",
        f"  deadlines  {deadlines}",
    ]
    if settings.simulated:
        head.insert(1, "  SIMULATED: nothing here measures vLLM")
    return head


def _image_numbers(submission: Submission) -> dict[str, int]:
    refs = dict.fromkeys(job.image for job in submission.jobs)
    return {ref: number for number, ref in enumerate(refs, 1)}


def _images(numbers: dict[str, int]) -> list[str]:
    return ["images", *(f"  {f'[{number}]':>5}  {ref}" for ref, number in numbers.items())]


def _order(submission: Submission, numbers: dict[str, int]) -> list[str]:
    rows = [("#", "commit", "arm / agent", "repeat", "mode", "image", "patch")]
    for position, job in enumerate(submission.jobs, 1):
        rows.append(
            (
                str(position),
                job.commit[:8],
                job.agent or job.arm,
                str(job.repeat + 1),
                job.workload.mode,
                f"[{numbers[job.image]}]",
                (job.patch_sha256 or "-")[:12],
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = {0, 3}
    lines = [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return ["order", *("  " + line for line in lines)]


def _task(task: PlannedTask, arms: list[str], findings: list[Finding]) -> list[str]:
    workload = task.workload
    short = task.commit[:8]
    lines = [
        f"task {short}  parent {task.parent[:8]}  {workload.mode}  fingerprint {task.fingerprint[:12]}",
        *arms,
        f"  model     {workload.model}",
        *_override(workload.override),
        *_argv("client", workload.client),
        *(_argv("server", workload.server) if workload.server else []),
        *_needs(workload),
    ]
    lines += [f"  env       {name}={shlex.quote(value)}" for name, value in sorted(workload.env.items())]
    lines += [f"  setup     {command}" for command in workload.setup]
    if workload.dataset:
        lines.append(f"  dataset   {workload.dataset}")
    lines.append(f"  expects   {_expected(task)}")
    return lines + [line for f in findings for line in _findings([f], named=f.where != short)]


def _arms(jobs: list[JobSpec], patches: dict[str, str], numbers: dict[str, int]) -> list[str]:
    """One line per arm and agent: its image, and what its patch touches."""
    lines = []
    for job in {(job.arm, job.agent): job for job in jobs}.values():
        text = f"  {job.arm:<8}  image [{numbers[job.image]}]"
        if job.patch_sha256:
            paths = [path for path in read(base64.b64decode(patches[job.patch_sha256])).paths if path]
            text += f"  {job.agent}  patch {job.patch_sha256[:12]} ({_count(len(paths), 'file')})"
        lines.append(text)
    return lines


def _override(override: Override | None) -> list[str]:
    if override is None:
        return []
    when = ""
    if override.before_vllm and override.decided is None:
        when = f"only if the image's vLLM is older than {override.before_vllm}"
    elif override.before_vllm:
        when = "whatever the image's vLLM: the task says override = true"
    else:
        when = "always"
    lines = [f"  override  {override.use}", f"            {when}"]
    return lines + ([f"            because: {override.reason}"] if override.reason else [])


def _argv(label: str, argv: tuple[str, ...]) -> list[str]:
    """A command line, broken before options so that it can be read and copied."""
    groups: list[list[str]] = [[]]
    for word in argv:
        if is_option(word) and word != "-m":
            groups.append([])
        groups[-1].append(word)
    lines = [""]
    for text in (shlex.join(group) for group in groups if group):
        if lines[-1] and len(lines[-1]) + len(text) + 15 > _WIDTH:
            lines.append("  " + text)
        else:
            lines[-1] += (" " if lines[-1] else "") + text
    ends = [" \\"] * (len(lines) - 1) + [""]
    return [
        f"  {label if i == 0 else '':<8}  {line}{end}" for i, (line, end) in enumerate(zip(lines, ends, strict=True))
    ]


def _needs(workload: Workload) -> list[str]:
    """The releases of vLLM that can run what perf_command says, where it sets them a bound."""
    ours = {option[0] for option in workload.optional}
    _, given = options(workload.client)
    found = str(span(workload.client, [option for option in given if option.name not in ours]))
    return [f"  {'needs' if i == 0 else '':<8}  {line}" for i, line in enumerate(textwrap.wrap(found, _WIDTH - 12))]


def _expected(task: PlannedTask) -> str:
    workload = task.workload
    parts = [_count(workload.asked, "request") if workload.asked is not None else "no fixed number of requests"]
    if workload.output_tokens is not None:
        parts.append(_count(workload.output_tokens, "output token"))
    if workload.seeds:
        parts.append("seeds " + ", ".join(str(seed) for seed in workload.seeds))
    if workload.writes_result:
        parts.append("a result file")
    return ", ".join(parts)


def _findings(findings: list[Finding], *, named: bool) -> list[str]:
    lines: list[str] = []
    for finding in findings:
        text = f"{finding.where}: {finding.text}" if named else finding.text
        wrapped = textwrap.wrap(text, _WIDTH - 12, break_long_words=False, break_on_hyphens=False)
        lines += [f"  {finding.level if i == 0 else '':<8}  {line}" for i, line in enumerate(wrapped)]
    return lines
