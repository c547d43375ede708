"""Flags that an attempt gets in the light of the other attempts of its task. Computed again whenever one ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from isobench_tui.campaign.models import Arm, Validity
from isobench_tui.results import stats
from isobench_tui.results.models import Flag

OF_SERIES: Final = ("outlier", "drift")
"""Flags about several runs together rather than about one."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A success of a task, as far as others' validity rests on it. What is None is not known."""

    attempt: str
    arm: Arm
    agent: str
    repeat: int
    """0-based."""
    ref: str
    """The image as the campaign names it: a tag may move."""
    digest: str | None = None
    image_id: str | None = None
    client: str | None = None
    """sha256 of the measuring program's files."""
    unseeded: bool = False
    """The image's client takes no seed, so that its prompts are others than those of a seeded one."""
    model: str | None = None
    revision: str | None = None
    requests: float | None = None
    """Completed requests a trial."""
    prompt_tokens: float | None = None
    """Of a request, in the mean."""
    output_tokens: float | None = None
    """Of a request, in the mean."""
    metric: str = ""
    """The one that stands for the result."""
    value: float | None = None
    valid: bool = True
    """By what its own files say."""
    started: float = 0.0
    """Unix seconds."""
    ended: float = 0.0

    @property
    def name(self) -> str:
        return self.agent or self.arm


def flags_among(attempts: Sequence[Measured], limits: Validity, floor: float) -> dict[str, tuple[Flag, ...]]:
    """Attempt -> its flags, for the successes of one task on one host, oldest first.

    `floor`: relative difference within which a value is no outlier. Depends on nothing but its arguments.
    """
    found: dict[str, list[Flag]] = {one.attempt: [] for one in attempts}
    base = next((one for one in attempts if one.arm == "baseline" and one.valid), None)
    base = base or next((one for one in attempts if one.arm == "baseline"), None)
    for one in attempts:
        if flag := _image_changed(one, attempts):
            found[one.attempt].append(flag)
        if base is not None and one.arm != "baseline":
            found[one.attempt] += _against(one, base, limits)
    sound = [
        replace(one, valid=one.valid and not any(flag.effect == "invalidates" for flag in found[one.attempt]))
        for one in attempts
    ]
    for attempt, flag in _of_series([one for one in sound if one.valid and (one.value or 0) > 0], floor):
        mine = found[attempt]
        same = next((at for at, other in enumerate(mine) if other.name == flag.name), None)
        if same is None:
            mine.append(flag)
        else:
            mine[same] = replace(flag, text=f"{mine[same].text}; {flag.text}")
    return {attempt: tuple(flags) for attempt, flags in found.items()}


# ---------------------------------------------------------------------------------------- one against the reference


def _same_image(one: Measured, other: Measured) -> bool | None:
    """Whether both ran in one image; None where that cannot be told."""
    if one.digest and other.digest:
        return one.digest == other.digest
    if one.image_id and other.image_id:
        return one.image_id == other.image_id
    return None


def _image_changed(one: Measured, attempts: Sequence[Measured]) -> Flag | None:
    """The tag named another image when the first attempt with it ran."""
    first = next((other for other in attempts if other.ref == one.ref and (other.digest or other.image_id)), None)
    if first is None or _same_image(one, first) is not False:
        return None
    ids = [(item.digest or item.image_id or "")[:19] for item in (one, first)]
    text = f"{one.ref} was {ids[0]} here and {ids[1]} in {first.name}, repeat {first.repeat + 1}: 1 tag, 2 images"
    return Flag("image_changed", "invalidates", text)


def _against(one: Measured, base: Measured, limits: Validity) -> Iterator[Flag]:
    if one.client and base.client and one.client != base.client:
        patched = one.arm == "agent" and _same_image(one, base) is not False
        whose = "and the patch is all that differs" if patched else "as its image has it"
        text = f"measured with sha256 {one.client[:12]}, the baseline with {base.client[:12]}, {whose}"
        yield Flag("client_modified", "invalidates" if patched else "notes", text)
    asked, answered = _differences(one, base, limits.workload_tolerance)
    if asked or answered:
        yield Flag("workload_mismatch", "invalidates" if asked else "notes", "; ".join([*asked, *answered]))


def _differences(one: Measured, base: Measured, tolerance: float) -> tuple[list[str], list[str]]:
    """What was asked otherwise than in the baseline, and what was answered otherwise, or by another model.

    Those are no more than noted: other models are never put into one ratio, and answers may differ by chance.
    """
    asked, answered = list[str](), list[str]()
    if one.model and base.model and (one.model, one.revision) != (base.model, base.revision):
        answered.append(f"2 models: {_model(one)} here, {_model(base)} in the baseline")
    if one.unseeded != base.unseeded:
        where = ("here", "in the baseline")[not one.unseeded]
        asked.append(f"1 of 2 clients takes no seed ({where}), so the prompts are others")
    pairs = (
        (asked, "requests", one.requests, base.requests),
        (asked, "prompt tokens a request", one.prompt_tokens, base.prompt_tokens),
        (answered, "output tokens a request", one.output_tokens, base.output_tokens),
    )
    for told, what, mine, theirs in pairs:
        if mine is not None and theirs is not None and abs(mine - theirs) > tolerance * max(mine, theirs):
            told.append(f"{what}: {mine:.4g} here, {theirs:.4g} in the baseline")
    return asked, answered


def _model(one: Measured) -> str:
    return f"{one.model}@{one.revision[:12]}" if one.revision else str(one.model)


# --------------------------------------------------------------------------------------------- all of them together


def _of_series(runs: Sequence[Measured], floor: float) -> Iterator[tuple[str, Flag]]:
    """Outliers of each side, a trend through all sides, and sides that ran one after the other."""
    sides: dict[str, list[Measured]] = defaultdict(list)
    for run in runs:
        sides[run.name].append(run)
    for name, mine in sides.items():
        values = [run.value or 0.0 for run in mine]
        for at, z in stats.outliers(values, floor):
            run = mine[at]
            text = f"{run.metric} of {name}, repeat {run.repeat + 1}: MAD-z {z:.1f}, kept"
            yield run.attempt, Flag("outlier", "notes", text)
    if found := stats.drift([[(run.started, run.value or 0.0) for run in mine] for mine in sides.values()]):
        text = f"{runs[0].metric} changed by {found.change:+.1%} over {found.hours:.1f} h, in all arms alike"
        for run in runs:
            if len(sides[run.name]) > 1:
                yield run.attempt, Flag("drift", "notes", text)
    for mine, theirs in _blocked(sides):
        text = f"all {len(mine)} of {mine[0].name} ran before or after all {len(theirs)} of {theirs[0].name}, so a"
        for run in mine:
            yield run.attempt, Flag("drift", "notes", f"{text} drift looks like a speedup")


def _blocked(sides: dict[str, list[Measured]]) -> Iterator[tuple[list[Measured], list[Measured]]]:
    """Sides with the one that they are compared with, where no run of the one lies between those of the other."""
    for name, mine in sides.items():
        for other in ("baseline", "human"):
            theirs = sides.get(other, [])
            several = name not in {"baseline", other} and min(len(mine), len(theirs)) > 1
            if several and (_before(mine, theirs) or _before(theirs, mine)):
                yield mine, theirs


def _before(first: Sequence[Measured], second: Sequence[Measured]) -> bool:
    return max(run.ended for run in first) <= min(run.started for run in second)
