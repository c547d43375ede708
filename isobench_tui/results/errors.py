"""The lines of a log that tell an error, and the one of them that is nearest to its cause."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

from isobench_tui.results.models import Evidence
from isobench_tui.results.text import LogBytes, clean, clip, lines, pieces

MAX_TEXT = 1000
"""Characters of a log line that evidence quotes."""
KEEP = 50
"""Error lines kept of each rank: a log may hold millions."""

Source = Literal["worker", "engine", "other"]
Kind = Literal["exception", "message", "symptom"]


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """One line that tells an error. `source` is vLLM's process that wrote it."""

    line: int
    text: str
    source: Source
    kind: Kind
    """`exception`: a traceback's last line; `message`: another error; `symptom`: says only that something failed"""


_HINT = re.compile(
    rb"rror|ERROR|xception|CRITICAL|FATAL|Fatal|Exit|Interrupt|Killed|fault|No space left|not found|denied|FAILED"
    rb"|can't open|\*\*\*\*"
)
"""Bytes that every line of interest holds: most lines of a large log are dropped by this alone."""
_PROCESS = re.compile(r"\((\w[\w.-]*)[^()]*\bpid=\d+[^()]*\)\s?|\[rank\d+\]:\s?")
_LOGGER = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \[?[\w./-]+:\d+\] ?")
_EXCEPTION = re.compile(
    r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Timeout)(?::\s|:?$)|Exception:\s"
)
_MESSAGE = re.compile(
    r"ERROR:\s+\S"  # uvicorn
    r"|[\w./ -]+: error: "  # argparse, compilers
    r"|Error \d+: (?!Traceback)"  # what bench serve prints of failed requests
    r"|(?:bash|sh|/bin/\w*sh)(?:: line \d+)?: "
    r"|(?:error|fatal|Error|FATAL): "
    r"|patch: \*\*\*\* |\d+ out of \d+ hunks? FAILED"
    r"|Fatal Python error"
    r"|.*(?:No space left on device|can't open file '|Segmentation fault|CUDA error: )"
    r"|Killed$"
)
_SYMPTOM = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|Engine process failed to start"
    r"|EngineCore encountered an issue|EngineDeadError|died unexpectedly|failed to start\.$|output_handler failed\.$"
)
_HARMLESS = re.compile(r"OSError: \[Errno 24\]")
_PYDANTIC = re.compile(r"\d+ validation errors? for \S+$")


def _source(name: str | None) -> Source:
    if name is None:
        return "other"
    if "Worker" in name:
        return "worker"
    return "engine" if name.startswith("EngineCore") else "other"


def _classify(text: str) -> tuple[Source, Kind] | None:
    """What kind of error line this cleaned text is, if any."""
    source: Source = "other"
    if found := _PROCESS.match(text):
        source, text = _source(found[1]), text[found.end() :]
    level = ""
    if found := _LOGGER.match(text):
        level, text = found[1], text[found.end() :]
    if level in {"DEBUG", "INFO", "WARNING"} or not text or text[0].isspace() or text.startswith("Traceback ("):
        return None
    if _SYMPTOM.search(text):
        return source, "symptom"
    if _EXCEPTION.match(text):
        return source, "exception"
    return (source, "message") if level or _MESSAGE.match(text) else None


def find_error_lines(log: LogBytes) -> list[ErrorLine]:
    """The error lines of the whole log in order: at most the last KEEP of each source and kind.

    The last line of a pydantic ValidationError only counts errors; the line below it says what is wrong, so that one
    is given instead. The harmless warning about `ulimit` that holds `OSError: [Errno 24]` is none.
    """
    kept: dict[tuple[Source, Kind], deque[ErrorLine]] = {}
    below: tuple[int, Source] | None = None
    for number, piece in pieces(log):
        if below is not None and number > below[0]:
            stated = _PROCESS.sub("", clean(piece.decode("utf-8", "replace")), count=1)
            stated = _LOGGER.sub("", stated, count=1).strip()
            if stated and number == below[0] + 1:
                found = ErrorLine(number, clip(stated, MAX_TEXT), below[1], "exception")
                kept.setdefault((below[1], "exception"), deque(maxlen=KEEP)).append(found)
            below = None
        if _HINT.search(piece) is None:
            continue
        text = clean(piece.decode("utf-8", "replace")).rstrip()
        known = _classify(text)
        if known is None or _HARMLESS.search(text):
            continue
        source, kind = known
        if kind == "exception" and _PYDANTIC.search(text):
            below = (number, source)
        kept.setdefault(known, deque(maxlen=KEEP)).append(ErrorLine(number, clip(text, MAX_TEXT), source, kind))
    return sorted((line for group in kept.values() for line in group), key=lambda line: line.line)


_KINDS: tuple[Kind, ...] = ("exception", "message", "symptom")
_SOURCES: tuple[Source, ...] = ("worker", "engine", "other")


def root_cause(file: str, log: LogBytes) -> Evidence | None:
    """The error line of the log that is nearest to the cause, None if it tells no error.

    vLLM's processes fail in a chain, so a worker's last exception goes before the engine core's, and that before the
    API server's; exceptions go before other error messages, and lines that only say that another process failed
    come last.
    """
    found = find_error_lines(log)
    ranked = sorted(found, key=lambda line: (_KINDS.index(line.kind), _SOURCES.index(line.source), -line.line))
    return Evidence(file, ranked[0].line, ranked[0].text) if ranked else None


def last_line(file: str, log: LogBytes) -> Evidence | None:
    """The last line that is not blank: what a process that was killed said last."""
    last: tuple[int, str] | None = None
    tail = log[max(0, len(log) - 64 * 1024) :]
    for number, text in lines(tail):
        if text.strip():
            last = number, text.rstrip()
    if last is None:
        return None
    step = 1 << 20
    end = len(log) - len(tail)
    before = sum(log[start : min(end, start + step)].count(b"\n") for start in range(0, end, step))
    return Evidence(file, before + last[0], clip(last[1], MAX_TEXT))
