"""One task as lines: its sides beside each other, their trials, what differed around them, and the patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from isobench_tui.report import bars, words
from isobench_tui.report.compare import environment, failures, notes, short_ratio, short_verdict, shown_metrics
from isobench_tui.report.leaderboard_text import SIMULATED
from isobench_tui.report.taskview import Patch, TaskView
from isobench_tui.results.compare import Compared, Comparison, Side, Task
from isobench_tui.results.metrics import describe, headline
from isobench_tui.results.text import clean
from isobench_tui.tui.views.cells import fit, plain, wrap
from isobench_tui.tui.views.leaderboard import VERDICT
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.views.words import BAD, DIM, GOOD, HEAD, LIVE, WARN

_LABEL, _LEAST_CELL, _MOST_CELL = 20, 22, 56
_BOTH = 42
"""Cells of `1.036 [1.011, 1.062] inconclusive, 12 more`."""
_MOST_METRICS = 40
_BETTER = {"higher": "↑", "lower": "↓", "none": " "}


def lines(view: TaskView, width: int) -> tuple[Line, ...]:
    """The whole pane; a patch's first line has the key `patch/AGENT`."""
    task = view.comparison.task
    found = [*_head(task), Text(), *_sides(task), Text(), *_table(view.comparison, width)]
    found += [Text(), *_trials(view, width), Text(), *_environment(task, width)]
    if told := [Text(line) for note in notes(view.comparison) for line in _indented(note, width)]:
        found += [Text(), Text("notes", HEAD), *told]
    out = [Line(text) for text in found]
    for patch in view.patches:
        out += [Line(Text()), *_patch(patch)]
    return tuple(out)


def _head(task: Task) -> Iterator[Text]:
    text = Text(f"{task.commit[:12]}  {task.mode} of {plain(task.model)}", HEAD, no_wrap=True)
    if task.simulated:
        text.append(f"  {SIMULATED}", WARN)
    yield text
    about = f"campaign {plain(task.campaign)}, parent {task.parent[:12]}, workload {task.fingerprint[:12]}"
    yield Text(about, DIM, no_wrap=True)


def _sides(task: Task) -> Iterator[Text]:
    wide = max(len(plain(side.name)) for side in task.sides)
    for side in task.sides:
        valid = sum(bool(job.valid) for job in side.jobs)
        text = Text(f"{fit(plain(side.name), wide)}  ", no_wrap=True)
        text.append(f"{valid} of {len(side.jobs)} valid", GOOD if valid == len(side.jobs) else "")
        rest = ", ".join(f"{count} {plain(what)}" for what, count in failures(side).items())
        if rest:
            text.append(f"; {rest}", WARN)
        yield text


def _table(comparison: Comparison, width: int) -> Iterator[Text]:
    """A metric a row, a side a column; where columns are narrow, speedup and verdict stand below the value."""
    task = comparison.task
    metrics = shown_metrics(task)[:_MOST_METRICS]
    if not metrics:
        yield Text("no valid attempt yet", DIM)
        return
    cell = min(_MOST_CELL, max(_LEAST_CELL, (width - _LABEL) // len(task.sides)))
    contests = {(one.side.arm, one.side.agent): one for one in comparison.contests}
    mine = [contests.get((side.arm, side.agent)) for side in task.sides]
    yield Text(fit("", _LABEL) + "".join(fit(plain(side.name), cell) for side in task.sides), HEAD, no_wrap=True)
    for name in metrics:
        base = [one.baseline.metrics.get(name) if one else None for one in mine]
        human = [one.human.metrics.get(name) if one and one.human else None for one in mine]
        unit, better = describe(name) or ("", "none")
        row = Text(fit(name, _LABEL - 1) + " ", HEAD if name == headline(task.mode) else "", no_wrap=True)
        for side in task.sides:
            value = _value(side, name)
            _put(row, value, cell, DIM if value == "-" else "")
        yield row
        yield from _speedups(f"  {unit} {_BETTER[better]}", base, cell)
        yield from _speedups("  over human", human, cell)
    floors = [one.baseline.metrics[metrics[0]].floor for one in mine if one and metrics[0] in one.baseline.metrics]
    if floors:
        yield Text(f"noise floor {words.floor(floors[0])}", DIM)


def _speedups(label: str, found: Sequence[Compared | None], cell: int) -> Iterator[Text]:
    """Speedup, interval and verdict of every side: in one line where both fit into a column."""
    if not any(found):
        return
    together = cell >= _BOTH
    row, below = Text(fit(label, _LABEL), DIM, no_wrap=True), Text(fit("", _LABEL), no_wrap=True)
    for one in found:
        style = VERDICT[one.call.word] if one else ""
        said, word = (short_ratio(one.ratio), short_verdict(one.call)) if one else ("", "")
        _put(row, f"{said} {word}" if together else said, cell, style)
        _put(below, word, cell, style)
    yield row
    if not together:
        yield below


def _value(side: Side, name: str) -> str:
    values = [run.metrics[name].value for run in side.common if name in run.metrics]
    return f"{words.number(sum(values) / len(values))} n={len(values)}" if values else "-"


def _put(row: Text, said: str, width: int, style: str) -> None:
    row.append(fit(said, width - 1) + " ", style)


def _trials(view: TaskView, width: int) -> Iterator[Text]:
    """Every trial of every side as a dot on one scale, with the least and the largest value."""
    task = view.comparison.task
    every = [point.value for points in view.points.values() for point in points]
    if not every:
        return
    name = headline(task.mode)
    unit, better = describe(name) or ("", "none")
    room = max(20, min(width - _LABEL - 2, 100))
    scale = min(every), max(every)
    yield Text(f"trials: {name}, {unit}, {better} is better", HEAD)
    ends = words.number(scale[0])
    yield Text(fit("", _LABEL) + ends + fit(words.number(scale[1]), room - len(ends), right=True), DIM, no_wrap=True)
    for side in task.sides:
        values = [point.value for point in view.points.get((side.arm, side.agent), ())]
        row = Text(fit(plain(side.name), _LABEL - 1) + " ", no_wrap=True)
        row.append(bars.dots(values, scale, room), LIVE)
        row.append(f" {len(values)}", DIM)
        yield row


def _environment(task: Task, width: int) -> Iterator[Text]:
    found = environment(task)
    if not any(fact.had for fact in found):
        return
    yield Text("ran on", HEAD)
    for fact in found:
        for at, (value, names) in enumerate(fact.had):
            label = fact.label if at == 0 else ""
            told = f"{value} ({', '.join(names)})" if fact.differs else value
            for line, part in enumerate(wrap(told, width - 10)):
                shown = label if line == 0 else ""
                yield Text(f"  {fit(shown, 7)} {part}", WARN if fact.differs else "", no_wrap=True)


def _indented(note: str, width: int) -> Iterator[str]:
    for at, line in enumerate(wrap(note, width - 4)):
        yield f"  {line}" if at == 0 else f"    {line}"


def _patch(patch: Patch) -> Iterator[Line]:
    head = Text(f"patch of {plain(patch.agent)}", HEAD, no_wrap=True)
    head.append(f", {patch.size} bytes" + (", only its beginning is shown" if patch.cut else ""), DIM)
    yield Line(head, f"patch/{patch.agent}")
    for line in patch.lines:
        yield Line(Text(clean(line).expandtabs(4), _colour(line), no_wrap=True))


def _colour(line: str) -> str:
    """As diffs are coloured; the sign in front says the same."""
    if line.startswith(("+++", "---", "diff ", "index ", "new file", "deleted file", "rename ", "similarity ")):
        return HEAD
    if line.startswith("@@"):
        return LIVE
    return GOOD if line.startswith("+") else BAD if line.startswith("-") else ""
