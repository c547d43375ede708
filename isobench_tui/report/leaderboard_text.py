"""A leaderboard as plain text for a terminal of 80 columns, and as one object for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, get_args

from isobench_tui.report import words
from isobench_tui.report.compare import WIDTH, compared_json, short_ratio
from isobench_tui.report.export import SCHEMA_VERSION, agent_json
from isobench_tui.report.leaderboard import Apart, Board, Entry, Group, Key, ordered
from isobench_tui.report.markdown import plain
from isobench_tui.results.standings import Standing
from isobench_tui.results.stats import Word
from isobench_tui.results.text import clip

SIMULATED: Final = "SIMULATED: no measurement of vLLM"
_COLUMNS: Final = (("#", 4), ("commit", 9), ("side", 20), ("n", 3), ("mean", 11), ("speedup", 21), ("", 13))


def to_text(board: Board, key: Key = "rank") -> str:
    """Lines of at most 80 characters, ending with a newline; the entries of each workload sorted by `key`."""
    lines: list[str] = []
    for group in board.groups:
        lines += [*_group(group, key), ""]
    if board.agents:
        lines += ["agents over all their tasks, by the lower end of the interval", *_agents(board.agents), ""]
    return "\n".join(line.rstrip() for line in lines[:-1] or ["no results yet"]) + "\n"


def to_json(board: Board) -> dict[str, Any]:
    """One object: the workloads with their sides in the order of their ranks, and the agents."""
    return {
        "schema_version": SCHEMA_VERSION,
        "workloads": [_group_json(group) for group in board.groups],
        "agents": [agent_json(one) for one in board.agents],
    }


def apart_text(one: Apart) -> str:
    """`repeat 1, 3: patch_crash (agent): It crashed.`"""
    blame = f" ({one.blame})" if one.blame else ""
    reason = f": {one.reason}" if one.reason else ""
    return plain(f"repeat {', '.join(map(str, one.repeats))}: {one.word}{blame}{reason}")


def title(group: Group) -> str:
    """`serving of facebook/opt-125m: output_throughput, tok/s, higher is better`."""
    return plain(f"{group.mode} of {group.model}: {group.metric}, {group.unit}, {group.better} is better")


def rate(one: Standing) -> str:
    """`3 of 14, 21 % [8 %, 48 %]`: successes of all tasks with Wilson's interval."""
    percents = f"{words.percent(one.rate)} [{words.percent(one.low)}, {words.percent(one.high)}]"
    return f"{one.fates['success']} of {one.tasks}, {percents}"


def verdicts(one: Standing) -> str:
    """`2 win, 1 tie`; by tasks, against the baseline."""
    return ", ".join(f"{one.words[word]} {word}" for word in get_args(Word) if one.words[word]) or "-"


def _group(group: Group, key: Key) -> Iterator[str]:
    yield from _wrap(title(group), "  ")
    source = f", {SIMULATED}" if group.simulated else ""
    yield from _wrap(f"campaign {group.campaign}, workload {group.fingerprint[:12]}{source}", "  ")
    if group.entries:
        yield _row([name for name, _ in _COLUMNS])
    for one in ordered(group, key):
        yield _row(_cells(one))
        if notes := "; ".join(_notes(one)):
            yield from _wrap(f"    {notes}", " " * 6)
    for apart in group.apart:
        yield from _wrap(f"  - {apart.commit[:8]}  {apart.name} {apart_text(apart)}", " " * 6)
    if group.waiting:
        yield f"    {group.waiting} job{'s are' if group.waiting > 1 else ' is'} not over"


def _cells(one: Entry) -> list[str]:
    ratio = one.speedup
    return [
        "" if one.rank is None else str(one.rank),
        one.commit[:8],
        one.name,
        str(one.n),
        "-" if one.value is None else words.number(one.value),
        short_ratio(ratio) if ratio else "reference" if one.arm == "baseline" else "not compared",
        one.base.call.word if one.base else "",
    ]


def _notes(one: Entry) -> Iterator[str]:
    if one.refused is not None:
        yield f"not compared: {one.refused}"
    if one.base is not None and one.base.call.more is not None:
        yield words.more_repeats(one.base.call.more)
    if one.flags:
        yield f"noted: {', '.join(one.flags)}"


def _agents(agents: Iterable[Standing]) -> Iterator[str]:
    for one in agents:
        source = f" ({SIMULATED})" if one.simulated else ""
        yield from _wrap(f"{one.agent}, campaign {one.campaign}{source}", "  ")
        yield f"  succeeded {rate(one)}"
        fates = [f"{one.fates['agent_fault']} by its fault", f"{one.fates['other']} by others'"]
        yield from _wrap(f"  failed {', '.join(fates)}; unfinished {one.fates['unfinished']}", "    ")
        for over, mean in (("baseline", one.baseline), ("human", one.human)):
            if mean is not None:
                yield f"  over {over} {words.mean(mean)}"
        yield f"  verdicts {verdicts(one)}"


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "campaign": plain(group.campaign),
        "simulated": group.simulated,
        "fingerprint": group.fingerprint,
        "mode": group.mode,
        "model": plain(group.model),
        "metric": group.metric,
        "unit": group.unit,
        "better": group.better,
        "waiting": group.waiting,
        "sides": [_entry_json(one) for one in group.entries],
        "apart": [
            {
                "commit": one.commit,
                "arm": one.arm,
                "agent": plain(one.agent),
                "class": one.word,
                "blame": one.blame or None,
                "reason": plain(one.reason),
                "repeats": list(one.repeats),
                "job": one.job,
            }
            for one in group.apart
        ],
    }


def _entry_json(one: Entry) -> dict[str, Any]:
    return {
        "rank": one.rank,
        "commit": one.commit,
        "arm": one.arm,
        "agent": plain(one.agent),
        "jobs": one.jobs,
        "valid_jobs": one.valid_jobs,
        "n": one.n,
        "mean": one.value,
        "over_baseline": compared_json(one.base) if one.base else None,
        "over_human": compared_json(one.human) if one.human else None,
        "not_compared": plain(one.refused) if one.refused else None,
        "flags": list(one.flags),
        "job": one.job,
    }


def _row(cells: Sequence[str]) -> str:
    pairs = zip(cells, _COLUMNS, strict=True)
    return "".join(f"{clip(plain(cell), width - 1):<{width}}" for cell, (_, width) in pairs)


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(plain(text), WIDTH, subsequent_indent=indent, drop_whitespace=True)
