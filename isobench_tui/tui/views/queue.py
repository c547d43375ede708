"""The queue as lines: columns by what there is room for, a heading for each task, a filter in words."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from rich.text import Text

from isobench_tui.report.text import number, safe, span
from isobench_tui.store.clock import seconds
from isobench_tui.tui.snapshot import Job
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.views.words import BAD, DIM, GOOD, HEAD, WARN, state_word


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    width: int
    cell: Callable[[Job, float], tuple[str, str]]
    """(text, style) of a job at a time."""
    right: bool = False
    from_width: int = 0
    """Shown in lists at least this wide."""


def _duration(job: Job, now: float) -> tuple[str, str]:
    if job.started_at is None:
        return "", ""
    end = seconds(job.ended_at) if job.ended_at else now
    return span(max(0.0, end - seconds(job.started_at))), "" if job.ended_at else DIM


def _value(job: Job, _: float) -> tuple[str, str]:
    if job.value is None or job.state != "done":
        return "", ""
    return f"{number(job.value)} {job.unit}", "" if job.valid else DIM


def _speedup(job: Job, _: float) -> tuple[str, str]:
    if job.speedup is None or job.state != "done":
        return "", ""
    style = GOOD if job.speedup > 1.05 else BAD if job.speedup < 0.95 else ""
    return f"{job.speedup:.3f}x", style


def _flags(job: Job, _: float) -> tuple[str, str]:
    if job.state == "done" and job.outcome != "success":
        return safe(job.reason), DIM
    if job.state in {"held", "skipped"}:
        return safe(job.reason), DIM
    order = sorted(job.flags, key=lambda name: name not in job.invalidating)
    return " ".join(order), WARN if job.invalidating else DIM


COLUMNS = (
    Column("commit", 8, lambda job, _: (job.commit[:8], "")),
    Column("side", 18, lambda job, _: (safe(job.side), HEAD if job.arm != "agent" else "")),
    Column("#", 2, lambda job, _: (str(job.repeat), DIM), right=True),
    Column("mode", 10, lambda job, _: (job.mode, DIM), from_width=96),
    Column("state", 16, lambda job, _: state_word(job)),
    Column("result", 16, _value, right=True),
    Column("speedup", 8, _speedup, right=True),
    Column("took", 6, _duration, right=True),
    Column("model", 22, lambda job, _: (safe(job.model), DIM), from_width=130),
    Column("flags, reason", 60, _flags, from_width=82),
)


def columns(width: int) -> tuple[Column, ...]:
    """Those for which a list of this width has room."""
    return tuple(column for column in COLUMNS if width >= column.from_width)


def heading(width: int) -> Text:
    """The names of the columns, above the list."""
    text = Text("  ", style=DIM, no_wrap=True)
    for column in columns(width):
        text.append(_cell(column.title, column) + " ")
    return text


def lines(
    jobs: Collection[Job], now: float, width: int, *, marked: Collection[str] = (), grouped: bool = True
) -> tuple[Line, ...]:
    """One line a job; with `grouped`, a heading where another task begins."""
    found: list[Line] = []
    task: tuple[str, int] | None = None
    several = len({job.campaign for job in jobs}) > 1
    shown = columns(width)
    for job in jobs:
        if grouped and (job.campaign, job.task) != task:
            task = (job.campaign, job.task)
            found.append(Line(_task(job, several=several)))
        found.append(Line(_row(job, now, shown, marked=job.id in marked), job.id, job.id in marked))
    return tuple(found)


def _task(job: Job, *, several: bool) -> Text:
    text = Text(no_wrap=True)
    text.append(f"{job.commit[:12]}", f"{HEAD} underline")
    text.append(f" {job.mode}  {safe(job.model)}", DIM)
    if several:
        text.append(f"  {safe(job.campaign)}", DIM)
    return text


def _row(job: Job, now: float, shown: tuple[Column, ...], *, marked: bool) -> Text:
    text = Text("* " if marked else "> " if job.state == "running" else "  ", no_wrap=True)
    for column in shown:
        words, style = column.cell(job, now)
        text.append(_cell(words, column), style)
        text.append(" ")
    text.rstrip()
    return text


def _cell(words: str, column: Column) -> str:
    cut = words if len(words) <= column.width else words[: column.width - 1] + "…"
    return cut.rjust(column.width) if column.right else cut.ljust(column.width)


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
