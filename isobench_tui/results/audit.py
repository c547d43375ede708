"""What was recorded beside what the evidence says: old results read again with our parser and our rules.

Pure: records in, judgements out. The archives kept the last 5,000 - 10,000 characters of an output, no patch, no
image digest, no exit code; what cannot be proven from that is said to be unproven.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from isobench_tui.campaign.models import Mode
from isobench_tui.results import legacy_names as names
from isobench_tui.results.audit_flags import Measured, own_flags, sibling_flags
from isobench_tui.results.classes import blame_for
from isobench_tui.results.clues import Context
from isobench_tui.results.diagnose import diagnose, explain
from isobench_tui.results.legacy import Record, Trouble
from isobench_tui.results.models import ClientResult, Diagnosis, Evidence, Flag
from isobench_tui.results.parse import parse_client
from isobench_tui.results.rules import remedy
from isobench_tui.results.text import clean, clip, lines

Verdict = Literal[
    "confirmed", "corrected", "incomparable", "invalid", "unproven", "failed", "explained", "damaged", "unreadable"
]
VERDICTS: Final[Mapping[Verdict, str]] = {
    "confirmed": "a success; what is kept of the output proves its numbers",
    "corrected": "a success, but a number or the model was recorded wrong",
    "incomparable": "a success, but the arms of its commit measured different workloads",
    "invalid": "recorded as a success, and is none",
    "unproven": "nothing that was kept proves what was recorded",
    "failed": "a failure, recorded as what it is",
    "explained": "a failure of another cause than the one recorded",
    "damaged": "the file is damaged; what can be read of it agrees",
    "unreadable": "no record can be read",
}
"""Each verdict in words. A record agrees with its evidence where it is `confirmed` or `failed`."""

RAW = "raw_output"
"""How evidence names the output that a record keeps; lines count from its first kept one."""


@dataclass(frozen=True, slots=True)
class PatchNote:
    """What is known of the patch that a run was about, where one was found."""

    file: str
    empty: str = ""
    """Why it changes nothing; empty where it changes something."""
    compiled: tuple[str, ...] = ()
    """Compiled sources that it changes."""
    remarks: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Audited:
    """One record with the judgement of its evidence, or a file that holds none."""

    file: str
    verdict: Verdict
    record: Record | None = None
    mode: Mode | None = None
    result: ClientResult = field(default_factory=ClientResult)
    """Read again from the output that was kept."""
    diagnosis: Diagnosis | None = None
    flags: tuple[Flag, ...] = ()
    remarks: tuple[str, ...] = ()
    """What is odd and raises no flag."""
    patch: PatchNote | None = None
    """The agent's patch, where one was found."""
    applied: bool = False
    """The output that was kept says that the patch went in whole."""

    @property
    def agrees(self) -> bool:
        return self.verdict in {"confirmed", "failed"}

    @property
    def remedy(self) -> str:
        return remedy(self.diagnosis.failure) if self.diagnosis else ""

    @property
    def metrics(self) -> dict[str, float]:
        return {item.name: item.value for item in self.result.metrics}


PatchOf = Callable[[Record], PatchNote | None]


def audit(
    records: Sequence[Record],
    troubles: Sequence[Trouble] = (),
    patch_of: PatchOf = lambda _: None,
    *,
    min_requests: int = 10,
    min_window_s: float = 30,
) -> list[Audited]:
    """Judge records, in their order, and then what could not be read.

    `min_requests`: fewer in a serving run say nothing of its percentiles; `min_window_s` as in a campaign file.
    """
    measured = [_measured(record, patch_of(record)) for record in records]
    groups: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for one in measured:
        if one.record.commit:
            groups[one.record.agent, one.record.commit[:8]].append(one)
    out = []
    for one in measured:
        arms = groups.get((one.record.agent, one.record.commit[:8]), [one])
        flags = (*own_flags(one, min_requests, min_window_s), *sibling_flags(one, arms))
        out.append(_judged(one, _settled(one, flags, arms)))
    return out + [_unreadable(trouble) for trouble in troubles]


def _settled(one: Measured, flags: Sequence[Flag], arms: Sequence[Measured]) -> tuple[Flag, ...]:
    """Each flag once; an override that another arm's own words contradict says so."""
    out: dict[str, Flag] = {}
    for flag in flags:
        out.setdefault(flag.name, flag)
    said = sorted({arm.record.arm for arm in arms if arm is not one and arm.model_said == one.record.model})
    overridden = out.get("model_overridden")
    if overridden and said and not one.model_said:
        also = f"; the output of the {' and '.join(said)} arm names the recorded one"
        out["model_overridden"] = replace(overridden, text=overridden.text + also)
    return tuple(out.values())


def _measured(record: Record, note: PatchNote | None) -> Measured:
    """A record with what its own output says."""
    raw = (record.raw or "").encode("utf-8", "replace")
    mode = record.mode or _mode_of(record, raw)
    result = reread(mode, raw) if mode else ClientResult(reason="nothing says what was measured")
    forced = _forced(raw) if record.arm == "agent" else None
    said = model_said(raw)
    note = note if record.arm == "agent" else None
    found = _diagnosis(record, raw, result, note, forced)
    return Measured(record, mode, raw, result, said, found, note.empty if note else "", note)


def _judged(one: Measured, flags: tuple[Flag, ...]) -> Audited:
    record = one.record
    remarks = [*record.problems, *(one.note.remarks if one.note else ())]
    return Audited(
        file=record.place,
        verdict=_verdict(one, flags),
        record=record,
        mode=one.mode,
        result=one.result,
        diagnosis=one.diagnosis,
        flags=flags,
        remarks=tuple(remarks),
        patch=one.note,
        applied=_APPLIED.search(one.raw) is not None,
    )


_SPOILS = {"patch_empty", "patch_not_applied", "patch_not_compiled", "too_few_requests", "failed_requests"}


def _verdict(one: Measured, flags: Sequence[Flag]) -> Verdict:
    record, raised = one.record, {flag.name for flag in flags}
    if record.status != "success":
        found = one.diagnosis
        if found is None or found.failure == "unknown":
            return "unproven"
        if found.failure not in {explain(record.error), _OF_STATUS.get(record.status)}:
            return "explained"
        return "damaged" if record.problems else "failed"
    if one.diagnosis is not None or raised & _SPOILS:
        return "invalid"
    if "evidence_missing" in raised:
        return "unproven"
    if "workload_mismatch" in raised:
        return "incomparable"
    if raised & {"recorded_metric_wrong", "model_overridden"}:
        return "corrected"
    return "damaged" if record.problems else "confirmed"


_OF_STATUS: Final[Mapping[str, str]] = {
    "timeout": "timeout",
    "empty_patch": "patch_empty",
    "patch_failed": "patch_not_applied",
    "image_not_found": "image_missing",
    "setup_failed": "env_broken",
    "no_parent_commit": "harness_misconfig",
    "no_baseline_wheel": "image_missing",
    "version_bug": "env_broken",
}
"""Statuses that are classes by another name."""
_OF_ERROR: Final[tuple[tuple[str, str], ...]] = (
    (r"Missing parent_commit|No parent_commit", "harness_misconfig"),
    (r"Docker image not found|No image", "image_missing"),
    (r"timed out after \d+ ?s|Timeout after|[Tt]imed out after", "timeout"),
)
"""What the runners wrote of themselves, where no log says more."""


def _diagnosis(
    record: Record, raw: bytes, result: ClientResult, note: PatchNote | None, forced: Evidence | None
) -> Diagnosis | None:
    """Why it failed, or why a recorded success is none; None for a success that stands."""
    if forced is not None:
        reason = "The runner forced the patch after its check had failed; what ran is not the agent's work"
        return _made("patch_not_applied", f"{reason}: {forced.text}", forced)
    if note is not None and note.empty:
        return _made("patch_empty", f"The patch {note.empty}.", Evidence(note.file, 0, note.empty))
    if record.status == "success":
        if record.recorded or result.metrics:
            return None
        return _made("no_metrics", "A success without a single number.", None)
    applied = (True if _APPLIED.search(raw) else None) if record.arm == "agent" else False
    context = Context(patched=applied, patch_files=note.paths if note else ())
    found = diagnose({RAW: raw}, context=context) if raw.strip() else _made("unknown", "", None)
    if result.metrics and found.failure in {"unknown", "no_metrics", "client_failed", "timeout"}:
        reason = "Recorded as a failure, but the output holds a complete result"
        return _made("parse_error", f"{reason}.", _line_of(raw, _RESULT))
    if found.failure != "unknown":
        return found
    return _by_record(record) or replace(found, reason=f"Recorded as: {record.error or record.status or 'nothing'}.")


def _by_record(record: Record) -> Diagnosis | None:
    """The class that status and error name by themselves."""
    said = Evidence("error", 0, clip(record.error, 500)) if record.error else Evidence("status", 0, record.status)
    failure = _OF_STATUS.get(record.status) or explain(record.error)
    if failure in {None, "timeout"} or failure == "no_metrics":
        failure = next((name for words, name in _OF_ERROR if re.search(words, record.error)), failure)
    return _made(failure, f"Nothing but the record says: {said.text}.", said) if failure else None


def _made(failure: str, reason: str, evidence: Evidence | None) -> Diagnosis:
    return Diagnosis(failure, blame_for(failure, patched=False), reason, evidence)


_APPLIED = re.compile(rb"^AGENT_PATCH_APPLIED(?:_P1)?\s*$", re.MULTILINE)
_FORCED = re.compile(
    r"Patch dry-run failed|AGENT_PATCH_APPLIED_FALLBACK$|AGENT_PATCH_FAILED$|\d+ out of \d+ hunks? FAILED"
)
_RESULT = re.compile(r"Serving Benchmark Result|(?<!prompt )(?<!\w)Throughput: |Avg latency: |cost time ")


def _forced(raw: bytes) -> Evidence | None:
    """The line that shows that not all of a patch went in: the hunks if they are named, else the runner's words."""
    found = [(number, text) for number, text in lines(raw) if _FORCED.match(text)]
    hunks = [line for line in found if "FAILED" in line[1] and "hunk" in line[1]]
    if not found:
        return None
    number, text = (hunks or found)[0]
    return Evidence(RAW, number, clip(text.strip(), 500))


def _line_of(raw: bytes, words: re.Pattern[str]) -> Evidence | None:
    found = [(number, text) for number, text in lines(raw) if words.search(text)]
    return Evidence(RAW, found[-1][0], clip(found[-1][1].strip(), 500)) if found else None


_SAYS_MODEL = re.compile(r"'model': '([^']+)'|\bmodel='([^']+)'|(?:^|[\s'])--model[= ]\"?'?([\w./-]+)")
_ASKED_FOR = re.compile(r"Original perf command:")


def model_said(raw: bytes) -> str:
    """The model that the output itself names as the one that ran; empty where it names none."""
    for _, text in lines(raw):
        if _ASKED_FOR.match(text):
            continue
        if found := _SAYS_MODEL.search(text):
            return clip(clean(next(group for group in found.groups() if group)), 200)
    return ""


_HEADERS = re.compile(
    r"=== Running \w+(?: (\w+))? benchmark|Running benchmark mode: (\w+)|No (\w+) metrics in output"
)


def _mode_of(record: Record, raw: bytes) -> Mode | None:
    """What was measured, by the runner's own words or by the only mode whose numbers are in the output."""
    modes: tuple[Mode, ...] = ("serving", "throughput", "latency", "prefix_caching")
    for text in (record.error, *(line for _, line in lines(raw[: 64 * 1024]))):
        found = _HEADERS.search(text)
        word = next((group for group in found.groups() if group), "serving") if found else ""
        if word in modes:
            return word
    with_numbers = [mode for mode in modes if parse_client(mode, raw, None).metrics]
    return with_numbers[0] if len(with_numbers) == 1 else None


def reread(mode: Mode, raw: bytes) -> ClientResult:
    """The result in an output that was kept.

    The old runner printed vLLM's block a second time, shortened; of two with the same numbers the fuller counts.
    """
    last = parse_client(mode, raw, None)
    cut = raw.rfind(b"Serving Benchmark Result")
    if mode != "serving" or not last.metrics or cut < 0:
        return last
    before = parse_client(mode, raw[:cut], None)
    numbers = {item.name: item.value for item in before.metrics}
    return before if all(numbers.get(item.name) == item.value for item in last.metrics) else last


def _unreadable(trouble: Trouble) -> Audited:
    proof = Evidence(trouble.file, trouble.line, trouble.text)
    diagnosis = _made("parse_error", f"{trouble.why}.", proof)
    flag = Flag("evidence_missing", "invalidates", f"0 records can be read: {trouble.why}")
    return Audited(trouble.file, "unreadable", diagnosis=diagnosis, flags=(flag,), remarks=(trouble.why,))


def recorded(one: Audited) -> dict[str, float]:
    """The recorded numbers of a record under our names and units."""
    return names.known(one.mode, one.record.recorded) if one.record and one.mode else {}
