"""What can be written to a file: the result table, the leaderboard, the events; as Markdown, CSV or JSON."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Final, Literal, get_args

from isobench_tui.report import markdown, words
from isobench_tui.report.export import Format, csv_lines, export
from isobench_tui.report.leaderboard import Board, Entry, Group, read
from isobench_tui.report.leaderboard_text import SIMULATED, rate, title, to_json, verdicts
from isobench_tui.report.markdown import plain
from isobench_tui.report.table import result_rows
from isobench_tui.report.tasks import DECIDING, tasks
from isobench_tui.results.compare import Compared, compare
from isobench_tui.store.events import Event, Wanted, page

What = Literal["results", "leaderboard", "events"]
WHATS: Final[tuple[What, ...]] = get_args(What)
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

_EVENTS: Final = ("at", "kind", "campaign", "job", "attempt", "actor", "text")
_SIDES: Final = (
    "campaign", "source", "workload", "mode", "model", "metric", "unit", "better", "rank", "commit", "arm", "agent",
    "jobs", "valid_jobs", "n", "mean", "speedup_vs_baseline", "ci_low", "ci_high", "verdict", "speedup_vs_human",
    "human_ci_low", "human_ci_high", "verdict_vs_human", "not_compared", "class", "blame", "reason", "repeats",
    "flags", "job",
)  # fmt: skip
"""Columns of the leaderboard as CSV; what stands apart has a class instead of numbers."""
_MD_SIDES: Final = ("rank", "commit", "side", "n", "mean", "speedup over baseline", "verdict", "over human", "noted")
_MD_APART: Final = ("commit", "side", "repeats", "class", "blame", "reason")
_MD_AGENTS: Final = ("agent", "campaign", "succeeded", "over baseline", "over human", "verdicts")


def render(connection: sqlite3.Connection, what: What, fmt: Format, campaign: str | None = None) -> Iterator[str]:
    """One kind of table of one campaign, or of all, as text that ends with a newline.

    All is read before it returns; the text comes in pieces, which need the connection no more.
    """
    if what == "leaderboard":
        return iter((_leaderboard(read(connection, campaign), fmt),))
    if what == "events":
        return iter((_events(page(connection, Wanted(campaign=campaign or ""), limit=-1), fmt),))
    rows = result_rows(connection, campaign)
    found = tasks(connection, rows, campaign=campaign)
    return export(rows, fmt, [compare(task, DECIDING) for task in found])


def _events(events: Sequence[Event], fmt: Format) -> str:
    records = [{name: value for name, value in asdict(event).items() if name in _EVENTS} for event in events]
    clean = [{name: plain(value) if value else value for name, value in record.items()} for record in records]
    if fmt == "json":
        return _json_lines(clean)
    rows = [[record[name] for name in _EVENTS] for record in clean]
    return "".join(csv_lines(_EVENTS, rows)) if fmt == "csv" else _md("Events", _EVENTS, rows)


def _leaderboard(board: Board, fmt: Format) -> str:
    if fmt == "json":
        return json.dumps(to_json(board), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if fmt == "csv":
        return "".join(csv_lines(_SIDES, (row for group in board.groups for row in _csv_rows(group))))
    parts = [_md_group(group) for group in board.groups]
    agents = [
        [
            one.agent,
            f"{one.campaign} (simulated)" if one.simulated else one.campaign,
            rate(one),
            words.mean(one.baseline),
            words.mean(one.human),
            verdicts(one),
        ]
        for one in board.agents
    ]
    if agents:
        parts.append(_md("Agents", _MD_AGENTS, agents))
    return "\n".join(parts) or "No results.\n"


def _csv_rows(group: Group) -> Iterable[list[object]]:
    about = {
        "campaign": group.campaign,
        "source": "simulated" if group.simulated else "measured",
        "workload": group.fingerprint,
        "mode": group.mode,
        "model": group.model,
        "metric": group.metric,
        "unit": group.unit,
        "better": group.better,
    }
    for one in group.entries:
        yield _in_order({**about, **_numbers(one)})
    for apart in group.apart:
        found = {
            "commit": apart.commit,
            "arm": apart.arm,
            "agent": apart.agent,
            "class": apart.word,
            "blame": apart.blame,
            "reason": apart.reason,
            "repeats": " ".join(map(str, apart.repeats)),
            "job": apart.job,
        }
        yield _in_order({**about, **found})


def _in_order(record: dict[str, object]) -> list[object]:
    values = (record.get(name) for name in _SIDES)
    return [plain(value) if isinstance(value, str) else value for value in values]


def _numbers(one: Entry) -> dict[str, object]:
    base, human = _ratio(one.base), _ratio(one.human)
    return {
        "rank": one.rank,
        "commit": one.commit,
        "arm": one.arm,
        "agent": one.agent,
        "jobs": one.jobs,
        "valid_jobs": one.valid_jobs,
        "n": one.n,
        "mean": one.value,
        **dict(zip(("speedup_vs_baseline", "ci_low", "ci_high", "verdict"), base, strict=True)),
        **dict(zip(("speedup_vs_human", "human_ci_low", "human_ci_high", "verdict_vs_human"), human, strict=True)),
        "not_compared": one.refused,
        "flags": " ".join(one.flags),
        "job": one.job,
    }


def _ratio(found: Compared | None) -> tuple[float | str | None, ...]:
    if found is None:
        return None, None, None, None
    return found.ratio.value, found.ratio.low, found.ratio.high, words.verdict(found.call)


def _md_group(group: Group) -> str:
    note = f" ({SIMULATED})" if group.simulated else ""
    sides: list[list[object]] = [
        [
            one.rank,
            one.commit[:8],
            one.name,
            one.n,
            None if one.value is None else words.number(one.value),
            words.speedup(one.base.ratio) if one.base else one.refused and f"not compared: {one.refused}",
            words.verdict(one.base.call) if one.base else None,
            words.speedup(one.human.ratio) if one.human else None,
            ", ".join(one.flags),
        ]
        for one in group.entries
    ]
    head = f"{title(group)}, campaign {group.campaign}, workload {group.fingerprint[:12]}{note}"
    out = _md(head, _MD_SIDES, sides)
    apart: list[list[object]] = [
        [one.commit[:8], one.name, ", ".join(map(str, one.repeats)), one.word, one.blame, one.reason]
        for one in group.apart
    ]
    return out + ("\n" + _md("Without a valid result", _MD_APART, apart, level=3) if apart else "")


def _md(heading: str, columns: Sequence[str], rows: Iterable[Sequence[object]], level: int = 2) -> str:
    lines = [
        f"{'#' * level} {markdown.cell(heading)}",
        "",
        markdown.row(columns),
        markdown.row(["---"] * len(columns)),
        *(markdown.row(map(markdown.cell, row)) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _json_lines(records: Iterable[dict[str, object]]) -> str:
    """A list with one object a line."""
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"
