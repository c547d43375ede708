"""Where a campaign's tasks come from: `[[tasks]]`, and what an ISO-Bench checkout knows about them and others.

However a task was told, it ends as the same complete TaskTable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isobench_tui.campaign.isobench import Checkout
from isobench_tui.campaign.problems import Notes
from isobench_tui.campaign.spec import CampaignFile, InlineTask, TaskTable

_LISTED = 5


def complete(spec: CampaignFile, base: Path, notes: Notes) -> dict[str, TaskTable]:
    """Every task by what its problems are filed under: the checkout's first, then those of the file alone.

    What is wrong or missing goes to `notes`.
    """
    if spec.isobench:
        return from_checkout(Checkout(spec.isobench, base, spec.model_overrides, notes), spec.tasks, notes)
    if not spec.tasks:
        what = "should have at least 1 item" if "tasks" in spec.model_fields_set else "is missing"
        notes.error("tasks", what, CampaignFile.model_fields["tasks"].description or "")
    made = {
        f"tasks[{index}]": _whole(f"tasks[{index}]", _given(task), notes) for index, task in enumerate(spec.tasks)
    }
    return {key: task for key, task in made.items() if task}


def from_checkout(checkout: Checkout, inline: Sequence[InlineTask], notes: Notes) -> dict[str, TaskTable]:
    """The tasks that a checkout was asked for, and the `inline` ones, completed by it; keys as of `complete`."""
    made: dict[str, TaskTable] = {}
    left = {f"tasks[{index}]": task for index, task in enumerate(inline)}
    for commit in checkout.chosen():
        mine = [key for key, task in left.items() if task.commit.startswith(commit)]
        for key in mine or [f"isobench {commit[:8]}"]:
            _add(made, key, checkout, commit, left.pop(key, None), notes)
    for key, task in left.items():
        _add(made, key, checkout, task.commit, task, notes)
    checkout.finish(task.commit for task in made.values())
    if not made and not notes.problems:
        reasons = [
            f"{finding.where}: {finding.text}"
            for begins in ("left out", "not used")
            for finding in notes.findings
            if finding.text.startswith(begins)
        ]
        what = "no task comes out of the checkout" + "".join(f"; {reason}" for reason in reasons[:_LISTED])
        notes.error("isobench", what, "commits of its mapping that can be run, or [[tasks]]")
    return made


def _add(
    made: dict[str, TaskTable], key: str, checkout: Checkout, commit: str, own: InlineTask | None, notes: Notes
) -> None:
    if own and not checkout.knows(commit):
        fields, reasons = _given(own), ["the checkout does not know the commit"]
    else:
        fields, reasons = checkout.fields(commit, own)
    if reasons and not own:
        notes.warn(commit[:8], f"left out: {'; '.join(reasons)}")
        return
    task = _whole(key, fields, notes, "; ".join(reasons))
    if task and key not in made:
        made[key] = task


def _given(task: InlineTask) -> dict[str, Any]:
    return {name: getattr(task, name) for name in task.model_fields_set}


def _whole(key: str, fields: dict[str, Any], notes: Notes, why: str = "") -> TaskTable | None:
    missing = [name for name in ("parent", "perf_command") if fields.get(name) is None]
    for name in missing:
        what = f"is missing ({why})" if why else "is missing"
        notes.error(f"{key}.{name}", what, InlineTask.model_fields[name].description or "")
    return None if missing else TaskTable(**fields)
