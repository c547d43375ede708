"""An audit as text for a terminal, as JSON, and as the corrected report in Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from isobench_tui.report.markdown import cell, plain, row
from isobench_tui.results.audit import VERDICTS, Audited, Verdict, recorded
from isobench_tui.results.metrics import describe, headline
from isobench_tui.results.models import Diagnosis, Flag

UNNAMED = "agent not named"
SAID_ONCE = "legacy_unverified"
"""Raised for every number of another runner: said once, not in every row."""


def as_json(found: Sequence[Audited]) -> str:
    """A list with one object a record, in their order."""
    rows = [json.dumps(_object(one), ensure_ascii=True, allow_nan=False) for one in found]
    return "[\n" + ",\n".join(rows) + "\n]\n" if rows else "[]\n"


def _object(one: Audited) -> dict[str, Any]:
    record, diagnosis = one.record, one.diagnosis
    proof = diagnosis.evidence if diagnosis else None
    return {
        "file": record.file if record else one.file,
        "part": (record.part or None) if record else None,
        "schema": record.schema if record else None,
        "agent": (record.agent or None) if record else None,
        "commit": (record.commit or None) if record else None,
        "arm": record.arm if record else None,
        "model": (record.model or None) if record else None,
        "mode": one.mode,
        "patch": {"file": one.patch.file, "sha256": one.patch.sha256} if one.patch else None,
        "status": (record.status or None) if record else None,
        "error": (record.error or None) if record else None,
        "class": diagnosis.failure if diagnosis else None,
        "blame": diagnosis.blame if diagnosis else None,
        "reason": plain(diagnosis.reason) if diagnosis else None,
        "evidence": {"file": proof.file, "line": proof.line, "text": proof.text} if proof else None,
        "remedy": one.remedy or None,
        "flags": [{"name": flag.name, "effect": flag.effect, "text": plain(flag.text)} for flag in one.flags],
        "metrics": one.metrics,
        "recorded_metrics": dict(record.recorded) if record else {},
        "verdict": one.verdict,
        "agrees": one.agrees,
        "remarks": [plain(text) for text in one.remarks],
    }


def by_agent(found: Sequence[Audited]) -> dict[str, list[Audited]]:
    """Agent -> its records, in order of appearance; what names no agent comes last."""
    groups: dict[str, list[Audited]] = {}
    for one in found:
        groups.setdefault(one.record.agent if one.record else "", []).append(one)
    unnamed = groups.pop("", [])
    return groups | ({"": unnamed} if unnamed else {})


def _number(name: str, value: float | None) -> str:
    if value is None:
        return ""
    known = describe(name)
    unit = known[0] if known else ""
    return f"{value:.4f} {unit}" if unit == "s" else f"{value:.2f} {unit}"


def headlines(one: Audited) -> tuple[str, str]:
    """The one number that stands for the result: as recorded, and as read again; empty where there is none."""
    if one.mode is None:
        return "", ""
    name = headline(one.mode)
    return _number(name, recorded(one).get(name)), _number(name, one.metrics.get(name))


def shown(one: Audited) -> tuple[Flag, ...]:
    """The flags that are not the same for every record."""
    return tuple(flag for flag in one.flags if flag.name != SAID_ONCE)


_COUNTS: Final[tuple[Verdict, ...]] = ("confirmed", "corrected")


def totals(found: Sequence[Audited]) -> str:
    """How many successes were recorded, and what became of them: the agents' runs, and then the other arms."""
    agents = [one for one in found if one.record is None or one.record.arm == "agent"]
    others = [one for one in found if one not in agents]
    parts = [_total(agents, "agent runs")] if agents else []
    return "; ".join([*parts, _total(others, "runs of other arms")] if others else parts)


def unseen(found: Sequence[Audited]) -> str:
    """How many agents' runs are taken on trust: what the archives keep rarely shows that a patch was applied."""
    agents = [one for one in found if one.record is not None and one.record.arm == "agent"]
    patches = sum(one.patch is None for one in agents)
    applied = sum(not one.applied for one in agents)
    return (
        f"Of {len(agents)} agent runs, {patches} have no patch here to look at, and the output of {applied} does not "
        "show that one was applied."
        if agents and applied
        else ""
    )


def _total(found: Sequence[Audited], what: str) -> str:
    counts = Counter(one.verdict for one in found)
    claimed = sum(1 for one in found if one.record and one.record.status == "success")
    stand = sum(counts[verdict] for verdict in _COUNTS)
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict in counts)
    return f"{claimed} of {len(found)} {what} recorded as a success, {stand} of them stand as one ({parts})"


def as_text(found: Sequence[Audited]) -> str:
    """A line for each record, what proves it below it, and totals for each agent."""
    out: list[str] = []
    for agent, mine in by_agent(found).items():
        out.append(f"{plain(agent) or UNNAMED}: {totals(mine)}")
        out += [f"  {text}" for text in [unseen(mine)] if text]
        for one in mine:
            out += [f"  {line}" for line in _lines(one)]
        out.append("")
    agreeing = sum(one.agrees for one in found)
    out.append(f"{agreeing} of {len(found)} records agree with their evidence.")
    return "\n".join(out) + "\n"


def _reason(found: Diagnosis) -> str:
    """The sentence with the place that proves it, and its words where the sentence does not quote them."""
    proof = found.evidence
    if proof is None:
        return found.reason
    place = f"{proof.file}, line {proof.line}" if proof.line else proof.file
    quoted = proof.text[:100] in found.reason
    return f"{found.reason} ({place})" if quoted else f"{found.reason} ({place}: {proof.text})"


def _lines(one: Audited) -> list[str]:
    record, diagnosis = one.record, one.diagnosis
    if record is None:
        return [f"{plain(one.file)}: {one.verdict}", *(f"    {plain(text)}" for text in one.remarks)]
    was, now = headlines(one)
    said = f"{record.status or 'no status'}{f' {was}' if was else ''}{f' ({record.error})' if record.error else ''}"
    evidence = "" if now == was else f", read again {now or 'no number'}" if was or now else ""
    out = [f"{record.commit[:8] or '????????'} {record.arm:8} {plain(said)}{evidence}: {one.verdict}"]
    if diagnosis is not None:
        out.append(f"    {diagnosis.failure} (blame: {diagnosis.blame}): {plain(_reason(diagnosis))}")
        out.append(f"    to do: {one.remedy}")
    out += [f"    {flag.name}: {plain(flag.text)}" for flag in shown(one)]
    return out + [f"    {plain(text)}" for text in one.remarks]


_INTRO = (
    "Made by `isobench audit --format md`: records of another runner, each read again from the output that it kept."
)
_HEAD = ("commit", "arm", "model as recorded", "status", "recorded", "read again", "verdict", "class", "blame")


def as_markdown(found: Sequence[Audited], title: str = "") -> str:
    """The corrected report: a table for each agent, then what proves each row that does not simply hold."""
    heading = cell(title) if title else "What was recorded, and what the evidence says"
    out = [f"# {heading}", "", _INTRO]
    out += ["No number here was measured by isobench, and none is compared with one that was.", ""]
    for agent, mine in by_agent(found).items():
        out += [f"## {cell(agent) if agent else UNNAMED}", "", f"{totals(mine)}. {unseen(mine)}".rstrip(), ""]
        out += [row(_HEAD), row(["---"] * len(_HEAD)), *(row(_row(one)) for one in mine), ""]
        for one in mine:
            out += _story(one)
    out += _overrides(found)
    out += ["## Verdicts", ""]
    out += [
        f"- `{verdict}`: {text}" for verdict, text in VERDICTS.items() if any(o.verdict == verdict for o in found)
    ]
    return "\n".join(out) + "\n"


def _row(one: Audited) -> list[str]:
    record, diagnosis = one.record, one.diagnosis
    if record is None:
        name = one.file.rsplit("/", 1)[-1]
        return [cell(value) for value in (name, "", "", "", "", "", one.verdict, "parse_error", "harness")]
    was, now = headlines(one)
    cells = (record.commit[:8], record.arm, record.model, record.status, was, now, one.verdict)
    found = (diagnosis.failure, diagnosis.blame) if diagnosis else ("", "")
    return [cell(value) for value in (*cells, *found)]


def _story(one: Audited) -> list[str]:
    """What proves a row; nothing where there is nothing to say."""
    record, diagnosis = one.record, one.diagnosis
    name = f"{record.commit[:8]} {record.arm}" if record else one.file.rsplit("/", 1)[-1]
    points = []
    if record is not None and record.error:
        points.append(f"recorded: {cell(record.error)}")
    if diagnosis is not None:
        points.append(f"{cell(diagnosis.failure)} (blame: {diagnosis.blame}): {cell(_reason(diagnosis))}")
        points.append(f"to do: {cell(one.remedy)}")
    points += [f"{cell(flag.name)} ({flag.effect}): {cell(flag.text)}" for flag in shown(one)]
    points += [cell(text) for text in one.remarks]
    return [f"**{cell(name)}**", "", *(f"- {point}" for point in points), ""] if points else []


def _overrides(found: Sequence[Audited]) -> list[str]:
    """Every run in which another model ran than the one recorded."""
    rows = [
        (one.record, flag.text)
        for one in found
        for flag in one.flags
        if flag.name == "model_overridden" and one.record is not None
    ]
    if not rows:
        return []
    out = ["## Models that were not the recorded ones", ""]
    out += [row(("agent", "commit", "arm", "what ran")), row(["---"] * 4)]
    for record, what in rows:
        out.append(row(cell(text) for text in (record.agent, record.commit[:8], record.arm, what)))
    return [*out, ""]
