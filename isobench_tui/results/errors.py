"""The lines of a log that tell an error, and the one of them that is nearest to its cause."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from isobench_tui.results.models import Evidence
from isobench_tui.results.text import MAX_PIECE, Hints, LogBytes, Piece, clean, clip, line_number, lines

MAX_TEXT = 1000
"""Characters of a log line that evidence quotes."""
KEEP = 50
"""Error lines kept of each rank, half of them the first ones, half the last: a log may hold millions."""
TRACEBACK = 64 * 1024
"""Bytes before an exception in which its traceback is looked for."""
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
    at: int = 0
    """Offset of the line in bytes."""
    process: str = ""
    """How the line names the process that wrote it; empty if it does not."""


_HINTS = Hints(
    b"rror", b"RROR", b"xception", b"CRITICAL", b"FATAL", b"fatal:", b"Exit", b"Interrupt", b"Killed", b"fault",
    b"space left", b"not found", b"FAILED", b"can't ", b"****", b"NVRM:", b"DEPRECATED:", b"SERVER_", b"AGENT_PATCH",
    b"docker: ", b"unexpected EOF",
)  # fmt: skip
"""Every line of interest holds one of these."""
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
    r"|patch: \*\*\*\* |\d+ out of \d+ hunks? FAILED|can't find file to patch|Patch dry-run failed"
    r"|AGENT_PATCH_APPLIED_FALLBACK$"
    r"|Fatal Python error|docker: \S"
    r"|.*(?:[Nn]o space left on device|can't open file '|Segmentation fault|CUDA error: )"
    r"|.*(?:Out of memory: Killed process|NVRM: Xid|Failed to initialize NVML|manifest unknown)"
    r"|.*DEPRECATED: This script has been moved"
    r"|Killed$"
)
_SYMPTOM = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|Engine process failed to start"
    r"|EngineCore encountered an issue|EngineDeadError|died unexpectedly|failed to start\.$|output_handler failed\.$"
    r"|SERVER_(?:CRASHED|TIMEOUT|START_FAILED)$"
)
_HARMLESS = re.compile(r"OSError: \[Errno 24\]")
_PYDANTIC = re.compile(r"\d+ validation errors? for \S+$")


def _source(name: str | None) -> Source:
    if name is None:
        return "other"
    if "Worker" in name:
        return "worker"
    return "engine" if name.startswith("EngineCore") else "other"


def _classify(text: str) -> tuple[Source, Kind, str] | None:
    """What kind of error line this cleaned text is, if any, and the process that wrote it."""
    source: Source = "other"
    process = ""
    if found := _PROCESS.match(text):
        process = found[0].strip()
        source, text = _source(found[1]), text[found.end() :]
    level = ""
    if found := _LOGGER.match(text):
        level, text = found[1], text[found.end() :]
    if level in {"DEBUG", "INFO", "WARNING"} or not text or text[0].isspace() or text.startswith("Traceback ("):
        return None
    if _SYMPTOM.search(text):
        return source, "symptom", process
    if _EXCEPTION.match(text):
        return source, "exception", process
    return (source, "message", process) if level or _MESSAGE.match(text) else None


def stripped(text: str) -> str:
    """A cleaned line without the process and the logger that vLLM writes in front."""
    return _LOGGER.sub("", _PROCESS.sub("", text, count=1), count=1)


_ENDS = re.compile(rb"[\r\n\0]")


def _below(log: LogBytes, piece: Piece) -> str:
    """The line below one, where a pydantic ValidationError says what is wrong."""
    after = log[piece.at : piece.at + 2 * MAX_PIECE]
    feed = after.find(b"\n") + 1
    below = _ENDS.split(after[feed:], maxsplit=1)[0] if feed else b""
    return stripped(clean(below.decode("utf-8", "replace"))).strip()


@dataclass(slots=True)
class _Kept:
    """The first and the last lines of one rank."""

    first: list[ErrorLine] = field(default_factory=list)
    last: deque[ErrorLine] = field(default_factory=lambda: deque(maxlen=KEEP // 2))

    def add(self, line: ErrorLine) -> None:
        (self.first if len(self.first) < KEEP - KEEP // 2 else self.last).append(line)


def find_error_lines(log: LogBytes, telling: re.Pattern[str] | None = None) -> list[ErrorLine]:
    """The error lines of the whole log in order: at most KEEP of each source and kind, the first and the last.

    Those that fit `telling` are kept apart, so that no number of others pushes them out.
    The last line of a pydantic ValidationError only counts errors; the line below it says what is wrong, so that one
    is given as well. The harmless warning about `ulimit` that holds `OSError: [Errno 24]` is none.
    """
    kept: dict[tuple[Source, Kind, bool], _Kept] = {}
    for hit in _HINTS.pieces(log):
        text = hit.text.rstrip()
        known = _classify(text)
        if known is None or _HARMLESS.search(text):
            continue
        source, kind, process = known
        told = telling is not None and telling.search(text) is not None
        rank = kept.setdefault((source, kind, told), _Kept())
        rank.add(ErrorLine(hit.line, clip(text, MAX_TEXT), source, kind, hit.at, process))
        if kind == "exception" and _PYDANTIC.search(text) and (stated := _below(log, hit)):
            rank.add(ErrorLine(hit.line + 1, clip(stated, MAX_TEXT), source, "exception", hit.at, process))
    return sorted((line for rank in kept.values() for line in (*rank.first, *rank.last)), key=lambda line: line.line)


_KINDS: tuple[Kind, ...] = ("exception", "message", "symptom")
_SOURCES: tuple[Source, ...] = ("worker", "engine", "other")


def ranked(found: list[ErrorLine]) -> list[ErrorLine]:
    """Error lines, the nearest to the cause first.

    vLLM's processes fail in a chain, so a worker's last exception goes before the engine core's, and that before the
    API server's; exceptions go before other error messages, and lines that only say that another process failed
    come last.
    """
    return sorted(found, key=lambda line: (_KINDS.index(line.kind), _SOURCES.index(line.source), -line.line))


def root_cause(file: str, log: LogBytes) -> Evidence | None:
    """The error line of the log that is nearest to the cause (see `ranked`), None if it tells no error."""
    first = next(iter(ranked(find_error_lines(log))), None)
    return Evidence(file, first.line, first.text) if first else None


_FRAME = re.compile(r'\s*File "([^"]+)", line (\d{1,9})')
_NAMED = re.compile(r"\((/[^()\s]+\.py)\)")


def frames(log: LogBytes, line: ErrorLine) -> list[tuple[str, int]]:
    """(path, line number) of the traceback that ends in this line, the innermost call first.

    An ImportError names the file of the module that lacks the name; that file comes last, with line 0.
    """
    before = log[max(0, line.at - TRACEBACK) : line.at]
    found: list[tuple[str, int]] = []
    for raw in reversed(_ENDS.split(before)):
        text = clean(raw[:MAX_PIECE].decode("utf-8", "replace"))
        process = named[0].strip() if (named := _PROCESS.match(text)) else ""
        if process != line.process:
            continue
        text = stripped(text)
        if text.startswith("Traceback (most recent call last)"):
            break
        if frame := _FRAME.match(text):
            found.append((frame[1], int(frame[2])))
    if line.kind == "exception" and "Import" in line.text:
        found += [(path, 0) for path in _NAMED.findall(line.text)]
    return found


def last_line(file: str, log: LogBytes) -> Evidence | None:
    """The last line that is not blank: what a process that was killed said last."""
    last: tuple[int, str] | None = None
    tail = log[max(0, len(log) - 64 * 1024) :]
    for number, text in lines(tail):
        if text.strip():
            last = number, text.rstrip()
    if last is None:
        return None
    before = line_number(log, len(log) - len(tail)) - 1
    return Evidence(file, before + last[0], clip(last[1], MAX_TEXT))
