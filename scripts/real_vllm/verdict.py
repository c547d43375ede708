"""What a finished campaign says: wall time by phase, and whether the four patches came out as what they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from statistics import geometric_mean, mean
from typing import Any

METRIC = "output_throughput"
SLOWER_THAN = 0.8
"""The slow patch adds 30 ms to a step of some 10 ms; a busy host's noise is far from hiding that."""

_PHASES = """
SELECT t.mode, p.phase, p.seconds FROM phases p JOIN attempts a ON a.id = p.attempt_id
JOIN jobs j ON j.id = a.job_id JOIN tasks t ON t.id = j.task_id WHERE p.seconds IS NOT NULL
ORDER BY a.started_at, p.seq
"""
_WALL = """
SELECT t.mode, (julianday(a.closed_at) - julianday(a.started_at)) * 86400 FROM attempts a
JOIN jobs j ON j.id = a.job_id JOIN tasks t ON t.id = j.task_id WHERE a.closed_at IS NOT NULL
"""
_TRIALS = """
SELECT r.exit_code, r.completed, r.asked, r.output_tokens, json_extract(t.workload, '$.output_tokens')
FROM trials r JOIN attempts a ON a.id = r.attempt_id JOIN jobs j ON j.id = a.job_id JOIN tasks t ON t.id = j.task_id
WHERE j.agent = ? ORDER BY a.started_at
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def times(connection: sqlite3.Connection) -> str:
    """Seconds per phase and mode as a Markdown table: mean, and least to most."""
    modes: dict[str, None] = {}
    phases: dict[str, dict[str, list[float]]] = {}
    whole = [(mode, "attempt, start to closed", seconds) for mode, seconds in connection.execute(_WALL)]
    for mode, phase, seconds in [*connection.execute(_PHASES), *whole]:
        modes.setdefault(mode)
        phases.setdefault(phase, {}).setdefault(mode, []).append(seconds)

    def cell(values: list[float]) -> str:
        return f"{mean(values):.2f} ({min(values):.2f} - {max(values):.2f}), n={len(values)}" if values else "-"

    rows = ([phase, *(cell(found.get(mode, [])) for mode in modes)] for phase, found in phases.items())
    return table(["phase (s)", *modes], rows)


def dead_clients(connection: sqlite3.Connection, agent: str) -> list[tuple[int | None, ...]]:
    """Of an agent's runs of the client: exit code, requests completed and asked, output tokens and those expected."""
    return [tuple(row) for row in connection.execute(_TRIALS, (agent,))]


CRASHES = ("patch_crash", "server_crash")
"""`patch_crash` where the traceback's own frames lie in the patch."""


def complaints(rows: list[dict[str, Any]], connection: sqlite3.Connection) -> Iterator[str]:
    """What is not as it must be, in sentences; nothing where all is well."""
    by_agent: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_agent.setdefault(row["agent"] or row["arm"], []).append(row)
    for name in ("baseline", "human", "harmless", "slower"):
        for row in by_agent.get(name, []):
            if row["outcome"] != "success" or not row["valid"]:
                yield f"{place(row)} is no valid success but {row['outcome']}: {row['reason'] or row['flags']}"
    yield from _slower(by_agent)
    for name, telling in (("breaks-import", ("fast_queue",)), ("engine-dies", ("no batch plan", "EngineDeadError"))):
        for row in by_agent.get(name, [{}]):
            text = row.get("evidence_text") or ""
            if row.get("outcome") != "failed" or row.get("class") not in CRASHES:
                yield f"{name} is not failed with a crash but {row.get('outcome')} with {row.get('class')}"
            elif not any(word in text for word in telling):
                yield f"the evidence of {name} tells nothing: {row['evidence_file']}:{row['evidence_line']}: {text}"
    for code, completed, asked, got, expected in dead_clients(connection, "engine-dies"):
        if code != 0 or got is None or expected is None or got >= expected:
            yield f"engine-dies: client exit code {code}, {completed} of {asked} requests, {got} of {expected} tokens"
    if not dead_clients(connection, "engine-dies"):
        yield "engine-dies did not come to its measurement"


def place(row: dict[str, Any]) -> str:
    return f"{row['commit'][:8]}:{row['agent'] or row['arm']}#{row['repeat'] + 1}"


def speeds(rows: list[dict[str, Any]], name: str) -> list[float]:
    """The serving throughputs of an arm or agent in the task that the slow patch is measured in, tokens/s."""
    task = next((row["commit"] for row in rows if row["agent"] == "slower"), None)
    mine = [row for row in rows if row["commit"] == task and (row["agent"] or row["arm"]) == name]
    return [row["metrics"][METRIC]["value"] for row in mine if METRIC in row["metrics"]]


def _slower(by_agent: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    rows = [row for mine in by_agent.values() for row in mine]
    base, slow = speeds(rows, "baseline"), speeds(rows, "slower")
    if not base or not slow:
        yield f"slower cannot be compared: {len(base)} baseline and {len(slow)} slow results"
    elif geometric_mean(slow) > SLOWER_THAN * geometric_mean(base):
        yield f"slower is not slower: {geometric_mean(slow):.0f} tok/s, the baseline {geometric_mean(base):.0f}"
