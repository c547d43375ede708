"""What the other arms of a task say about a failure: class and blame computed again from all attempts of the task.

Blame falls on `agent` only if the patch applied, the baseline succeeded on the same ground, the evidence points into
the patch, and a second attempt with the same patch failed in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from isobench_tui.campaign.models import Arm
from isobench_tui.results.classes import blame_for
from isobench_tui.results.errors import stripped
from isobench_tui.results.models import Blame, Outcome

NEVER = frozenset({"cancelled", "interrupted"})
"""Endings that say nothing of the patch."""
BEFORE = frozenset({"patch_empty", "patch_not_applied", "patch_not_compiled"})
"""Facts about a patch that never ran."""
KEPT = frozenset({"gpu_oom_capacity", "host_oom", "server_timeout", "timeout"})
"""Classes that keep their name when the patch is to blame; every other one is then a `patch_crash`."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """One ended attempt of a task, with the diagnosis that its own files gave."""

    attempt: str
    job: str
    arm: Arm
    agent: str
    patch: str
    """sha256 of the patch; empty without one."""
    ground: tuple[str, ...]
    """Host, image and workload: only attempts with the same are compared."""
    outcome: Outcome
    valid: bool
    applied: bool
    """A patch is in the tree, whole and imported; False for arms without one."""
    failure: str = ""
    """Provisional class; empty for a success."""
    blame: Blame = "undetermined"
    text: str = ""
    """The line of the evidence."""
    file: str = ""
    frame: str = ""
    """`path:line` of the patch that the evidence points at."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Class and blame in the light of the siblings."""

    failure: str
    blame: Blame
    why: str = ""
    """One clause; empty where the siblings change nothing."""
    needs_confirmation: bool = False
    """All points at the patch, and one more attempt must fail in the same way before it is blamed."""


def judge_siblings(siblings: Sequence[Sibling]) -> dict[str, Judgement]:
    """Attempt -> judgement, for every failed attempt of one task. Depends on nothing but these attempts."""
    return {one.attempt: _judge(one, siblings) for one in siblings if one.failure and one.outcome != "success"}


def _judge(one: Sibling, siblings: Sequence[Sibling]) -> Judgement:
    as_found = Judgement(one.failure, one.blame)
    if one.arm != "agent" or one.failure in NEVER | BEFORE or one.blame == "infra":
        return as_found
    ground = [other for other in siblings if other.ground == one.ground]
    shared = _seen_elsewhere(one, siblings)
    if shared is not None:
        return shared
    healthy = any(other.arm == "baseline" and other.outcome == "success" and other.valid for other in ground)
    if not healthy:
        return as_found
    if not (one.applied and one.frame):
        if one.blame in {"image", "config", "harness", "capacity"} and one.file.endswith(".log"):
            why = "the baseline succeeded on the same host, image and workload, so it is not theirs alone"
            return Judgement(one.failure, "undetermined", why)
        return as_found
    failure = one.failure if one.failure in KEPT else "patch_crash"
    same = [other for other in ground if _repeats(one, other)]
    succeeded = any(other.patch == one.patch and other.outcome == "success" for other in ground)
    if len(same) > 1:
        why = f"the baseline succeeded, the traceback leads to {one.frame}, and {len(same)} attempts failed so"
        return Judgement(failure, "agent", why)
    if succeeded:
        return Judgement(failure, "undetermined", "the same patch succeeded in another attempt")
    why = f"the baseline succeeded and the traceback leads to {one.frame}; one more attempt must confirm it"
    return Judgement(failure, "undetermined", why, needs_confirmation=True)


def _repeats(one: Sibling, other: Sibling) -> bool:
    """The same patch failed in the same way (or it is the same attempt)."""
    return other.patch == one.patch and other.failure == one.failure and bool(other.frame)


def _seen_elsewhere(one: Sibling, siblings: Sequence[Sibling]) -> Judgement | None:
    """The judgement where the same happened in the baseline's or the human's arm, or to another agent."""
    for other in siblings:
        unpatched = other.arm != "agent"
        if not other.failure or other.outcome in NEVER or not (unpatched or other.agent != one.agent):
            continue
        same_words = bool(one.text) and _essence(other.text) == _essence(one.text)
        if other.failure != one.failure and not (unpatched and same_words):
            continue
        recovered = any(later.job == other.job and later.outcome == "success" for later in siblings)
        if recovered and not same_words:
            continue  # it was a passing fault there; the class alone is no proof
        who = f"the {other.arm} arm" if unpatched else f"another agent ({other.agent})"
        failure = other.failure if unpatched else one.failure
        blame = blame_for(failure, patched=False)
        return Judgement(failure, blame, f"{who} of the same commit failed with it too, so it is not this patch")
    return None


_VARIES = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?|(?:/[\w.+-]+)+")


def _essence(text: str) -> str:
    """An error line without what differs from run to run: process, time, numbers, paths."""
    return _VARIES.sub("#", stripped(text)).strip()
