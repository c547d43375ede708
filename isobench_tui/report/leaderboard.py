"""Who is fastest at a workload, by what may be said for sure; and what has no number, with the reason."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from isobench_tui.campaign.models import Arm, Mode
from isobench_tui.report.table import ResultRow, result_rows
from isobench_tui.report.tasks import DECIDING, tasks
from isobench_tui.results import stats
from isobench_tui.results.compare import UNFINISHED, Compared, Comparison, Contest, Side, compare
from isobench_tui.results.metrics import describe, headline
from isobench_tui.results.models import Better
from isobench_tui.results.standings import Standing, standings
from isobench_tui.store.attempts import GONE

Key = Literal["rank", "speedup", "human", "value", "n", "commit", "side"]
KEYS: Final[tuple[Key, ...]] = get_args(Key)
"""What a board can be sorted by."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of one task: the baseline, the human, or an agent, as far as its numbers are valid."""

    rank: int | None
    """By the lower end of the interval of the speedup; None for the baseline and for what has no interval."""
    commit: str
    arm: Arm
    agent: str
    job: str
    """Id of its first job."""
    jobs: int
    valid_jobs: int
    n: int
    """Valid attempts behind `value`."""
    value: float | None
    """Mean of the metric that stands for the result."""
    base: Compared | None = None
    """That metric against the task's baseline; None for the baseline, and where it must not be compared."""
    human: Compared | None = None
    """The same of an agent against the human."""
    refused: str | None = None
    """Why its number is not compared with the baseline's."""
    flags: tuple[str, ...] = ()
    """Names of what was noted about its valid attempts."""

    @property
    def name(self) -> str:
        return self.agent or self.arm

    @property
    def speedup(self) -> stats.Ratio | None:
        """Over the baseline."""
        return self.base.ratio if self.base else None


@dataclass(frozen=True, slots=True)
class Apart:
    """Jobs of one side that ended without a valid result, all for the same reason."""

    commit: str
    arm: Arm
    agent: str
    word: str
    """`invalid`, `skipped`, or the failure class."""
    blame: str
    """Empty where nobody is blamed: an invalid success, a skip."""
    reason: str
    repeats: tuple[int, ...]
    """1-based."""
    job: str
    """Id of the first of them."""

    @property
    def name(self) -> str:
        return self.agent or self.arm


@dataclass(frozen=True, slots=True)
class Group:
    """One workload of one campaign: only repeats of one campaign interleave."""

    campaign: str
    simulated: bool
    fingerprint: str
    mode: Mode
    model: str
    metric: str
    unit: str
    better: Better
    entries: tuple[Entry, ...]
    """Ranked ones first, then those without an interval, then baselines."""
    apart: tuple[Apart, ...]
    waiting: int
    """Jobs that are not over."""

    @property
    def span(self) -> tuple[float, float] | None:
        """The smallest and the largest speedup that an interval reaches; None without any speedup."""
        ends = [end for one in self.entries if one.speedup for end in (one.speedup.low, one.speedup.high) if end]
        ends += [one.speedup.value for one in self.entries if one.speedup]
        return (min(ends), max(ends)) if ends else None


@dataclass(frozen=True, slots=True)
class Board:
    """All workloads of a workspace or campaign in the order of the queue, and the agents over all their tasks."""

    groups: tuple[Group, ...] = ()
    agents: tuple[Standing, ...] = ()


def read(connection: sqlite3.Connection, campaign: str | None = None) -> Board:
    """The board of one campaign, or of all, as the store has it now."""
    rows = result_rows(connection, campaign)
    found = tasks(connection, rows, campaign=campaign)
    return board(rows, [compare(task, DECIDING) for task in found])


def board(rows: Iterable[ResultRow], comparisons: Sequence[Comparison]) -> Board:
    """`rows` are the jobs that `comparisons` were made of; those of other tasks are left out."""
    of: dict[tuple[str, str, str], list[ResultRow]] = {}
    for row in rows:
        if not (row.state == "skipped" and row.waits == GONE):
            of.setdefault((row.campaign, row.commit, row.fingerprint), []).append(row)
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for one in comparisons:
        groups.setdefault((one.task.campaign, one.task.fingerprint), []).append(one)
    return Board(tuple(_group(found, of) for found in groups.values()), tuple(standings(comparisons)))


def ordered(group: Group, key: Key = "rank", *, reverse: bool = False) -> list[Entry]:
    """The entries by a key, best or first on top; those that lack it stand last, whichever way round."""
    found = [(_place(one, key, group.better), one) for one in group.entries]
    have = sorted(((place, one) for place, one in found if place), key=lambda item: item[0], reverse=reverse)
    return [*(one for _, one in have), *(one for place, one in found if not place)]


def _place(one: Entry, key: Key, better: Better) -> tuple[float | str, ...]:
    """Where an entry stands by a key, the smallest first; empty where it lacks the key."""
    match key:
        case "rank":
            return () if one.rank is None else (one.rank,)
        case "speedup":
            return () if one.speedup is None else (-one.speedup.log,)
        case "human":
            return () if one.human is None else (-one.human.ratio.log,)
        case "value":
            return () if one.value is None else (one.value if better == "lower" else -one.value,)
        case "n":
            return (-one.n,)
        case "commit":
            return (one.commit, one.arm, one.agent)
        case "side":
            return (one.name, one.commit)


def _group(comparisons: Sequence[Comparison], of: dict[tuple[str, str, str], list[ResultRow]]) -> Group:
    first = comparisons[0].task
    name = headline(first.mode)
    unit, better = describe(name) or ("", "none")
    entries: list[Entry] = []
    apart: list[Apart] = []
    waiting = 0
    for one in comparisons:
        contests = {(contest.side.arm, contest.side.agent): contest for contest in one.contests}
        sides: dict[tuple[str, str], list[ResultRow]] = {}
        for row in of.get((one.task.campaign, one.task.commit, one.task.fingerprint), ()):
            sides.setdefault((row.arm, row.agent), []).append(row)
        for side in one.task.sides:
            rows = sides.get((side.arm, side.agent), [])
            waiting += sum(row.state in UNFINISHED for row in rows)
            apart += _apart(rows)
            if rows and side.runs:
                entries.append(_entry(one.task.commit, side, contests.get((side.arm, side.agent)), rows, name))
    return Group(
        campaign=first.campaign,
        simulated=first.simulated,
        fingerprint=first.fingerprint,
        mode=first.mode,
        model=first.model,
        metric=name,
        unit=unit,
        better=better,
        entries=_ranked(entries),
        apart=tuple(apart),
        waiting=waiting,
    )


def _ranked(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    def worth(one: Entry) -> tuple[bool, float, float]:
        if one.speedup is None:
            return one.arm == "baseline", math.inf, math.inf
        low = one.speedup.low
        return False, math.inf if low is None else -low, -one.speedup.value

    out = []
    for rank, one in enumerate(sorted(entries, key=worth), 1):
        has_one = one.speedup is not None and one.speedup.half is not None
        out.append(replace(one, rank=rank) if has_one else one)
    return tuple(out)


def _entry(commit: str, side: Side, contest: Contest | None, rows: Sequence[ResultRow], metric: str) -> Entry:
    """`contest` is None for the baseline."""
    values = [run.metrics[metric].value for run in side.common if metric in run.metrics]
    return Entry(
        rank=None,
        commit=commit,
        arm=side.arm,
        agent=side.agent,
        job=rows[0].job,
        jobs=len(rows),
        valid_jobs=sum(bool(row.valid) for row in rows),
        n=len(values),
        value=sum(values) / len(values) if values else None,
        base=contest.baseline.metrics.get(metric) if contest else None,
        human=contest.human.metrics.get(metric) if contest and contest.human else None,
        refused=contest.baseline.refused if contest else None,
        flags=tuple(sorted({flag.name for run in side.runs for flag in run.flags})),
    )


def _apart(rows: Iterable[ResultRow]) -> list[Apart]:
    found: dict[tuple[str, str, str], list[ResultRow]] = {}
    for row in rows:
        if row.state in UNFINISHED or row.valid:
            continue
        found.setdefault(_reason(row), []).append(row)
    return [
        Apart(
            commit=mine[0].commit,
            arm=mine[0].arm,
            agent=mine[0].agent,
            word=word,
            blame=blame,
            reason=reason,
            repeats=tuple(sorted(row.repeat + 1 for row in mine)),
            job=mine[0].job,
        )
        for (word, blame, reason), mine in found.items()
    ]


def _reason(row: ResultRow) -> tuple[str, str, str]:
    """Word, blame, reason of a job that is over without a valid result."""
    if row.state == "skipped":
        return "skipped", "", row.waits
    if row.outcome == "success":
        return "invalid", "", "; ".join(f"{f.name}: {f.text}" for f in row.flags if f.effect == "invalidates")
    if row.diagnosis is None:
        return row.outcome or "unknown", "undetermined", ""
    return row.diagnosis.failure, row.diagnosis.blame, row.diagnosis.reason
