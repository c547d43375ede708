"""`parse` and `diagnose`: what the files of one client or one attempt say, without a workspace."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from isobench_tui.campaign import patchlint
from isobench_tui.campaign.models import Mode
from isobench_tui.report.text import safe
from isobench_tui.results.clues import Context
from isobench_tui.results.diagnose import diagnose as judge_logs
from isobench_tui.results.models import ClientResult, Diagnosis
from isobench_tui.results.parse import parse_client
from isobench_tui.results.rules import remedy, rule
from isobench_tui.results.text import LogBytes
from isobench_tui.store.answer import OK, USAGE, Rejected
from isobench_tui.store.rundir import LogFile

FAILED = 1
"""Exit code where the file holds no result."""

MODES: tuple[Mode, ...] = get_args(Mode)


def parse(options: argparse.Namespace) -> int:
    """Print what one client's log or result file says; exit code 1 where it holds no result."""
    with _opened(options.file) as data:
        found = {mode: _read(mode, data) for mode in ([options.mode] if options.mode else MODES)}
    # without --mode the client's own words decide: only its mode finds its numbers
    mode = max(found, key=lambda mode: (len(found[mode].metrics), found[mode].completed is not None))
    result = found[mode]
    known = options.mode is not None or bool(result.metrics) or result.completed is not None
    if not known:
        result = ClientResult(reason="the file holds no complete result of any mode")
    answer: dict[str, Any] = {
        "mode": mode if known else None,
        "metrics": {item.name: item.value for item in result.metrics},
        "asked": result.asked,
        "completed": result.completed,
        "failed": result.failed,
        "window_s": result.window_s,
        "problems": [*([result.reason] if result.reason else []), *result.problems, *result.disagreements],
    }
    if options.json:
        print(json.dumps(answer, indent=1))
    else:
        _show_result(answer, result)
    return OK if result.metrics else FAILED


def diagnose(options: argparse.Namespace) -> int:
    files = [path for given in options.logs for path in _files(given)]
    patch = _patch_files(options.patch)
    context = Context(patched=None if patch is None else True, patch_files=patch or ())
    with contextlib.ExitStack() as stack:
        texts = {path: stack.enter_context(_opened(path)) for path in files}
        found = judge_logs(texts, exit_code=options.exit, oom_killed=options.oom_killed, context=context)
    known = rule(found.failure)
    assert known is not None, found.failure
    proof = found.evidence
    answer = {
        "class": found.failure,
        "blame": found.blame,
        "reason": found.reason,
        "evidence": {"file": proof.file, "line": proof.line, "text": proof.text} if proof else None,
        "remedy": remedy(found.failure),
        "retry": {"attempts": known.retry.attempts, "pauses": known.retry.pauses, "text": str(known.retry)},
    }
    if options.json:
        print(json.dumps(answer, indent=1))
    else:
        _show_diagnosis(found, str(known.retry))
    return OK


def _files(given: str) -> list[str]:
    """A log, or the logs of a run directory."""
    if not Path(given).is_dir():
        return [given]
    found = sorted(str(path) for path in Path(given).glob("*.log") if path.is_file())
    if not found:
        raise Rejected(f"{given} holds no *.log", USAGE)
    return found


def _patch_files(path: str | None) -> tuple[str, ...] | None:
    return None if path is None else patchlint.read(Path(path).read_bytes()).paths


@contextlib.contextmanager
def _opened(path: str) -> Iterator[LogBytes]:
    """The whole file, read in slices; a pipe is read to its end."""
    with Path(path).open("rb") as file:
        yield LogFile(file.fileno(), os.fstat(file.fileno()).st_size) if Path(path).is_file() else file.read()


def _read(mode: Mode, data: LogBytes) -> ClientResult:
    """A file that holds one JSON object is the client's own result, anything else its log."""
    if data[:1024].lstrip().startswith(b"{"):
        return parse_client(mode, b"", data[:])
    return parse_client(mode, data, None)


def _show_result(answer: dict[str, Any], result: ClientResult) -> None:
    print(f"mode       {answer['mode'] or '?'}")
    for name in ("asked", "completed", "failed", "window_s"):
        if answer[name] is not None:
            print(f"{name:10} {answer[name]:g}")
    for item in result.metrics:
        print(f"{item.name:24} {item.value:12.6g} {item.unit}")
    for problem in answer["problems"]:
        print(f"problem: {safe(problem)}")


def _show_diagnosis(found: Diagnosis, retry: str) -> None:
    print(f"{found.failure} (blame: {found.blame})")
    print(safe(found.reason))
    if found.evidence is not None:
        place = f"{found.evidence.file}:{found.evidence.line}" if found.evidence.line else found.evidence.file
        print(f"  {safe(place)}: {safe(found.evidence.text)}")
    print(f"to do: {remedy(found.failure)}")
    print(f"retry: {retry}")
