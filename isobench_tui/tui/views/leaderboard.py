"""The leaderboard as lines: agents, then each workload with its sides, intervals as bars, and what stands apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.text import Text

from isobench_tui.report import bars, words
from isobench_tui.report.compare import short_ratio
from isobench_tui.report.leaderboard import Apart, Board, Entry, Group, Key, ordered
from isobench_tui.report.leaderboard_text import apart_text, rate, title, verdicts
from isobench_tui.results.standings import Standing
from isobench_tui.tui.views.cells import fit, plain, wrap
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.views.words import BAD, DIM, GOOD, HEAD, WARN

VERDICT = {"win": GOOD, "loss": BAD, "tie": "", "inconclusive": WARN}
_SIDE_WIDTHS = (12, 24)
_LEAST_BAR, _MOST_BAR = 12, 48
_HUMAN = 21
_FIXED = 61
"""Cells of all columns but side, bar and human, with the spaces between them."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """How many cells the columns have that depend on the room."""

    side: int
    bar: int
    human: int


def lines(board: Board, width: int, key: Key = "rank", *, reverse: bool = False) -> tuple[Line, ...]:
    """A line a side; its key is `side/JOB`, that of jobs without a valid result `apart/JOB`."""
    if not board.groups:
        return (Line(Text("no results yet", DIM)),)
    shape = _shape(width)
    found: list[Line] = []
    if board.agents:
        found += [Line(Text("agents over all their tasks", HEAD)), *map(Line, _agents(board.agents, width)), _EMPTY]
    for group in board.groups:
        found += [*_group(group, shape, width, key, reverse=reverse), _EMPTY]
    return tuple(found[:-1])


def job_of(key: str) -> tuple[str, bool]:
    """(job, whether it stands apart) of a line's key."""
    kind, _, job = key.partition("/")
    return job, kind == "apart"


_EMPTY = Line(Text())


def _shape(width: int) -> _Shape:
    rest = width - _FIXED
    human = _HUMAN if width >= 150 else 0
    side = max(_SIDE_WIDTHS[0], min(_SIDE_WIDTHS[1], rest if rest < 32 else 20))
    bar = rest - side - human - 2
    return _Shape(side, min(_MOST_BAR, bar) if bar >= _LEAST_BAR else 0, human)


def _agents(agents: tuple[Standing, ...], width: int) -> Iterator[Text]:
    for one in agents:
        text = Text(f"{plain(one.agent)}  ", no_wrap=True)
        text.append(f"succeeded {rate(one)}", "")
        if one.simulated:
            text.append("  SIMULATED", WARN)
        yield text
        mean = words.mean(one.baseline)
        parts = [f"over baseline {mean}" if mean else "", verdicts(one) if one.words else ""]
        human = words.mean(one.human)
        parts += [f"over human {human}" if human else ""]
        if one.fates["agent_fault"]:
            parts.append(f"{one.fates['agent_fault']} failed by its fault")
        if one.fates["other"]:
            parts.append(f"{one.fates['other']} failed by others'")
        if one.fates["unfinished"]:
            parts.append(f"{one.fates['unfinished']} unfinished")
        for line in wrap("; ".join(part for part in parts if part), width - 2):
            yield Text(f"  {line}", DIM, no_wrap=True)


def _group(group: Group, shape: _Shape, width: int, key: Key, *, reverse: bool) -> Iterator[Line]:
    for line in wrap(title(group), width):
        yield Line(Text(line, HEAD, no_wrap=True))
    under = Text("SIMULATED  " if group.simulated else "", WARN, no_wrap=True)
    under.append(f"campaign {plain(group.campaign)}, workload {group.fingerprint[:12]}", DIM)
    if key != "rank" or reverse:
        under.append(f"  by {key}{', reversed' if reverse else ''}")
    yield Line(under)
    scale = _scale(group)
    if group.entries:
        yield Line(_heading(group, shape, scale))
    for one in ordered(group, key, reverse=reverse):
        yield Line(_entry(one, shape, scale), f"side/{one.job}")
    for apart in group.apart:
        yield from _apart(apart, width)
    if group.waiting:
        yield Line(Text(f"    {group.waiting} job{'s are' if group.waiting > 1 else ' is'} not over", DIM))


def _scale(group: Group) -> tuple[float, float] | None:
    """Of the bars: holds every speedup; of an interval no more than twice of them, an arrow stands for the rest."""
    values = [one.speedup.value for one in group.entries if one.speedup]
    if not values or group.span is None:
        return None
    low, high = group.span
    return bars.scale_of([max(low, min(values) / 2), min(high, max(values) * 2)])


def _heading(group: Group, shape: _Shape, scale: tuple[float, float] | None) -> Text:
    mean = f"{group.unit}"
    cells = [
        fit("#", 3, right=True), fit("commit", 8), fit("side", shape.side), fit("n", 2, right=True),
        fit(mean, 10, right=True), fit("speedup [95 % CI]", 20), fit("verdict", 12),
    ]  # fmt: skip
    if shape.bar:
        cells.append(fit("", shape.bar) if scale is None else _ends(scale, shape.bar))
    if shape.human:
        cells.append(fit("over human", shape.human))
    return Text(" ".join(cells), DIM, no_wrap=True)


def _ends(scale: tuple[float, float], width: int) -> str:
    """The two ends of the bars' scale."""
    left, right = words.times(scale[0]), words.times(scale[1])
    return left + fit(right, max(0, width - len(left)), right=True)


def _entry(one: Entry, shape: _Shape, scale: tuple[float, float] | None) -> Text:
    ratio, word = one.speedup, one.base.call.word if one.base else ""
    text = Text(no_wrap=True)
    text.append(fit("" if one.rank is None else str(one.rank), 3, right=True) + " ", HEAD)
    text.append(one.commit[:8] + " ")
    text.append(fit(plain(one.name), shape.side) + " ", HEAD if one.arm != "agent" else "")
    text.append(fit(str(one.n), 2, right=True) + " ")
    text.append(fit("-" if one.value is None else words.number(one.value), 10, right=True) + " ")
    said = short_ratio(ratio) if ratio else "reference" if one.arm == "baseline" else "not compared"
    text.append(fit(said, 20) + " ", "" if ratio else DIM)
    text.append(fit(word, 12), VERDICT.get(word, ""))
    if shape.bar:
        drawn = fit("", shape.bar)
        if ratio is not None and scale is not None:
            drawn = bars.interval(ratio.value, ratio.low, ratio.high, scale, shape.bar)
        text.append(" " + drawn, VERDICT.get(word, ""))
    if shape.human:
        text.append(" " + fit(short_ratio(one.human.ratio) if one.human else "", shape.human))
    notes = [f"not compared: {one.refused}"] if one.refused else []
    if one.base is not None and one.base.call.more is not None:
        notes.append(words.more_repeats(one.base.call.more))
    notes += [f"noted: {', '.join(one.flags)}"] if one.flags else []
    if notes:
        text.append(f" {plain('; '.join(notes))}", DIM)
    text.rstrip()
    return text


def _apart(one: Apart, width: int) -> Iterator[Line]:
    """Cut to the list's width but for the reason, which goes on in a second line."""
    text = Text("  - ", BAD if one.blame else DIM, no_wrap=True)
    text.append(f"{one.commit[:8]} ")
    text.append(f"{plain(one.name)} ", HEAD if one.arm != "agent" else "")
    first, *more = wrap(apart_text(one), max(24, width - text.cell_len))
    text.append(first, WARN)
    yield Line(text, f"apart/{one.job}")
    rest = " ".join(more)
    for line in wrap(rest, width - 6) if rest else ():
        yield Line(Text(f"      {line}", DIM, no_wrap=True))
