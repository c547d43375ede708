"""Flags of old results: what speaks against a recorded number, each with the number that raised it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isobench_tui.campaign.models import Mode
from isobench_tui.results import legacy_names as names
from isobench_tui.results.legacy import Record
from isobench_tui.results.models import ClientResult, Diagnosis, Flag
from isobench_tui.results.text import lines

if TYPE_CHECKING:
    from isobench_tui.results.audit import PatchNote

SAME = 0.02
"""Prompt lengths of two arms that differ by less are one workload: they are computed from rounded rates."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A record with what its own output says."""

    record: Record
    mode: Mode | None
    raw: bytes
    result: ClientResult
    model_said: str
    """The model that the output names; empty where it names none."""
    diagnosis: Diagnosis | None
    patch_empty: str
    note: PatchNote | None


def own_flags(one: Measured, min_requests: int, min_window_s: float) -> Iterator[Flag]:
    """What the record and its own output raise."""
    record, result = one.record, one.result
    yield from _of_patch(one)
    if wrong := _wrong(one):
        yield Flag("recorded_metric_wrong", "notes", "; ".join(wrong))
    yield from _evidence(one)
    if flag := _override(one):
        yield flag
    if result.failed:
        yield Flag("failed_requests", "invalidates", f"requests failed: {result.failed} of {result.asked or '?'}")
    requests = result.completed if result.completed is not None else _asked(one)
    if one.mode == "serving" and requests is not None and requests < min_requests and record.status == "success":
        yield Flag(
            "too_few_requests", "invalidates", f"{requests} request{'s' * (requests != 1)}, fewer than {min_requests}"
        )
    if result.metrics and result.window_s is not None and result.window_s < min_window_s:
        yield Flag("short_window", "notes", f"measured for {result.window_s:.3g} s, less than {min_window_s:g} s")
    if record.status == "success" or record.recorded:
        when = f", at {record.timestamp}" if record.timestamp else ""
        text = f"measured by another runner{when}: 0 of image digest, patch hash, exit code and GPU are recorded"
        yield Flag("legacy_unverified", "invalidates", text)


def _of_patch(one: Measured) -> Iterator[Flag]:
    found, note = one.diagnosis, one.note
    if found is not None and found.failure == "patch_not_applied":
        yield Flag("patch_not_applied", "invalidates", found.evidence.text if found.evidence else found.reason)
    if one.patch_empty and note is not None:
        yield Flag("patch_empty", "invalidates", f"0 files changed: {note.file} {one.patch_empty}")
    elif found is not None and found.failure == "patch_empty":
        yield Flag("patch_empty", "invalidates", f"0 files changed: {found.reason}")
    if note is not None and note.compiled:
        some = ", ".join(note.compiled[:3])
        yield Flag("patch_not_compiled", "invalidates", f"{len(note.compiled)} compiled sources, never built: {some}")


def _wrong(one: Measured) -> list[str]:
    """Recorded numbers that the output contradicts, or that the mode cannot have."""
    if one.mode is None or not one.record.recorded:
        return []
    reread = {item.name: item for item in one.result.metrics}
    out = []
    for key, value in one.record.recorded.items():
        ours = names.our_name(one.mode, key)
        if ours is None:
            if names.is_rate(key) and one.mode == "latency":
                source = _engine_line(one.raw, value)
                out.append(f"{key}: {value:g} recorded, but a latency client prints no throughput{source}")
            continue
        name, factor = ours
        if name in reread and not math.isclose(value * factor, reread[name].value, rel_tol=1e-9, abs_tol=1e-9):
            out.append(f"{key}: {value:g} recorded, {name} {reread[name].value:g} {reread[name].unit} in the output")
    return out


_ENGINE = re.compile(r"Avg prompt throughput: (\d{1,15}(?:\.\d{1,15})?) tokens/s")


def _engine_line(raw: bytes, value: float) -> str:
    """Where a bogus throughput came from: a line of the engine's log, if it is among what was kept."""
    for number, text in lines(raw):
        for found in _ENGINE.finditer(text):
            if math.isclose(float(found[1]), value):
                return f" (it is the engine's own log line {number})"
    return "; the engine's log line does (`Avg prompt throughput`)"


_PULL = re.compile(
    r"Unable to find image |\S+: Pulling from |[0-9a-f]{12}: |Digest: sha256:|Status: |BENCHMARK_\w+$|\s*$"
)


def _evidence(one: Measured) -> Iterator[Flag]:
    """Nothing that was kept proves the numbers (or shows the failure)."""
    if one.result.metrics:
        return
    record = one.record
    if record.status != "success" and (one.raw.strip() or not record.recorded):
        if not one.raw.strip():
            yield Flag("evidence_missing", "notes", "0 bytes of output were kept")
        return
    if not one.raw.strip():
        yield Flag("evidence_missing", "invalidates", "0 bytes of output were kept")
        return
    kept = [text for _, text in lines(one.raw)]
    pulled = sum(1 for text in kept if _PULL.match(text))
    if pulled == len(kept):
        yield Flag("evidence_missing", "invalidates", f"all {pulled} kept lines are the progress of the image's pull")
    else:
        yield Flag("evidence_missing", "invalidates", f"{len(kept)} kept lines hold no complete result")


_BEFORE_A_MODEL = frozenset({"image_missing", "pull_failed", "disk_full", "engine_error", "bench_script_missing"})


def _override(one: Measured) -> Flag | None:
    """Another model ran than the one that the record names."""
    record = one.record
    if not record.model or (one.diagnosis is not None and one.diagnosis.failure in _BEFORE_A_MODEL):
        return None
    if one.model_said:
        if one.model_said == record.model or one.model_said.startswith("/"):
            return None
        return Flag("model_overridden", "notes", f"{one.model_said} ran by its own words, {record.model} is recorded")
    used = names.MODEL_OVERRIDES.get(record.model) if record.overrides else None
    if used is None or (record.status != "success" and not one.raw.strip()):
        return None
    return Flag("model_overridden", "notes", f"{used} ran by the runner's table, {record.model} is recorded")


_ASKED = re.compile(r"\bnum_prompts=(\d{1,9})\b|--num-prompts[= ](\d{1,9})\b")


def _asked(one: Measured) -> int | None:
    """Requests that were asked for, by the client's own words."""
    for _, text in lines(one.raw):
        if found := _ASKED.search(text):
            return int(found[1] or found[2])
    return None


def sibling_flags(one: Measured, arms: Sequence[Measured]) -> Iterator[Flag]:
    """What the other arms of the commit raise."""
    if one.record.asymmetric:
        yield Flag("workload_mismatch", "invalidates", "2 commands: the record says that its arms ran different ones")
    mine, differ = _workload(one), []
    for other in arms:
        theirs = _workload(other) if other.record.arm != one.record.arm and other.mode == one.mode else {}
        for what, value in mine.items():
            if what in theirs and abs(value - theirs[what]) > SAME * max(value, theirs[what]):
                differ.append(f"{what}: {value:.4g} here, {theirs[what]:.4g} in the {other.record.arm} arm")
    if differ:
        yield Flag("workload_mismatch", "invalidates", "; ".join(dict.fromkeys(differ)))


def _workload(one: Measured) -> dict[str, float]:
    """What tells one workload of a serving run from another: requests, and the tokens of a prompt."""
    if one.mode != "serving":
        return {}
    values = {item.name: item.value for item in one.result.metrics} or names.known("serving", one.record.recorded)
    out: dict[str, float] = {}
    requests = one.result.completed or _asked(one)
    if requests:
        out["requests"] = float(requests)
    if requests and (tokens := values.get("total_input_tokens")):
        out["tokens a prompt"] = tokens / requests
    elif values.get("request_throughput"):
        total, produced = values.get("total_token_throughput"), values.get("output_throughput")
        given = values.get("input_throughput")
        if given is None and total is not None and produced is not None:
            given = total - produced
        if given:
            out["tokens a prompt"] = given / values["request_throughput"]
    return out
