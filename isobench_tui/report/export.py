"""Results as Markdown, CSV or JSON. Every cell may hold text that a hostile log or patch wrote."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

from isobench_tui.report.table import ResultRow
from isobench_tui.results.text import clean

Format = Literal["md", "csv", "json"]
SCHEMA_VERSION: Final = 1
"""Of the JSON objects; grows when a key changes its meaning or goes away."""

_SIMULATED = "simulated"
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings that spreadsheets take for a formula, full-width forms among them."""
_MARKDOWN = re.compile(r"([\\`*_\[\]|~#!])")

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


def _plain(value: str) -> str:
    """One line of text without control characters."""
    return clean(value.replace("\r", " ").replace("\n", " ").replace("\t", " "))


def _record(row: ResultRow) -> dict[str, object]:
    """The columns of a row but its metrics; texts on one line."""
    found, proof = row.diagnosis, row.diagnosis.evidence if row.diagnosis else None
    record: dict[str, object] = {
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
    return {key: _plain(value) if isinstance(value, str) else value for key, value in record.items()}


def _csv_cell(value: object) -> str:
    """A number as it is; a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return "'" + text if text.lstrip().startswith(_FORMULA) else text


def _csv(rows: Sequence[ResultRow]) -> str:
    metrics = sorted({name for row in rows for name in row.metrics})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*_COLUMNS, *metrics])
    for row in rows:
        record = _record(row)
        record["simulated"] = _SIMULATED if row.simulated else "no"
        values = [row.metrics[name].value if name in row.metrics else None for name in metrics]
        writer.writerow([_csv_cell(value) for value in (*(record[name] for name in _COLUMNS), *values)])
    return out.getvalue()


def _json(rows: Sequence[ResultRow]) -> str:
    """A list with one object a line."""
    out = []
    for row in rows:
        record = {"schema_version": SCHEMA_VERSION, **_record(row)}
        record["flags"] = [
            {"name": _plain(flag.name), "effect": flag.effect, "text": _plain(flag.text)} for flag in row.flags
        ]
        record["metrics"] = {
            _plain(name): {"value": item.value, "unit": item.unit, "better": item.better}
            for name, item in row.metrics.items()
        }
        out.append(json.dumps(record, ensure_ascii=False, allow_nan=False))
    return "[\n" + ",\n".join(out) + "\n]\n" if out else "[]\n"


def _md_cell(value: object) -> str:
    """Text that neither ends the cell nor becomes markup or HTML."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    escaped = html.escape(_plain(str(value)), quote=False)
    return re.sub(r"(?i)(https?|ftp):(?=//)", r"\1&#58;", _MARKDOWN.sub(r"\\\1", escaped))


def _number(value: float) -> str:
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"


def _md_row(row: ResultRow) -> list[str]:
    shown = row.headline
    result = f"{_number(shown.value)} {shown.unit}" if shown else None
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
        why,
        where,
        notes,
    ]
    return [_SIMULATED if row.simulated else "measured", *(_md_cell(cell) for cell in cells)]


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
    "class",
    "evidence",
    "flags",
)


def _md(rows: Sequence[ResultRow]) -> str:
    """One table a campaign; the heading of a simulated one says so."""
    campaigns: dict[str, list[ResultRow]] = {}
    for row in rows:
        campaigns.setdefault(row.campaign, []).append(row)
    out = []
    for name, mine in campaigns.items():
        note = f" ({_SIMULATED}: no measurement of vLLM)" if any(row.simulated for row in mine) else ""
        out += [f"## {_md_cell(name)}{note}", "", _md_line(_MD_HEAD), _md_line(["---"] * len(_MD_HEAD))]
        out += [_md_line(_md_row(row)) for row in mine]
        out.append("")
    return "\n".join(out) if out else "No results.\n"


def _md_line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def export(rows: Sequence[ResultRow], fmt: Format) -> str:
    """The rows as text that ends with a newline (CSV: RFC 4180 line ends).

    In CSV, only text cells are guarded against formulas: a negative number stays a number.
    """
    if fmt == "json":
        return _json(rows)
    return _csv(rows) if fmt == "csv" else _md(rows)


def write_export(path: Path, text: str) -> None:
    """Write `text` to `path` in one step, readable by its owner alone. Raises OSError; then `path` is as it was."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
