"""From whole logs to the rule that explains them, with the line that proves it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

from isobench_tui.campaign.models import Mode
from isobench_tui.results.classes import blame_for
from isobench_tui.results.clues import Clue, Context, patched_frame
from isobench_tui.results.errors import ErrorLine, find_error_lines, frames, last_line, ranked, stripped
from isobench_tui.results.life import dead_engine
from isobench_tui.results.models import Diagnosis, Evidence
from isobench_tui.results.parse import parse_client
from isobench_tui.results.rule import FileKind, Rule
from isobench_tui.results.rules import TABLE
from isobench_tui.results.text import LogBytes, clip

EXIT_DEADLINE = 124
"""The driver's code for a missed deadline, as `engine.job` fixes it."""
EXIT_STOPPED = 143
"""The driver's code for SIGTERM and SIGINT."""
EXIT_FULL = 75
"""The driver's code (EX_TEMPFAIL of sysexits.h) where a disk was full meanwhile, whatever came of it."""

CHAIN = 400
"""Lines before and after the one nearest to the cause that still belong to the same failure."""
CHAINED = 40
"""Error lines of it that are looked at."""
_SNIFF = 64 * 1024
"""Bytes at the start of a log of unknown name by which its program is guessed."""
_TAIL = 1024 * 1024
"""Bytes at the end of a client's log in which its result is looked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """A rule and the line that shows it."""

    failure: str
    evidence: Evidence
    frame: str = ""
    """`path:line` in a file of the patch, where the line's traceback names one."""


_TELLING = re.compile(
    "|".join(f"(?:{pattern.words.pattern})" for rule in TABLE for pattern in rule.patterns if pattern.scope == "log")
)
"""Words that show their class wherever in a log they stand."""


@dataclass(frozen=True, slots=True)
class Logs:
    """Whole logs by name, in the order in which they are asked for a cause; each is searched once."""

    texts: Mapping[str, LogBytes] = field(default_factory=dict)
    _errors: dict[str, list[ErrorLine]] = field(default_factory=dict)

    def errors(self, name: str) -> list[ErrorLine]:
        """The error lines of a log, the nearest to the cause first."""
        if name not in self._errors:
            self._errors[name] = ranked(find_error_lines(self.texts[name], _TELLING))
        return self._errors[name]

    def cause(self, name: str) -> Evidence | None:
        """The line nearest to the cause, None if the log tells no error."""
        first = next(iter(self.errors(name)), None)
        return Evidence(name, first.line, first.text) if first else None


_SERVER_WORDS = re.compile(rb"API server|api_server|APIServer|EngineCore|uvicorn|vllm serve")
_CLIENT_WORDS = re.compile(
    rb"Namespace\(|benchmark_\w+\.py|vllm bench|Serving Benchmark Result|Starting initial single"
)


def kind_of(name: str, log: LogBytes) -> FileKind:
    """Of which program a log is: by its name (`server.log`, `x.client.log`), else by the words in its first lines."""
    base = name.rsplit("/", 1)[-1]
    kinds: tuple[FileKind, ...] = ("setup", "server", "client", "engine")
    for kind in kinds:
        if base.startswith(kind) or f".{kind}." in base:
            return kind
    head = log[:_SNIFF]
    server, client = _SERVER_WORDS.search(head), _CLIENT_WORDS.search(head)
    if bool(server) == bool(client):
        return "other"
    return "server" if server else "client"


def _clue(log: LogBytes, line: ErrorLine, kind: FileKind, context: Context, *, traced: bool = True) -> Clue:
    calls = tuple(frames(log, line)) if traced and context.patched is not False else ()
    return Clue(stripped(line.text), context, calls, kind != "other")


def _first(
    rules: Sequence[Rule], kind: FileKind, clue: Clue, scopes: Sequence[str], line: ErrorLine, name: str
) -> Found | None:
    for rule in rules:
        for pattern in rule.patterns:
            if pattern.scope in scopes and pattern.fits(kind, clue):
                return Found(rule.failure, Evidence(name, line.line, line.text), patched_frame(clue))
    return None


def _in_log(logs: Logs, name: str, rules: Sequence[Rule], context: Context, *, whole_only: bool) -> Found | None:
    """The rule that explains one log: what is true whatever else failed first, then from the cause downwards."""
    log = logs.texts[name]
    kind = kind_of(name, log)
    found = logs.errors(name)
    everywhere = tuple(rule for rule in rules if any(pattern.scope == "log" for pattern in rule.patterns))
    for line in sorted(found, key=lambda line: line.line):
        if hit := _first(everywhere, kind, _clue(log, line, kind, context, traced=False), ("log",), line, name):
            return replace(hit, frame=patched_frame(_clue(log, line, kind, context)))
    if whole_only or not found:
        return None
    near = [line for line in found if abs(line.line - found[0].line) <= CHAIN][:CHAINED]
    for line in near:
        scopes = ("chain", "line") if line is found[0] else ("chain",)
        if hit := _first(rules, kind, _clue(log, line, kind, context), scopes, line, name):
            return hit
    return None


def find_cause(
    logs: Logs,
    names: Sequence[str],
    context: Context,
    *,
    whole_only: bool = False,
    rules: Sequence[Rule] | None = None,
) -> Found | None:
    """The first of these logs that a rule of a cause explains. `whole_only`: only faults of machine and patch."""
    table = TABLE if rules is None else rules
    causes = tuple(rule for rule in table if not rule.symptom)
    for name in names:
        if name in logs.texts and (hit := _in_log(logs, name, causes, context, whole_only=whole_only)):
            return hit
    return None


def explain(text: str, rules: Sequence[Rule] | None = None) -> str | None:
    """The class of one message that somebody else found and gave without a log; None if no rule knows its words."""
    clue = Clue(text, kind_known=False)
    hit = _first(TABLE if rules is None else rules, "other", clue, ("log", "chain", "line"), _NO_LINE, "")
    return hit.failure if hit else None


def frame_of(logs: Logs, evidence: Evidence, context: Context) -> str:
    """Where in the patch the traceback of an evidence passes through; empty if nowhere, or without a patch."""
    if not context.patched or evidence.file not in logs.texts:
        return ""
    for line in logs.errors(evidence.file):
        if line.line == evidence.line:
            return patched_frame(_clue(logs.texts[evidence.file], line, "other", context))
    return ""


def sentence(reason: str, evidence: Evidence) -> str:
    """A reason with the words of the line that shows the cause."""
    return f"{reason.rstrip('.')}: {clip(stripped(evidence.text).strip(), 300)}"


_NO_LINE = ErrorLine(0, "", "other", "message")
_MODES: tuple[Mode, ...] = get_args(Mode)


def diagnose(
    texts: Mapping[str, LogBytes],
    *,
    exit_code: int | None = None,
    oom_killed: bool = False,
    context: Context | None = None,
    rules: Sequence[Rule] | None = None,
) -> Diagnosis:
    """Judge the logs of one attempt alone, with the exit code of its container or program if that is known.

    `rules` is the table to use, TABLE if not given.
    """
    context = context or Context()
    table = TABLE if rules is None else rules
    logs = Logs(texts)
    kinds = {name: kind_of(name, log) for name, log in texts.items()}
    order: tuple[FileKind, ...] = ("client", "server", "setup", "engine", "other")
    names = sorted(texts, key=lambda name: order.index(kinds[name]))
    patched = context.patched is True

    def made(failure: str, reason: str, evidence: Evidence | None, frame: str = "") -> Diagnosis:
        known = failure if any(rule.failure == failure for rule in table) else "unknown"
        return Diagnosis(known, blame_for(known, patched=patched), reason, evidence, frame)

    if oom_killed:
        said = Evidence("inspect.json", 0, "OOMKilled: true")
        return made("host_oom", "The kernel killed a process of the container for memory.", said)
    if hit := find_cause(logs, names, context, rules=table):
        return made(hit.failure, sentence("The log says", hit.evidence), hit.evidence, hit.frame)
    if exit_code == EXIT_DEADLINE:
        return made("timeout", "The program missed a deadline (exit code 124).", _last(logs, names))
    servers_first = sorted(names, key=lambda name: kinds[name] != "server")
    if hit := _symptom(logs, servers_first, kinds, context, table):
        return made(hit.failure, sentence("The log says", hit.evidence), hit.evidence, hit.frame)
    if exit_code == EXIT_STOPPED:
        return made("interrupted", "The program was stopped from outside (exit code 143).", None)
    return _by_exit(logs, names, kinds, exit_code, made)


def _last(logs: Logs, names: Sequence[str]) -> Evidence | None:
    return next((found for name in names if (found := last_line(name, logs.texts[name]))), None)


def _symptom(
    logs: Logs, names: Sequence[str], kinds: Mapping[str, FileKind], context: Context, table: Sequence[Rule]
) -> Found | None:
    """What ended, from the first log that tells an error; an engine that died while it was stopped tells none."""
    symptoms = tuple(rule for rule in table if rule.symptom)
    for name in names:
        found = logs.errors(name)
        if not found:
            continue
        if "EngineDeadError" in found[0].text and dead_engine(name, logs.texts[name]) is None:
            continue
        clue = _clue(logs.texts[name], found[0], kinds[name], context)
        if hit := _first(symptoms, kinds[name], clue, ("log", "chain", "line"), found[0], name):
            return hit
    return None


def _by_exit(
    logs: Logs,
    names: Sequence[str],
    kinds: Mapping[str, FileKind],
    exit_code: int | None,
    made: Callable[[str, str, Evidence | None], Diagnosis],
) -> Diagnosis:
    """No log tells an error that a rule knows: what the exit code and the client's result say."""
    found = {kind: [name for name in names if kinds[name] == kind] for kind in ("server", "client")}
    told = next((proof for name in names if (proof := logs.cause(name))), None) if exit_code != 0 else None
    if exit_code:
        how = f"was killed by signal {exit_code - 128}" if 128 < exit_code < 160 else f"ended with code {exit_code}"
        which = next((kind for kind in ("server", "client") if found[kind]), "program")
        failure = {"server": "server_crash", "client": "client_failed"}.get(which, "unknown")
        return made(
            failure, f"The {which} {how} and its log does not say why.", told or _last(logs, found.get(which, names))
        )
    for name in found["client"]:
        if lacking := _lacking(logs.texts[name]):
            return made(*lacking, last_line(name, logs.texts[name]))
    return made("unknown", "Nothing in these logs is known to tell of a failure.", told)


def _lacking(log: LogBytes) -> tuple[str, str] | None:
    """Class and reason where a client's log holds no result, or one with failed requests."""
    tail = log[max(0, len(log) - _TAIL) :]
    results = [result for mode in _MODES if (result := parse_client(mode, tail, None)).metrics]
    if not results:
        return "no_metrics", "The client's log holds no complete result."
    failed = max((result.failed or 0 for result in results), default=0)
    return ("client_failed", f"{failed} requests failed.") if failed else None
