"""Results as Markdown, CSV or JSON. Every cell may hold text that a hostile log or patch wrote."""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic_core import to_json

from isobench_tui.campaign.models import Mode
from isobench_tui.report import words
from isobench_tui.report.markdown import cell, plain
from isobench_tui.report.markdown import row as line
from isobench_tui.report.table import ResultRow
from isobench_tui.results.compare import Comparison, Contest
from isobench_tui.results.isoclass import IsoWord
from isobench_tui.results.metrics import headline
from isobench_tui.results.standings import Standing, standings
from isobench_tui.results.stats import Word
from isobench_tui.store.words import NO_IMAGE

Format = Literal["md", "csv", "json"]
SCHEMA_VERSION: Final = 1
"""Of the JSON objects; grows when a key changes its meaning or goes away."""

_SIMULATED = "simulated"
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings that spreadsheets take for a formula, full-width forms among them."""

_COLUMNS: Final = (
    "campaign",
    "simulated",
    "commit",
    "parent",
    "mode",
    "model",
    "model_used",
    "model_revision",
    "arm",
    "agent",
    "repeat",
    "state",
    "outcome",
    "valid",
    "class",
    "blame",
    "reason",
    "evidence_file",
    "evidence_line",
    "evidence_text",
    "flags",
    "speedup_vs_baseline",
    "speedup_ci_low",
    "speedup_ci_high",
    "speedup_n",
    "speedup_n_baseline",
    "verdict",
    "speedup_vs_human",
    "speedup_vs_human_ci_low",
    "speedup_vs_human_ci_high",
    "speedup_n_human",
    "verdict_vs_human",
    "iso_bench_class",
    "iso_bench_percent",
    "iso_bench_flip_risk",
    "not_compared",
    "attempts",
    "image",
    "image_digest",
    "vllm_version",
    "fingerprint",
    "started_at",
    "ended_at",
    "job",
    "attempt",
)


_COMPARING: Final = ("speedup_", "verdict", "iso_bench_", "not_compared")
_NOT_COMPARED: Final[dict[str, object]] = {name: None for name in _COLUMNS if name.startswith(_COMPARING)}


class Compared:
    """Comparisons by the rows that they are about: all repeats of an arm share one."""

    def __init__(self, comparisons: Iterable[Comparison] = ()) -> None:
        self.all = list(comparisons)
        self._ratios: dict[int, dict[str, object]] = {}
        self._of = {
            (one.task.campaign, one.task.commit, one.task.fingerprint, contest.side.arm, contest.side.agent): contest
            for one in self.all
            for contest in one.contests
        }

    def contest(self, row: ResultRow) -> Contest | None:
        """None for the baseline."""
        return self._of.get((row.campaign, row.commit, row.fingerprint, row.arm, row.agent))

    def ratios(self, row: ResultRow) -> dict[str, object]:
        """The columns of the row that compare it."""
        contest = self.contest(row)
        if contest is None:
            return _NOT_COMPARED
        return self._ratios.get(id(contest)) or self._ratios.setdefault(id(contest), _ratios(row.mode, contest))


def _ratios(mode: Mode, contest: Contest) -> dict[str, object]:
    """The columns about the speedup of the metric that stands for the result."""
    name = headline(mode)
    base = contest.baseline.metrics.get(name)
    human = contest.human.metrics.get(name) if contest.human else None
    iso = contest.iso
    refused = [
        f"{arm}: {versus.refused}"
        for arm, versus in (("baseline", contest.baseline), ("human", contest.human))
        if versus is not None and versus.refused is not None
    ]
    return {
        "speedup_vs_baseline": base.ratio.value if base else None,
        "speedup_ci_low": base.ratio.low if base else None,
        "speedup_ci_high": base.ratio.high if base else None,
        "speedup_n": base.ratio.ours if base else None,
        "speedup_n_baseline": base.ratio.theirs if base else None,
        "verdict": words.verdict(base.call) if base else None,
        "speedup_vs_human": human.ratio.value if human else None,
        "speedup_vs_human_ci_low": human.ratio.low if human else None,
        "speedup_vs_human_ci_high": human.ratio.high if human else None,
        "speedup_n_human": human.ratio.theirs if human else None,
        "verdict_vs_human": words.verdict(human.call) if human else None,
        "iso_bench_class": iso.word if iso else None,
        "iso_bench_percent": iso.percent if iso else None,
        "iso_bench_flip_risk": iso.flip_risk if iso else None,
        "not_compared": "; ".join(refused) or None,
    }


def _record(row: ResultRow, compared: Compared) -> dict[str, object]:
    """The columns of a row but its metrics."""
    found, proof = row.diagnosis, row.diagnosis.evidence if row.diagnosis else None
    return {
        "campaign": row.campaign,
        "simulated": row.simulated,
        "commit": row.commit,
        "parent": row.parent,
        "mode": row.mode,
        "model": row.model,
        "model_used": row.model_used,
        "model_revision": row.model_revision,
        "arm": row.arm,
        "agent": row.agent,
        "repeat": row.repeat,
        "state": row.state,
        "outcome": row.outcome,
        "valid": row.valid,
        "class": found.failure if found else None,
        "blame": found.blame if found else None,
        "reason": found.reason if found else None,
        "evidence_file": proof.file if proof else None,
        "evidence_line": proof.line if proof else None,
        "evidence_text": proof.text if proof else None,
        "flags": "; ".join(f"{flag.name} ({flag.effect}): {flag.text}" for flag in row.flags),
        **compared.ratios(row),
        "attempts": row.attempts,
        "image": row.image,
        "image_digest": row.image_digest,
        "vllm_version": row.vllm_version,
        "fingerprint": row.fingerprint,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "job": row.job,
        "attempt": row.attempt,
    }


def _csv_cell(value: object) -> object:
    """A number as it is; text on one line, with an apostrophe before what a spreadsheet would run as a formula."""
    if isinstance(value, str):
        return _csv_text(value)
    return ("yes" if value else "no") if isinstance(value, bool) else value


@lru_cache(maxsize=4096)
def _csv_text(value: str) -> str:
    """Most texts of a long table stand in many rows."""
    text = plain(value)
    return "'" + text if text.lstrip().startswith(_FORMULA) else text


def _csv(rows: Sequence[ResultRow], compared: Compared) -> Iterator[str]:
    metrics = sorted({name for row in rows for name in row.metrics})
    return csv_lines([*_COLUMNS, *metrics], (_csv_row(row, compared, metrics) for row in rows))


def _csv_row(row: ResultRow, compared: Compared, metrics: Sequence[str]) -> list[object]:
    record = _record(row, compared)
    record["simulated"] = _SIMULATED if row.simulated else "no"
    values = [row.metrics[name].value if name in row.metrics else None for name in metrics]
    return [*(record[name] for name in _COLUMNS), *values]


class _Line:
    """A file for `csv.writer`, which returns what its file's `write` returns: the line."""

    def write(self, text: str) -> str:
        return text


def csv_lines(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A table as RFC 4180 has it; text cells are guarded against being run as formulas."""
    writer = csv.writer(_Line(), lineterminator="\r\n")
    yield writer.writerow(columns)
    for row in rows:
        yield writer.writerow([_csv_cell(value) for value in row])


def json_line(record: object) -> str:
    """A record as JSON on one line, its texts without control characters; what is no finite number is null.

    Most records are ASCII and need no escape, so there is nothing to clean in them: that is cheaper to see in what
    was written than in every text.
    """
    with contextlib.suppress(ValueError):  # half a surrogate pair
        line = to_json(record, inf_nan_mode="null")
        if line.isascii() and b"\\" not in line and b"\x7f" not in line:
            return line.decode()
    return to_json(_plain(record), inf_nan_mode="null").decode()


def _plain(value: object) -> object:
    """A JSON value with every text on one line."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _json(rows: Sequence[ResultRow], compared: Compared) -> Iterator[str]:
    """A list with one object a line: the rows, then the agents."""
    records = chain((_row_json(row, compared) for row in rows), map(agent_json, standings(compared.all)))
    before = "[\n"
    for record in records:
        yield before + json_line(record)
        before = ",\n"
    yield "\n]\n" if before == ",\n" else "[]\n"


def _row_json(row: ResultRow, compared: Compared) -> dict[str, object]:
    record = {"schema_version": SCHEMA_VERSION, "kind": "result", **_record(row, compared)}
    record["flags"] = [{"name": flag.name, "effect": flag.effect, "text": flag.text} for flag in row.flags]
    record["metrics"] = {
        name: {"value": value, "unit": unit, "better": better} for name, value, unit, better in row.metrics.values()
    }
    return record


def agent_json(one: Standing) -> dict[str, object]:
    """An agent over all its tasks of a campaign."""
    base, human = one.baseline, one.human
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "agent",
        "campaign": plain(one.campaign),
        "simulated": one.simulated,
        "agent": plain(one.agent),
        "tasks": one.tasks,
        "successes": one.fates["success"],
        "agent_faults": one.fates["agent_fault"],
        "other_failures": one.fates["other"],
        "unfinished": one.fates["unfinished"],
        "success_rate": one.rate,
        "success_ci_low": one.low,
        "success_ci_high": one.high,
        "speedup_vs_baseline": base.value if base else None,
        "speedup_ci_low": base.low if base else None,
        "speedup_ci_high": base.high if base else None,
        "speedup_tasks": base.tasks if base else 0,
        "speedup_vs_human": human.value if human else None,
        "speedup_vs_human_ci_low": human.low if human else None,
        "speedup_vs_human_ci_high": human.high if human else None,
        "speedup_vs_human_tasks": human.tasks if human else 0,
        "verdicts": {word: one.words[word] for word in get_args(Word)},
        "iso_bench": {word: one.iso[word] for word in get_args(IsoWord)},
    }


def _md_cell(value: object) -> str:
    """Text that neither ends the cell nor becomes markup or HTML."""
    return cell(("yes" if value else "no") if isinstance(value, bool) else value)


def _md_row(row: ResultRow, contest: Contest | None) -> list[str]:
    shown = row.headline
    result = f"{words.number(shown.value)} {shown.unit}" if shown else None
    why = f"{row.diagnosis.failure} ({row.diagnosis.blame}): {row.diagnosis.reason}" if row.diagnosis else None
    proof = row.diagnosis.evidence if row.diagnosis else None
    where = f"{proof.file}:{proof.line}: {proof.text}" if proof else None
    notes = "; ".join(f"{flag.name}: {flag.text}" for flag in row.flags)
    cells: list[object] = [
        row.commit[:8],
        row.model_used or row.model,
        row.mode,
        row.arm + (f" {row.agent}" if row.agent else ""),
        row.repeat + 1,
        row.outcome or row.state,
        row.valid,
        result,
        shown.name if shown else None,
        words.outcome(contest.baseline, headline(row.mode)) if contest else None,
        words.outcome(contest.human, headline(row.mode)) if contest else None,
        words.iso(contest.iso) if contest else None,
        why,
        where,
        notes,
    ]
    source = _SIMULATED if row.simulated else "imported" if row.image == NO_IMAGE else "measured"
    return [source, *(_md_cell(value) for value in cells)]


_MD_HEAD = (
    "source",
    "commit",
    "model",
    "mode",
    "arm",
    "repeat",
    "outcome",
    "valid",
    "result",
    "metric",
    "speedup over baseline",
    "over human",
    "ISO-Bench",
    "class",
    "evidence",
    "flags",
)


_MD_AGENTS = (
    "source",
    "campaign",
    "agent",
    "succeeded",
    "rate",
    "agent's fault",
    "other failures",
    "unfinished",
    "speedup over baseline",
    "over human",
    "win / tie / loss / inconclusive",
    "ISO-Bench beats / similar / worse / failed / no data",
)


def _md_agent(one: Standing) -> list[str]:
    cells: list[object] = [
        one.campaign,
        one.agent,
        f"{one.fates['success']} of {one.tasks}",
        f"{words.percent(one.rate)} [{words.percent(one.low)}, {words.percent(one.high)}]",
        one.fates["agent_fault"],
        one.fates["other"],
        one.fates["unfinished"],
        words.mean(one.baseline),
        words.mean(one.human),
        " / ".join(str(one.words[word]) for word in get_args(Word)),
        " / ".join(str(one.iso[word]) for word in get_args(IsoWord)),
    ]
    return [_SIMULATED if one.simulated else "measured", *(_md_cell(value) for value in cells)]


def _md_agents(compared: Compared) -> list[str]:
    """Agents, by the lower end of the interval of their mean speedup; empty without any."""
    found = standings(compared.all)
    if not found:
        return []
    head = ["## Agents", "", "Ranked by the lower end of the 95 % interval of the geometric mean speedup.", ""]
    table = [_MD_AGENTS, ["---"] * len(_MD_AGENTS), *map(_md_agent, found)]
    return [*head, *map(line, table), ""]


def _md(rows: Sequence[ResultRow], compared: Compared) -> str:
    """One table a campaign, then one of all agents; the heading of a simulated one says so."""
    campaigns: dict[str, list[ResultRow]] = {}
    for row in rows:
        campaigns.setdefault(row.campaign, []).append(row)
    out = []
    for name, mine in campaigns.items():
        note = f" ({_SIMULATED}: no measurement of vLLM)" if any(row.simulated for row in mine) else ""
        out += [f"## {_md_cell(name)}{note}", "", line(_MD_HEAD), line(["---"] * len(_MD_HEAD))]
        out += [line(_md_row(row, compared.contest(row))) for row in mine]
        out.append("")
    out += _md_agents(compared)
    return "\n".join(out) if out else "No results.\n"


def export(rows: Sequence[ResultRow], fmt: Format, comparisons: Iterable[Comparison] = ()) -> Iterator[str]:
    """The rows as text that ends with a newline (CSV: RFC 4180 line ends), with what `comparisons` say of them.

    In pieces, made when they are taken: a long table is never whole in memory.
    Markdown and JSON end with the agents of the comparisons, each with its success rate and mean speedup.
    In CSV, only text cells are guarded against formulas: a negative number stays a number.
    """
    compared = Compared(comparisons)
    if fmt == "json":
        return _json(rows, compared)
    return _csv(rows, compared) if fmt == "csv" else iter((_md(rows, compared),))


def write_export(path: Path, text: Iterable[str]) -> None:
    """Write text to `path` in one step, readable by its owner alone. Raises OSError; then `path` is as it was."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
            out.writelines(text)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
