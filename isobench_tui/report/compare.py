"""Tasks compared, as plain text for a terminal of 80 columns and as objects for programs."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from isobench_tui.report import words
from isobench_tui.results import stats
from isobench_tui.results.compare import Compared, Comparison, Contest, Run, Side, Task, Versus, metric_order
from isobench_tui.results.models import Metric
from isobench_tui.results.sibling_flags import OF_SERIES
from isobench_tui.results.text import clean, clip

WIDTH: Final = 80
_LABEL, _CELL, _COLUMNS = 11, 23, 3
_DIRECTION: Final = {"higher": "higher is better", "lower": "lower is better", "none": ""}


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing about the ground that a task ran on."""

    label: str
    had: tuple[tuple[str, tuple[str, ...]], ...]
    """Each value with the names of the sides that had it; a side with several values has them joined by `and`."""

    @property
    def differs(self) -> bool:
        return len(self.had) > 1


def to_text(comparisons: Sequence[Comparison]) -> str:
    """Lines of at most 80 characters, ending with a newline."""
    lines: list[str] = []
    for comparison in comparisons:
        lines += [*_head(comparison.task), "", *_sides(comparison.task), "", *_environment(comparison.task)]
        for name in shown_metrics(comparison.task):
            lines += ["", *_block(comparison, name)]
        if told := [line for note in notes(comparison) for line in _wrap(note)]:
            lines += ["", *told]
        lines.append("")
    return "\n".join(clean(line.replace("\t", " ")).rstrip() for line in lines[:-1]) + "\n"


def to_json(comparisons: Iterable[Comparison]) -> list[dict[str, Any]]:
    """One object a task."""
    return [
        {
            "campaign": one.task.campaign,
            "simulated": one.task.simulated,
            "commit": one.task.commit,
            "parent": one.task.parent,
            "mode": one.task.mode,
            "model": _one_line(one.task.model),
            "fingerprint": one.task.fingerprint,
            "sides": [_side_json(side, one.task) for side in one.task.sides],
            "contests": [_contest_json(contest) for contest in one.contests],
            "notes": [_one_line(note) for note in one.notes],
        }
        for one in comparisons
    ]


# ------------------------------------------------------------------------------------------------------------- JSON


def _side_json(side: Side, task: Task) -> dict[str, Any]:
    runs = side.common
    return {
        "arm": side.arm,
        "agent": side.agent,
        "jobs": len(side.jobs),
        "valid_jobs": sum(bool(job.valid) for job in side.jobs),
        "failures": dict(failures(side)),
        "attempts": [run.attempt for run in side.runs],
        "hosts": _seen(side, lambda run: run.ground.host),
        "lanes": sorted({run.lane for run in side.runs}),
        "images": _seen(side, lambda run: run.image),
        "vllm_versions": _seen(side, lambda run: run.vllm),
        "models": _seen(side, _model),
        "client_sha256": _seen(side, lambda run: run.ground.client),
        "flags": [
            {"repeat": run.repeat + 1, "name": flag.name, "text": _one_line(flag.text)}
            for run in side.runs
            for flag in run.flags
        ],
        "metrics": {
            name: {"values": [run.metrics[name].value for run in runs if name in run.metrics], "unit": item.unit}
            for name in shown_metrics(task)
            if (item := _item(side, name))
        },
    }


def _contest_json(contest: Contest) -> dict[str, Any]:
    iso = contest.iso
    return {
        "arm": contest.side.arm,
        "agent": contest.side.agent,
        "baseline": _versus_json(contest.baseline),
        "human": _versus_json(contest.human) if contest.human else None,
        "iso_bench": {
            "class": iso.word,
            "metric": iso.metric,
            "percent": iso.percent,
            "flip_risk": iso.flip_risk,
        }
        if iso
        else None,
    }


def _versus_json(versus: Versus) -> dict[str, Any]:
    return {
        "not_compared": _one_line(versus.refused) if versus.refused else None,
        "notes": [_one_line(note) for note in versus.notes],
        "metrics": {name: compared_json(found) for name, found in versus.metrics.items()},
    }


def compared_json(found: Compared) -> dict[str, Any]:
    """One metric of a side against another's."""
    return {
        "better": found.better,
        "speedup": found.ratio.value,
        "ci_low": found.ratio.low,
        "ci_high": found.ratio.high,
        "n": found.ratio.ours,
        "n_reference": found.ratio.theirs,
        "noise_floor": found.floor.fraction,
        "noise_floor_assumed": found.floor.assumed,
        "verdict": found.call.word,
        "more_repeats": found.call.more,
    }


# ------------------------------------------------------------------------------------------------------------- text


def _head(task: Task) -> list[str]:
    model = clip(_one_line(task.model), WIDTH - 20 - len(task.mode))
    source = ", SIMULATED: no measurement of vLLM" if task.simulated else ""
    return [
        f"{task.commit[:12]}  {task.mode}  {model}",
        f"campaign {task.campaign}{source}",
        f"workload {task.fingerprint[:12]}, parent {task.parent[:12]}",
    ]


def _sides(task: Task) -> Iterator[str]:
    """How many jobs of each side are valid, and what became of the others."""
    wide = min(40, max(len(side.name) for side in task.sides))
    for side in task.sides:
        valid = sum(bool(job.valid) for job in side.jobs)
        rest = ", ".join(f"{count} {what}" for what, count in failures(side).items())
        line = f"{clip(side.name, wide):<{wide}}  {valid} of {len(side.jobs)} valid" + (f"; {rest}" if rest else "")
        yield from _wrap(line, " " * (wide + 2))


def failures(side: Side) -> Counter[str]:
    """What the jobs without a valid success came to, in words."""
    found: Counter[str] = Counter()
    for job in side.jobs:
        if job.state != "done":
            found[job.state] += 1
        elif job.outcome != "success":
            found[f"{job.failure or job.outcome} ({job.blame or 'undetermined'})"] += 1
        elif not job.valid:
            found["invalid"] += 1
    return found


def _seen(side: Side, what: Callable[[Run], str | None]) -> list[str]:
    return sorted({_one_line(text) for run in side.runs if (text := what(run))})


def _model(run: Run) -> str | None:
    ground = run.ground
    return f"{ground.model}@{ground.revision[:12]}" if ground.model and ground.revision else ground.model


def environment(task: Task) -> tuple[Fact, ...]:
    """Host, image, vLLM, model and measuring program of what ran, and which sides had which."""
    rows: tuple[tuple[str, Callable[[Run], str | None]], ...] = (
        ("host", lambda run: run.ground.host),
        ("image", lambda run: run.image[:19] if run.image.startswith("sha256:") else run.image),
        ("vLLM", lambda run: run.vllm),
        ("model", _model),
        ("client", lambda run: run.ground.client and run.ground.client[:12]),
    )
    ran = [side for side in task.sides if side.runs]
    facts = []
    for label, what in rows:
        had: dict[str, list[str]] = {}
        for side in ran:
            had.setdefault(" and ".join(_seen(side, what)) or "unknown", []).append(side.name)
        facts.append(Fact(label, tuple((value, tuple(names)) for value, names in had.items())))
    return tuple(facts)


def _environment(task: Task) -> Iterator[str]:
    """Once where all sides agree, else who had which."""
    for fact in environment(task):
        for at, (value, names) in enumerate(fact.had):
            told = f"{value} ({', '.join(names)})" if fact.differs else value
            yield from _wrap(f"{fact.label if at == 0 else '':<7} {told}", " " * 8)


def shown_metrics(task: Task) -> list[str]:
    """Every metric with a better side that any attempt has, those that decide first."""
    names = {
        name
        for side in task.sides
        for run in side.runs
        for name, item in run.metrics.items()
        if item.better != "none"
    }
    return metric_order(task.mode, names)


def _item(side: Side, name: str) -> Metric | None:
    return next((run.metrics[name] for run in side.common if name in run.metrics), None)


def _block(comparison: Comparison, name: str) -> Iterator[str]:
    """One metric: the sides beside each other, three in a row."""
    task = comparison.task
    item = next(found for side in task.sides if (found := _item(side, name)))
    contests = {(contest.side.arm, contest.side.agent): contest for contest in comparison.contests}
    floors = [shown.floor for contest in comparison.contests if (shown := contest.baseline.metrics.get(name))]
    yield f"{name}, {item.unit}, {_DIRECTION[item.better]}"
    for start in range(0, len(task.sides), _COLUMNS):
        sides = task.sides[start : start + _COLUMNS]
        mine = [contests.get((side.arm, side.agent)) for side in sides]
        base = [contest.baseline.metrics.get(name) if contest else None for contest in mine]
        human = [contest.human.metrics.get(name) if contest and contest.human else None for contest in mine]
        yield _row("", [side.name for side in sides])
        yield _row("", [_value(side, name) for side in sides])
        yield from _compared("speedup", base)
        yield from _compared("over human", human)
    if floors:
        yield f"{'floor':<{_LABEL}}{words.floor(floors[0])}"


def _row(label: str, cells: Sequence[str]) -> str:
    return f"{label:<{_LABEL}}" + "".join(f"{clip(cell, _CELL - 1):<{_CELL}}" for cell in cells)


def _compared(label: str, found: Sequence[Compared | None]) -> Iterator[str]:
    if any(found):
        yield _row(label, [short_ratio(one.ratio) if one else "" for one in found])
        yield _row("", [short_verdict(one.call) if one else "" for one in found])


def _value(side: Side, name: str) -> str:
    """`2,413.73 n=3`."""
    values = [run.metrics[name].value for run in side.common if name in run.metrics]
    return f"{words.number(sum(values) / len(values))} n={len(values)}" if values else "-"


def short_ratio(ratio: stats.Ratio) -> str:
    """`1.036 [1.011, 1.062]`; how many values made it stands above."""
    if ratio.half is None:
        return words.speedup(ratio)
    return f"{words.times(ratio.value)} {words.interval(ratio.low, ratio.high)}"


def short_verdict(call: stats.Call) -> str:
    """`win`, or short for how many more repeats would tell."""
    if call.more is None:
        return call.word
    return f"{call.word}, {call.more}{'+' if call.more >= stats.MOST_REPEATS else ''} more"


def notes(comparison: Comparison) -> Iterator[str]:
    """What was not compared and why, ISO-Bench's word, and everything that touches validity; a sentence each."""
    for contest in comparison.contests:
        for arm, versus in (("baseline", contest.baseline), ("human", contest.human)):
            if versus is None:
                continue
            if versus.refused is not None:
                yield f"{contest.side.name} is not compared with {arm}: {versus.refused}"
            yield from versus.notes
        if contest.iso is not None:
            yield f"ISO-Bench's class of {contest.side.name}: {words.iso(contest.iso)}"
    yield from comparison.notes
    for side in comparison.task.sides:
        flags: dict[str, tuple[str, list[int]]] = {}
        for run in side.runs:
            for flag in run.flags:
                if flag.name in OF_SERIES:
                    continue  # among the comparison's notes
                flags.setdefault(flag.name, (flag.text, []))[1].append(run.repeat + 1)
        for name, (text, repeats) in flags.items():
            which = ", ".join(map(str, sorted(set(repeats))))
            yield f"{name}: {side.name}, repeat {which}: {text}"


def _one_line(text: str) -> str:
    return clean(" ".join(text.split()))


def _wrap(text: str, indent: str = "  ") -> list[str]:
    """Lines of a text, all but the first indented."""
    plain = clean("".join(" " if char.isspace() else char for char in text))
    return textwrap.wrap(plain, WIDTH, subsequent_indent=indent)
