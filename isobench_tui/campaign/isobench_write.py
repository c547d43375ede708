"""Writes a campaign file from an ISO-Bench checkout, for people to read and edit, each finding where it belongs.

The mappings are settled when it is written; of the checkout the file needs the patches alone afterwards.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from isobench_tui.campaign.isobench import Checkout
from isobench_tui.campaign.load import parse
from isobench_tui.campaign.models import Finding, Submission
from isobench_tui.campaign.problems import Notes, plain
from isobench_tui.campaign.spec import IsobenchTable, OverrideTable, TaskTable
from isobench_tui.campaign.tasks import from_checkout

_LLAMA = "the report ran it in its place; older vLLM cannot read rope_scaling type 'llama3'"
_BAMBA = "the report ran it in its place: what the commit changes for Mamba models is not measured"
REPORT_OVERRIDES = (
    ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3-8B-Instruct", _LLAMA),
    ("meta-llama/Llama-3.1-70B-Instruct", "meta-llama/Meta-Llama-3-70B-Instruct", _LLAMA),
    ("ibm-ai-platform/Bamba-9B-v2", "meta-llama/Meta-Llama-3-8B-Instruct", _BAMBA),
    ("ibm-ai-platform/Bamba-9B", "meta-llama/Meta-Llama-3-8B-Instruct", _BAMBA),
)
"""Models that the published results of January 2026 did not run, although they name them."""

_HEAD = """\
# A campaign out of the ISO-Bench checkout {root}
# Read it and change what does not fit; `isobench plan FILE` says what would run, `isobench run FILE` runs it.
# The mapping was read when this file was written; patches are still read out of the checkout.
{general}
[campaign]
name = {name}
repeats = 1   # 3 or more give a confidence interval
arms = {arms}

[images]   # as published
baseline = "shikhar481/vllm_fixed_human_images:baseline-{{parent:.12}}"
human = "ayushnangia16/nvidia-vllm-docker:{{commit}}"

[container]
shm_size = "16g"
# volumes = ["/path/of/datasets:/data:ro"]

# [model]
# cache = "/path/of/huggingface_cache"
# secrets = ["HF_TOKEN"]   # for gated models; the value comes from the environment of `isobench run`

# [env]
# VLLM_USE_V1 = "0"   # as in most arms of the published runs; what a commit changes in V1 is then not measured

[[lanes]]
gpus = ["0"]
"""
_OVERRIDES = """\
# Models that the published results ran in place of those that they name. Without a row the named model runs;
# before_vllm = "0.5.3.post1" would limit a row to images with an older vLLM.
"""
_WIDTH = 110


def campaign(table: IsobenchTable, base: Path, name: str, target: Path) -> tuple[str, Submission]:
    """The text of a campaign file to be written to `target`, and what it will run, with all findings.

    `base` is where a relative root starts from. Raises SpecError.
    """
    notes = Notes(table.root)
    overrides = [OverrideTable(model=model, use=use, reason=reason) for model, use, reason in REPORT_OVERRIDES]
    checkout = Checkout(table, base, overrides, notes)
    notes.check()
    tasks = list(from_checkout(checkout, (), notes).values())
    notes.check()
    sketch = parse(_render(table, name, tasks, overrides, (), checkout.root, target), target)
    replaced = {task.workload.override.model for task in sketch.tasks if task.workload.override}
    overrides = [row for row in overrides if row.model in replaced]
    findings = tuple(dict.fromkeys([*notes.findings, *sketch.findings]))
    text = _render(table, name, tasks, overrides, findings, checkout.root, target)
    return text, parse(text, target).model_copy(update={"findings": findings})


def _render(
    table: IsobenchTable,
    name: str,
    tasks: Sequence[TaskTable],
    overrides: Sequence[OverrideTable],
    findings: Sequence[Finding],
    root: Path,
    target: Path,
) -> str:
    about: dict[str, list[Finding]] = {task.commit[:8]: [] for task in tasks}
    general: list[Finding] = []
    for finding in findings:
        about.get(finding.where.split(":")[0], general).append(finding)
    arms = ["baseline", "human", "agent"] if table.agents else ["baseline", "human"]
    parts = [
        _HEAD.format(
            root=plain(str(root)),
            general="".join(f"{line}\n" for line in ["#", *_comments(general)]) if general else "",
            name=_string(name),
            arms=_list(arms),
        )
    ]
    if overrides:
        parts.append(_OVERRIDES + "\n".join(_override(row) for row in overrides))
    parts += [_task(task, about[task.commit[:8]], target.parent) for task in tasks]
    return "\n".join(parts)


def _override(row: OverrideTable) -> str:
    values = {"model": row.model, "use": row.use, "reason": row.reason}
    return "\n".join(["[[model_overrides]]", *(f"{key} = {_string(value)}" for key, value in values.items()), ""])


def _task(task: TaskTable, findings: Sequence[Finding], base: Path) -> str:
    lines = [
        "[[tasks]]",
        *_comments(findings, task.commit[:8]),
        f"commit = {_string(task.commit)}",
        f"parent = {_string(task.parent)}",
        *([f"model = {_string(task.model)}"] if task.model else []),
        *([f"mode = {_string(task.mode)}"] if task.mode else []),
        f"perf_command = {_string(task.perf_command)}",
        *(f"patches.{_key(agent)} = {_string(_path(path, base))}" for agent, path in task.patches.items()),
    ]
    return "\n".join(lines) + "\n"


def _comments(findings: Iterable[Finding], about: str = "") -> list[str]:
    lines: list[str] = []
    for finding in findings:
        where = "" if finding.where == about else f"{finding.where.removeprefix(about + ':')}: "
        text = plain(f"{finding.level}: {where}{finding.text}")
        wrapped = textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent="  ")
        lines += [f"# {line}" for line in wrapped]
    return lines


def _path(path: str, base: Path) -> str:
    """Relative where the checkout lies beside or below the campaign file, so that both can be moved together."""
    try:
        return f"./{Path(path).relative_to(base)}"
    except ValueError:
        return path


def _key(name: str) -> str:
    return _string(name) if "." in name else name


def _list(values: Iterable[str]) -> str:
    return "[" + ", ".join(_string(value) for value in values) + "]"


def _string(text: str) -> str:
    """A TOML string: literal where that saves escapes, else basic."""
    if text.isprintable() and "'" not in text and ('"' in text or "\\" in text):
        return f"'{text}'"
    safe = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in safe) + '"'
