"""The lines of a log that tell an error, and the one of them that is nearest to its cause."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from isobench_tui.results.models import Evidence
from isobench_tui.results.text import MAX_PIECE, LogBytes, clean, clip, lines

MAX_TEXT = 1000
"""Characters of a log line that evidence quotes."""
KEEP = 50
"""Error lines kept of each rank, half of them the first ones, half the last: a log may hold millions."""
TRACEBACK = 64 * 1024
"""Bytes before an exception in which its traceback is looked for."""
_BLOCK = 128 * 1024
"""Bytes that are searched at once."""

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


_HINTS = (
    b"rror", b"RROR", b"xception", b"CRITICAL", b"FATAL", b"fatal:", b"Exit", b"Interrupt", b"Killed", b"fault",
    b"space left", b"not found", b"FAILED", b"can't ", b"****", b"NVRM:", b"DEPRECATED:", b"SERVER_", b"AGENT_PATCH",
    b"docker: ", b"unexpected EOF",
)  # fmt: skip
"""Every line of interest holds one of these: most of a large log is dropped by this alone."""
_HINT = re.compile(b"|".join(re.escape(hint) for hint in _HINTS))
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


@dataclass(frozen=True, slots=True)
class _Hit:
    """A piece of a line that may tell an error."""

    line: int
    at: int
    raw: bytes
    below: bytes
    """The line below it, where a pydantic ValidationError may be."""


_ENDS = re.compile(rb"[\r\n\0]")


def _hits(log: LogBytes) -> Iterator[_Hit]:
    """The pieces, as `text.pieces` cuts them, that hold a hint of an error. All else is skipped at memory speed."""
    number, begin = 1, 0
    while begin < len(log):
        end = log.find(b"\n", begin + _BLOCK) + 1 or len(log)
        block = log[begin:end]
        # twice as fast as the pattern where nothing is to be found
        done = 0 if any(hint in block for hint in _HINTS) else len(block)
        counted = 0
        while hint := _HINT.search(block, done):
            start = max(block.rfind(mark, done, hint.start()) for mark in (b"\n", b"\r", b"\0")) + 1 or done
            stop = found.start() if (found := _ENDS.search(block, hint.end())) else len(block)
            number += block.count(b"\n", counted, start)
            counted, done = start, stop
            if hint.end() <= start + MAX_PIECE:
                raw, below = block[start : min(stop, start + MAX_PIECE)], b""
                if b"validation error" in raw and (feed := block.find(b"\n", stop)) >= 0:
                    below = block[feed + 1 : feed + 1 + MAX_PIECE]
                yield _Hit(number, begin + start, raw, below)
        number += block.count(b"\n", counted)
        begin = end


@dataclass(slots=True)
class _Kept:
    """The first and the last lines of one rank."""

    first: list[ErrorLine] = field(default_factory=list)
    last: deque[ErrorLine] = field(default_factory=lambda: deque(maxlen=KEEP // 2))

    def add(self, line: ErrorLine) -> None:
        (self.first if len(self.first) < KEEP - KEEP // 2 else self.last).append(line)


def find_error_lines(log: LogBytes) -> list[ErrorLine]:
    """The error lines of the whole log in order: at most KEEP of each source and kind, the first and the last.

    The last line of a pydantic ValidationError only counts errors; the line below it says what is wrong, so that one
    is given as well. The harmless warning about `ulimit` that holds `OSError: [Errno 24]` is none.
    """
    kept: dict[tuple[Source, Kind], _Kept] = {}
    for hit in _hits(log):
        text = clean(hit.raw.decode("utf-8", "replace")).rstrip()
        known = _classify(text)
        if known is None or _HARMLESS.search(text):
            continue
        source, kind, process = known
        rank = kept.setdefault((source, kind), _Kept())
        rank.add(ErrorLine(hit.line, clip(text, MAX_TEXT), source, kind, hit.at, process))
        if kind == "exception" and _PYDANTIC.search(text):
            below = _ENDS.split(hit.below, maxsplit=1)[0]
            stated = stripped(clean(below.decode("utf-8", "replace"))).strip()
            if stated:
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
    step = 1 << 20
    end = len(log) - len(tail)
    before = sum(log[start : min(end, start + step)].count(b"\n") for start in range(0, end, step))
    return Evidence(file, before + last[0], clip(last[1], MAX_TEXT))
