"""Result files of the runners that came before: bytes in, records out. Whatever the bytes are, nothing raises.

Eight schemas, as the public ISO-Bench archive and its runners' sources have them, and which file holds which:

    threeway        COMMIT_ARM_result.json of run_3way_benchmarks.py: human_commit, model, status, metrics, raw_output
    flat_baseline   the same without `metrics`: ttft_mean … throughput_tok_s beside benchmark_type
    separate        commit, commit_full, benchmark_type, benchmark_source, metrics
    rerun           commit_short, baseline_command, test_command, is_asymmetric, and an object for each arm
    modal           {"instance": {...}, "result": {...}}, or an object with baseline_metrics, human_metrics …
    docker          {"commit", "results": {arm: {...}}}; sglang's {"variants": {...}} is read alike
    pass_at_k       a line per sample of agent_benchmark_results.jsonl
    native          run_vllm_native.py: the first one's keys with runner and perf_command
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from isobench_tui.campaign.models import Arm, Mode
from isobench_tui.results import legacy_names as names
from isobench_tui.results.text import clean, clip

Schema = Literal["threeway", "flat_baseline", "separate", "rerun", "modal", "docker", "pass_at_k", "native"]

MOST = 100_000
"""Records of one file."""
MAX_METRICS = 200
MAX_TEXT = 100_000
"""Characters of one value that are looked at, but for the output that was kept."""
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Record:
    """One result as it was written down. Empty texts: not recorded."""

    file: str
    part: str
    """Which of the file's records: an arm, `line 3`; empty where the file holds one."""
    schema: Schema
    commit: str
    """8 to 40 hex digits."""
    parent: str
    model: str
    arm: Arm
    agent: str
    status: str
    error: str
    mode: Mode | None
    """None where neither the record nor its metrics tell it."""
    recorded: Mapping[str, float] = field(default_factory=dict)
    """Metrics under the names under which they were recorded."""
    raw: str | None = None
    """The output that was kept; None where none was."""
    command: str = ""
    duration_s: float | None = None
    timestamp: str = ""
    """As written; most are the host's local time."""
    overrides: bool = True
    """The runner may have run another model than it wrote down."""
    asymmetric: bool = False
    """The record itself says that its arms ran different commands."""
    problems: tuple[str, ...] = ()
    """What is wrong with the file or could not be read of the record."""

    @property
    def place(self) -> str:
        return f"{self.file} ({self.part})" if self.part else self.file


@dataclass(frozen=True, slots=True)
class Trouble:
    """A file, or a piece of one, that holds no record."""

    file: str
    why: str
    line: int = 0
    """1-based; 0 where the whole file is meant."""
    text: str = ""
    """The beginning of that line."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file holds. `known` is False for sound JSON that is no result of any schema."""

    records: tuple[Record, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    known: bool = True


def read(path: str, data: bytes) -> Reading:
    """The records of one file. `path` is how it is named; its words tell agent, commit and arm."""
    try:
        text = data.decode("utf-8-sig")
        damage: list[str] = []
    except UnicodeDecodeError as error:
        text = data.decode("utf-8-sig", "replace")
        damage = [f"not UTF-8 at byte {error.start}"]
    if path.endswith(".jsonl"):
        documents, troubles = _lines(path, text)
    else:
        documents, troubles = _documents(path, text)
        if documents:
            damage += [trouble.why for trouble in troubles]
        if len(documents) > 1:
            damage.append(f"{len(documents)} JSON documents in one file: several runs wrote it")
    found = (record for part, document in documents for record in _records(path, part, document, 0))
    records = [replace(record, problems=(*damage, *record.problems)) for record in itertools.islice(found, MOST)]
    if records and not path.endswith(".jsonl"):
        troubles = []
    return Reading(tuple(records), tuple(troubles), known=bool(records or troubles))


def _lines(path: str, text: str) -> tuple[list[tuple[str, Any]], list[Trouble]]:
    """(name, JSON value) of each line of a JSONL, and the lines that are none."""
    found: list[tuple[str, Any]] = []
    troubles: list[Trouble] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append((f"line {number}", json.loads(line)))
        except (ValueError, RecursionError, MemoryError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error) or type(error).__name__
            troubles.append(Trouble(path, f"not JSON at line {number}: {clean(why)}", number, _shown(line)))
    return found, troubles


def _documents(path: str, text: str) -> tuple[list[tuple[str, Any]], list[Trouble]]:
    """(name, JSON value) of each document in the text, and what is none. One document has an empty name."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    troubles: list[Trouble] = []
    at = 0
    while len(found) < MOST and (start := _SPACE.match(text, at)) and (at := start.end()) < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
            found.append(value)
        except (ValueError, RecursionError, MemoryError) as error:
            troubles.append(_trouble(path, text, at, error, after=bool(found)))
            break
    if not text.strip():
        troubles.append(Trouble(path, "empty: a run that never wrote its result, or was killed while it did"))
    return [(f"document {n}" if len(found) > 1 else "", value) for n, value in enumerate(found, 1)], troubles


_SPACE = re.compile(r"\s*")


def _shown(line: str) -> str:
    return clip(clean(line[:400]).strip(), 200)


def _trouble(path: str, text: str, at: int, error: Exception, *, after: bool) -> Trouble:
    if isinstance(error, json.JSONDecodeError):
        where, why = error.pos, error.msg
    else:
        where, why = at, str(error) or type(error).__name__
    where = min(where, max(0, len(text) - 1))
    line = text.count("\n", 0, where) + 1
    start = text.rfind("\n", 0, where) + 1
    shown = _shown(text[start:].split("\n", 1)[0])
    if after:
        what = f"more text after the JSON document, at line {line}: several runs wrote this file"
    elif where >= len(text.rstrip()) - 1 or why.startswith("Unterminated string"):
        what = f"not JSON, cut off at line {line}: {clean(why)}"
    else:
        what = f"not JSON at line {line}: {clean(why)}"
    return Trouble(path, what, line, shown)


def _text(row: Mapping[str, Any], *keys: str) -> str:
    """The first of these values that is text and says something."""
    for key in keys:
        value = row.get(key)
        found = clean(value[:MAX_TEXT]).strip() if isinstance(value, str) else ""
        if found.lower() not in {"", "unknown", "none", "null"}:
            return found
    return ""


def _commit(row: Mapping[str, Any], *keys: str) -> str:
    """The longest commit among these values."""
    found = [_text(row, key).lower() for key in keys]
    return max((value for value in found if names.COMMIT.fullmatch(value)), key=len, default="")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _metrics(row: object, problems: list[str]) -> dict[str, float]:
    """The finite numbers of an object of metrics."""
    out: dict[str, float] = {}
    if row is None:
        return out
    if not isinstance(row, dict):
        problems.append(f"metrics is a {type(row).__name__}, not an object")
        return out
    for key, value in list(row.items())[:MAX_METRICS]:
        number = _number(value)
        if number is not None:
            out[key] = number
        elif isinstance(value, float | int) and not isinstance(value, bool):
            problems.append(f"{clip(clean(key), 60)} is {clip(str(value), 20)}, no finite number")
    return out


_ARMS = ("baseline", "human", "agent")
_FLAT = re.compile(r"(?:ttft|tpot|itl|e2el)_(?:mean|median|p99)(?:_ms)?|throughput_(?:req|tok)_s|\w*latency\w*_m?s")


def _records(path: str, part: str, row: Any, depth: int) -> Iterator[Record]:
    """The records of one JSON value."""
    if isinstance(row, list) and depth < _DEEPEST:
        for count, inner in enumerate(row, 1):
            yield from _records(path, _join(part, str(count)), inner, depth + 1)
        return
    if not isinstance(row, dict):
        return
    if isinstance(row.get("instance"), dict) and isinstance(row.get("result"), dict):
        instance, result = row["instance"], row["result"]
        yield from _modal(path, part, {**instance, **result, "perf_command": _text(instance, "perf_command")})
    elif any(f"{arm}_metrics" in row for arm in _ARMS):
        yield from _modal(path, part, row)
    elif isinstance(row.get("results"), list) and depth < _DEEPEST:
        yield from _records(path, part, row["results"], depth + 1)
    elif isinstance(row.get("results"), dict) and "commit" in row:
        yield from _arms(path, part, "docker", row, row["results"])
    elif isinstance(row.get("variants"), dict):
        yield from _arms(path, part, "docker", row, row["variants"])
    elif "commit_short" in row and any(isinstance(row.get(arm), dict) for arm in _ARMS):
        yield from _arms(path, part, "rerun", row, {arm: row[arm] for arm in _ARMS if arm in row})
    elif schema := _schema(row):
        yield _record(path, part, schema, row)


def _schema(row: Mapping[str, Any]) -> Schema | None:
    if not isinstance(row.get("status"), str):
        return None
    if "item_id" in row and "sample_index" in row:
        return "pass_at_k"
    if "commit" in row and "benchmark_type" in row:
        return "separate"
    if "commit" in row and "gpu_config" in row:
        return "modal"
    if "human_commit" not in row:
        return None
    if "runner" in row or "perf_command" in row:
        return "native"
    return "threeway" if "metrics" in row or "benchmark_type" not in row else "flat_baseline"


def _join(part: str, more: str) -> str:
    return f"{part}, {more}" if part else more


def _modal(path: str, part: str, row: Mapping[str, Any]) -> Iterator[Record]:
    """One record for each arm that has metrics or output, else one of the whole."""
    arms = {arm: row.get(f"{arm}_metrics") for arm in _ARMS if row.get(f"{arm}_metrics") or row.get(f"{arm}_raw")}
    if not arms:
        yield _record(path, part, "modal", row)
    for arm, metrics in arms.items():
        own = {key: value for key, value in row.items() if not key.endswith(("_metrics", "_raw"))}
        own |= {"metrics": metrics, "raw_output": row.get(f"{arm}_raw")}
        if metrics:  # an arm that was measured succeeded, whatever became of the others
            own |= {"status": "success", "error": None}
        yield _record(path, _join(part, arm), "modal", own, arm=arm)


def _arms(path: str, part: str, schema: Schema, row: Mapping[str, Any], arms: Mapping[str, Any]) -> Iterator[Record]:
    shared = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
    for arm, own in arms.items():
        if not isinstance(own, dict) or not own:
            continue
        command = _text(row, "baseline_command" if arm == "baseline" else "test_command")
        merged = {**shared, **({"perf_command": command} if command else {}), **own}
        if names.as_arm(arm) is None:
            merged["agent_name"] = arm
        yield _record(path, _join(part, clip(clean(arm), 40)), schema, merged, arm=arm)


def _record(path: str, part: str, schema: Schema, row: Mapping[str, Any], *, arm: str = "") -> Record:
    problems: list[str] = []
    agent, commit, of_name = names.of_path(path)
    flat = {key: value for key, value in row.items() if _FLAT.fullmatch(key)}
    metrics = _metrics(row["metrics"] if row.get("metrics") is not None else flat, problems)
    raw = row.get("raw_output")
    if raw is not None and not isinstance(raw, str):
        problems.append(f"raw_output is a {type(raw).__name__}, not text")
        raw = None
    written = _commit(
        row, "human_commit_full", "commit_full", "full_commit", "human_commit", "commit_short", "commit"
    )
    written = written or _commit(row, "commit_hash")
    if written and commit and not (written.startswith(commit) or commit.startswith(written)):
        problems.append(f"the file's name says {commit}, the record {written}: the record counts")
    status = _text(row, "status")
    if not status:
        problems.append("it has no status")
    return Record(
        file=path,
        part=part,
        schema=schema,
        commit=max(written, commit if not written or commit.startswith(written) else "", key=len),
        parent=_commit(row, "parent_commit", "parent_hash"),
        model=_text(row, "model"),
        arm=names.as_arm(arm) or names.as_arm(_text(row, "role")) or of_name or _arm_of(schema, row, arm),
        agent=_agent(row) or agent,
        status=status,
        error=clip(clean(_text(row, "error")), 1000),
        mode=_mode(row, metrics),
        recorded=metrics,
        raw=raw,
        command=_text(row, "perf_command"),
        duration_s=_number(row.get("duration_s")),
        timestamp=clip(clean(_text(row, "timestamp")), 40),
        overrides=schema in {"threeway", "flat_baseline"} and row.get("model_overrides_disabled") is not True,
        asymmetric=row.get("is_asymmetric") is True,
        problems=tuple(problems),
    )


def _agent(row: Mapping[str, Any]) -> str:
    parts = [_text(row, "agent_name"), _text(row, "model_name")]
    return clip(clean("/".join(part for part in parts if part)), 100)


def _arm_of(schema: Schema, row: Mapping[str, Any], arm: str) -> Arm:
    if schema == "flat_baseline" or (schema == "modal" and not arm and row.get("has_agent_patch") is False):
        return "baseline"
    return "agent"


_MODES: tuple[tuple[str, Mode], ...] = (
    ("prefix_caching", "prefix_caching"),
    ("benchmark_latency", "latency"),
    ("bench latency", "latency"),
    ("benchmark_throughput", "throughput"),
    ("bench throughput", "throughput"),
    ("benchmark_serving", "serving"),
    ("bench serve", "serving"),
)


def _mode(row: Mapping[str, Any], metrics: Mapping[str, float]) -> Mode | None:
    """What was measured: by the metrics' names, by a word of the record, by the command."""
    if found := names.mode_of_metrics(frozenset(metrics)):
        said = _text(row, "benchmark_type", "benchmark_mode")
        return "serving" if found == "throughput" and said == "serving" else found
    for word in (_text(row, "benchmark_type"), _text(row, "benchmark_mode"), _text(row, "perf_command")):
        for mode in ("serving", "throughput", "latency", "prefix_caching"):
            if word == mode:
                return mode
        for words, mode in _MODES:
            if words in word:
                return mode
    return None
