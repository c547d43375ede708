"""Arms of one task beside each other. Only what ran the same workload on the same ground is ever put in one ratio.

All attempts come from one campaign, because only its repeats interleave; trials of one attempt were averaged before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from isobench_tui.campaign.models import Arm, Mode
from isobench_tui.results import stats
from isobench_tui.results.isoclass import IsoClass, iso_class, iso_metrics
from isobench_tui.results.metrics import headline
from isobench_tui.results.models import Better, Blame, Flag, Metric, Outcome
from isobench_tui.results.sibling_flags import OF_SERIES

UNFINISHED = frozenset({"queued", "held", "running"})


@dataclass(frozen=True, slots=True)
class Ground:
    """What two attempts must have in common before their numbers are compared."""

    simulated: bool
    fingerprint: str
    """Of the workload."""
    host: str | None
    client: str | None
    """sha256 of the measuring program's files."""
    model: str | None
    """What ran: an override may depend on the image's vLLM."""
    revision: str | None = None

    @property
    def known(self) -> bool:
        return self.host is not None and self.client is not None


@dataclass(frozen=True, slots=True)
class Run:
    """One valid attempt."""

    attempt: str
    repeat: int
    """0-based, as its job has it."""
    ground: Ground
    metrics: Mapping[str, Metric]
    """Means over its counted trials."""
    started: float = 0.0
    """Unix seconds."""
    ended: float = 0.0
    lane: int = 0
    image: str = ""
    """Digest, or the reference where there is none."""
    vllm: str | None = None
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class JobEnd:
    """What became of one job of a side."""

    state: str
    outcome: Outcome | None = None
    valid: bool | None = None
    failure: str = ""
    blame: Blame | None = None
    invalidated: tuple[str, ...] = ()
    """Names of the flags by which a success does not count."""


@dataclass(frozen=True, slots=True)
class Side:
    """An arm of a task; of arm `agent`, one agent."""

    arm: Arm
    agent: str
    jobs: tuple[JobEnd, ...] = ()
    runs: tuple[Run, ...] = ()
    """Every valid attempt, oldest first: a job that was run again has several."""

    @property
    def name(self) -> str:
        return self.agent or self.arm

    @property
    def over(self) -> bool:
        """Something of it was run, and nothing is left to run."""
        done = any(job.state == "done" for job in self.jobs)
        return done and not any(job.state in UNFINISHED for job in self.jobs)

    @property
    def common(self) -> list[Run]:
        """The runs on the ground on which most of them stand."""
        return next(iter(_grounds(self.runs).values()), [])


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a campaign with all its sides."""

    campaign: str
    simulated: bool
    commit: str
    parent: str
    fingerprint: str
    mode: Mode
    model: str
    sides: tuple[Side, ...]
    floor: float = stats.CONFIGURED_FLOOR
    """The campaign's noise floor where none can be measured; 0.02 is 2 %."""

    def side(self, arm: Arm) -> Side | None:
        """The baseline's or the human's side."""
        return next((side for side in self.sides if side.arm == arm), None)


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of one side against that of another."""

    metric: str
    better: Better
    ratio: stats.Ratio
    floor: stats.Floor
    call: stats.Call


@dataclass(frozen=True, slots=True)
class Versus:
    """A side against another one: every metric that both have, or why they must not be compared."""

    refused: str | None = None
    metrics: Mapping[str, Compared] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contest:
    """The human or an agent against the baseline, and an agent against the human."""

    side: Side
    baseline: Versus
    human: Versus | None = None
    """None for the human."""
    iso: IsoClass | None = None
    """ISO-Bench's own word; None for the human."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A task compared."""

    task: Task
    contests: tuple[Contest, ...]
    notes: tuple[str, ...] = ()
    """Flags about the task's runs as a whole: outliers, drift."""


@dataclass(frozen=True, slots=True)
class _Pair:
    ours: tuple[Run, ...] = ()
    theirs: tuple[Run, ...] = ()
    refused: str | None = None


def compare(task: Task, metrics: Collection[str] | None = None) -> Comparison:
    """Every side but the baseline against baseline and human; of `metrics` only, if given."""
    nobody = Side("baseline", ""), Side("human", "")
    baseline, human = task.side("baseline") or nobody[0], task.side("human") or nobody[1]
    contests = []
    for side in task.sides:
        if side.arm == "baseline":
            continue
        against = _versus(side, baseline, baseline, task, metrics)
        if side.arm == "human":
            contests.append(Contest(side, against))
            continue
        pair = _pair(side, human)
        iso = iso_class(
            task.mode,
            [run.metrics for run in pair.ours],
            [run.metrics for run in pair.theirs],
            failed=bool(human.runs) and not side.runs and side.over,
        )
        contests.append(Contest(side, against, _versus(side, human, baseline, task, metrics), iso))
    return Comparison(task, tuple(contests), _findings(task))


def metric_order(mode: Mode, names: Collection[str]) -> list[str]:
    """The metrics that decide first, the rest by name."""
    first = list(dict.fromkeys((headline(mode), *iso_metrics(mode))))
    return [name for name in first if name in names] + sorted(name for name in names if name not in first)


def refusal(ours: Ground, theirs: Ground) -> str | None:
    """Why attempts on these grounds must not be compared; None where they may."""
    if ours.simulated != theirs.simulated:
        return "one is simulated, the other was measured"
    if ours.fingerprint != theirs.fingerprint:
        return f"workloads differ: {ours.fingerprint[:12]} and {theirs.fingerprint[:12]}"
    if ours.host is None or theirs.host is None:
        return "it is not known on which host one of them ran"
    if ours.host != theirs.host:
        return f"hosts differ: {ours.host} and {theirs.host}"
    if ours.client is None or theirs.client is None:
        return "it is not known with what code one of them was measured"
    if ours.client != theirs.client:
        return f"client_modified: measured with different code, sha256 {ours.client[:12]} and {theirs.client[:12]}"
    if (ours.model, ours.revision) != (theirs.model, theirs.revision):
        words = [f"{ground.model}@{ground.revision[:12]}" if ground.revision else ground.model for ground in
                 (ours, theirs)]  # fmt: skip
        return f"models differ: {words[0]} and {words[1]}"
    return None


def _grounds(runs: Sequence[Run]) -> dict[Ground, list[Run]]:
    """The runs by ground; the one with most runs first."""
    found: dict[Ground, list[Run]] = {}
    for run in runs:
        found.setdefault(run.ground, []).append(run)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _pair(ours: Side, theirs: Side) -> _Pair:
    """The runs of both sides that stand on the same ground; of several such grounds the one with most pairs."""
    missing = [_why_none(side) for side in (ours, theirs) if not side.runs]
    if missing:
        return _Pair(refused=f"no valid attempt of {' and '.join(missing)}")
    mine, others = _grounds(ours.runs), _grounds(theirs.runs)
    shared = [ground for ground in mine if ground.known and ground in others]
    if not shared:
        return _Pair(refused=refusal(next(iter(mine)), next(iter(others))))
    best = max(shared, key=lambda ground: min(len(mine[ground]), len(others[ground])))
    return _Pair(tuple(mine[best]), tuple(others[best]))


def _why_none(side: Side) -> str:
    """A side without a valid attempt, with the flags that took its successes away."""
    flags = sorted({name for job in side.jobs for name in job.invalidated})
    return side.name + (f" ({', '.join(flags)})" if flags else "")


def _versus(ours: Side, theirs: Side, baseline: Side, task: Task, metrics: Collection[str] | None) -> Versus:
    pair = _pair(ours, theirs)
    if pair.refused is not None:
        return Versus(pair.refused)
    at_rest = [run for run in baseline.runs if run.ground == pair.ours[0].ground]
    names = {name for run in pair.ours for name in run.metrics}
    if metrics is not None:
        names &= set(metrics)
    compared = {}
    for name in metric_order(task.mode, names):
        if found := _compared(name, pair, at_rest, task.floor):
            compared[name] = found
    return Versus(metrics=compared, notes=_pair_notes(ours, theirs, pair))


def _values(name: str, runs: Sequence[Run]) -> list[float]:
    return [run.metrics[name].value for run in runs if name in run.metrics]


def _compared(name: str, pair: _Pair, baseline: Sequence[Run], configured: float) -> Compared | None:
    """None for what has no better side, is missing on a side, or is 0 (as TPOT is for one-token answers)."""
    better = next(run.metrics[name].better for run in pair.ours if name in run.metrics)
    ours, theirs, at_rest = (_values(name, runs) for runs in (pair.ours, pair.theirs, baseline))
    if better == "none" or not theirs or min(*ours, *theirs) <= 0:
        return None
    ratio = stats.speedup(ours, theirs, better)
    floor = stats.noise_floor([value for value in at_rest if value > 0], configured)
    return Compared(name, better, ratio, floor, stats.call(ratio, floor))


def _pair_notes(ours: Side, theirs: Side, pair: _Pair) -> tuple[str, ...]:
    notes = []
    left = len(ours.runs) + len(theirs.runs) - len(pair.ours) - len(pair.theirs)
    if left:
        notes.append(f"{left} valid attempts stand on other ground (host, client, model) and are left out")
    lanes = [sorted({run.lane for run in runs}) for runs in (pair.ours, pair.theirs)]
    if lanes[0] != lanes[1]:
        told = [", ".join(map(str, used)) for used in lanes]
        notes.append(f"lanes differ: {ours.name} on {told[0]}, {theirs.name} on {told[1]}")
    return tuple(notes)


def _findings(task: Task) -> tuple[str, ...]:
    """Outliers and drift, each told once."""
    flags = [flag for side in task.sides for run in side.runs for flag in run.flags if flag.name in OF_SERIES]
    return tuple(dict.fromkeys(f"{flag.name}: {flag.text}" for flag in flags))
