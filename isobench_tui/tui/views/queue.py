"""The queue as lines: columns as wide as their content, as many as fit; a heading for each task; a filter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rich.text import Text

from isobench_tui.report.text import number, safe, span
from isobench_tui.store.clock import seconds
from isobench_tui.tui.snapshot import Job
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.views.words import BAD, DIM, GOOD, HEAD, WARN, state_word

Cell = tuple[str, str]
"""(text, style)."""


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    most: int
    """Cells that it takes at most."""
    cell: Callable[[Job, float], Cell]
    """Of a job at a time."""
    drop: int
    """Where there is no room for all, the columns with the highest number go first."""
    right: bool = False
    rest: bool = False
    """Takes whatever room is left, from the 12th cell on."""
    of_task: bool = False
    """The heading of a task says it."""


def _duration(job: Job, now: float) -> Cell:
    if job.started_at is None:
        return "", ""
    end = seconds(job.ended_at) if job.ended_at else now
    return span(max(0.0, end - seconds(job.started_at))), "" if job.ended_at else DIM


def _value(job: Job, _: float) -> Cell:
    if job.value is None or job.state != "done":
        return "", ""
    return f"{number(job.value)} {job.unit}", "" if job.valid else DIM


def _speedup(job: Job, _: float) -> Cell:
    if job.speedup is None or job.state != "done":
        return "", ""
    style = GOOD if job.speedup > 1.05 else BAD if job.speedup < 0.95 else ""
    return f"{job.speedup:.3f}x", style


def _notes(job: Job, _: float) -> Cell:
    """Why it failed, waits or was skipped; else the flags of its result, those that spoil it first."""
    if (job.state == "done" and job.outcome != "success") or job.state in {"held", "skipped"}:
        return safe(job.reason), DIM
    order = sorted(job.flags, key=lambda name: name not in job.invalidating)
    return " ".join(order), WARN if job.invalidating else DIM


COLUMNS = (
    Column("commit", 8, lambda job, _: (job.commit[:8], ""), 0),
    Column("side", 24, lambda job, _: (safe(job.side), HEAD if job.arm != "agent" else ""), 0),
    Column("#", 3, lambda job, _: (str(job.repeat), DIM), 0, right=True),
    Column("mode", 14, lambda job, _: (job.mode, DIM), 5, of_task=True),
    Column("state", 24, lambda job, _: state_word(job), 0),
    Column("result", 18, _value, 1, right=True),
    Column("speedup", 9, _speedup, 2, right=True),
    Column("took", 6, _duration, 3, right=True),
    Column("model", 28, lambda job, _: (safe(job.model), DIM), 6, of_task=True),
    Column("flags, reason", 80, _notes, 4, rest=True),
)
_MARGIN = 2
_LEAST_REST = 12


@dataclass(frozen=True)
class QueueLines:
    """The rows of a queue as `Lines`: made when they are seen."""

    jobs: Sequence[Job]
    now: float
    room: int
    """Cells of the list."""
    marked: Collection[str] = frozenset()
    grouped: bool = True
    _entries: list[Job | str] = field(init=False, repr=False)
    """Jobs, and the ids of those before which a heading stands."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_entries", list(_entries(self.jobs, grouped=self.grouped)))

    @cached_property
    def columns(self) -> tuple[tuple[Column, int], ...]:
        """(column, its width): as many as fit, the least telling ones left out."""
        widths = {column.title: self._natural(column) for column in COLUMNS}
        kept = [column for column in COLUMNS if widths[column.title] and not (self.grouped and column.of_task)]
        while _sum(kept, widths) > self.room and any(column.drop for column in kept):
            kept.remove(max(kept, key=lambda column: column.drop))
        left = self.room - _sum(kept, widths)
        return tuple(
            (column, min(column.most, widths[column.title] + (left if column.rest else 0))) for column in kept
        )

    def _natural(self, column: Column) -> int:
        """Cells that the widest of its cells takes; 0 where all are empty."""
        widest = max((len(column.cell(job, self.now)[0]) for job in self._sample), default=0)
        if not widest:
            return 0
        return _LEAST_REST if column.rest else min(column.most, max(widest, len(column.title)))

    @cached_property
    def _sample(self) -> Sequence[Job]:
        """The jobs whose cells decide how wide columns are: of many, an even choice."""
        return self.jobs[:: max(1, len(self.jobs) // 500)]

    @cached_property
    def _several(self) -> bool:
        """The jobs of a campaign stand together."""
        return bool(self.jobs) and self.jobs[0].campaign != self.jobs[-1].campaign

    @cached_property
    def _places(self) -> dict[str, int]:
        return {entry.id: at for at, entry in enumerate(self._entries) if isinstance(entry, Job)}

    @cached_property
    def heading(self) -> Text:
        """The names of the columns, above the list."""
        text = Text(" " * _MARGIN, style=DIM, no_wrap=True)
        for column, width in self.columns:
            text.append(_fit(column.title, width, right=column.right) + " ")
        return text

    @property
    def width(self) -> int:
        return self.room

    def __len__(self) -> int:
        return len(self._entries)

    def key(self, at: int) -> str:
        entry = self._entries[at]
        return entry.id if isinstance(entry, Job) else ""

    def find(self, key: str) -> int | None:
        return self._places.get(key)

    def line(self, at: int) -> Line:
        entry = self._entries[at]
        if isinstance(entry, str):
            below = self._entries[at + 1]
            assert isinstance(below, Job)
            return Line(_task(below, several=self._several))
        marked = entry.id in self.marked
        text = Text("* " if marked else "> " if entry.state == "running" else "  ", no_wrap=True)
        for column, width in self.columns:
            words, style = column.cell(entry, self.now)
            text.append(_fit(words, width, right=column.right), style)
            text.append(" ")
        text.rstrip()
        return Line(text, entry.id, marked)


def _sum(columns: Collection[Column], widths: dict[str, int]) -> int:
    return _MARGIN + sum(widths[column.title] + 1 for column in columns)


def _entries(jobs: Sequence[Job], *, grouped: bool) -> Iterable[Job | str]:
    task: tuple[str, int] | None = None
    for job in jobs:
        if grouped and (job.campaign, job.task) != task:
            task = (job.campaign, job.task)
            yield job.id
        yield job


def _task(job: Job, *, several: bool) -> Text:
    text = Text(no_wrap=True)
    text.append(f"{job.commit[:12]}", f"{HEAD} underline")
    text.append(f" {job.mode}  {safe(job.model)}", DIM)
    if several:
        text.append(f"  {safe(job.campaign)}", DIM)
    return text


def _fit(words: str, width: int, *, right: bool) -> str:
    cut = words if len(words) <= width else words[: width - 1] + "…"
    return cut.rjust(width) if right else cut.ljust(width)


def matches(job: Job, words: str) -> bool:
    """Whether a row has every word of a filter and none of its `!words`; upper and lower case are one."""
    state = state_word(job)[0]
    parts = (
        job.id, job.campaign, job.commit, job.side, job.arm, f"#{job.repeat}", job.mode, job.model,
        job.state, state, job.outcome or "", job.failure, *job.flags,
    )  # fmt: skip
    text = " ".join(parts).lower()
    for word in words.lower().split():
        if word.startswith("!") and len(word) > 1:
            if word[1:] in text:
                return False
        elif word not in text:
            return False
    return True
