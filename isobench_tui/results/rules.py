"""The failure classes in one ordered table: whose fault, what shows it, what the queue does, what an operator can do.

Order is meaning: of two rules that fit one line the upper one wins, and causes stand above symptoms.
"""

from __future__ import annotations

from typing import Final

from isobench_tui.results import clues
from isobench_tui.results.causes import CAUSES
from isobench_tui.results.rule import ONCE, THRICE, TWICE, Retry, Rule, cause

__all__ = ["TABLE", "Retry", "Rule", "remedy", "rule"]

SYMPTOMS: Final[tuple[Rule, ...]] = (
    # ------------------------------------------------------------------- what ended, where nothing says why
    Rule(
        "parse_error",
        "harness",
        "Report the result file and the log: the client wrote something that this version does not understand.",
        ONCE,
        (cause(r"could not convert string to float"),),
        symptom=True,
    ),
    Rule(
        "server_timeout",
        "undetermined",
        "Read the server's last lines: raise `[timeouts] server` if it was still loading, else see what kept it.",
        TWICE,
        (cause(r"^SERVER_TIMEOUT$", r"^Server startup timeout"),),
        symptom=True,
    ),
    Rule(
        "timeout",
        "undetermined",
        "Read the phase's last lines: raise its deadline in `[timeouts]` if it was still at work.",
        TWICE,
        (cause(r"[Bb]enchmark timed out after", r"^Timeout after \d+s", r"Benchmark exceeded \d+s timeout"),),
        symptom=True,
    ),
    Rule(
        "server_crash",
        "undetermined",
        "Read the server's log around the evidence; `isobench why` shows the same line of the other arms.",
        TWICE,
        (
            cause(
                r"^SERVER_(?:CRASHED|START_FAILED)$",
                r"EngineDeadError",
                r"Engine (?:core|process) .*failed",
                r"WorkerProc (?:initialization )?failed",
                r"^Server crashed",
            ),
            cause(r"", where=("server",), check=clues.known_origin),
        ),
        symptom=True,
    ),
    Rule(
        "client_failed",
        "undetermined",
        "Read the client's log around the evidence, then the server's at the same time.",
        TWICE,
        (
            cause(
                r"Cannot connect to host",
                r"Initial test run failed",
                r"Client\w*Error\b",
                r"ServerDisconnectedError",
                r"^Error \d+: ",
            ),
            cause(r"", where=("client",), check=clues.known_origin),
        ),
        symptom=True,
    ),
    Rule(
        "no_metrics",
        "undetermined",
        "Read the client's log: it ended without a complete result.",
        TWICE,
        (cause(r"^No (?:\w+ )?metrics in (?:agent )?output"),),
        symptom=True,
    ),
    # -------------------------------------------------------------------------- somebody's decision or nobody's
    Rule("cancelled", "undetermined", "Nothing to mend; `isobench retry` queues it again.", symptom=True),
    Rule("interrupted", "undetermined", "Nothing to mend: it is queued again by itself.", symptom=True),
    Rule(
        "unknown",
        "undetermined",
        "Read the logs (`isobench logs`): nothing in them is known to this version.",
        THRICE,
        symptom=True,
    ),
)
"""What ended, where nothing says why; and somebody's decisions."""

TABLE: Final[tuple[Rule, ...]] = CAUSES + SYMPTOMS


def rule(failure: str) -> Rule | None:
    """The rule of a class, None for names that the table does not know."""
    return next((found for found in TABLE if found.failure == failure), None)


def remedy(failure: str) -> str:
    """What the operator can do about a class; empty for names that the table does not know."""
    found = rule(failure)
    return found.remedy if found else ""
