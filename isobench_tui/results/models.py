"""Facts about one attempt, as `results` derives them from text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Blame = Literal["agent", "harness", "image", "infra", "config", "capacity", "undetermined"]
Outcome = Literal["success", "failed", "timed_out", "cancelled", "interrupted"]
Better = Literal["higher", "lower", "none"]


class Metric(NamedTuple):
    """One number under vLLM's own JSON field name. A tuple: an export makes hundreds of thousands of them."""

    name: str
    value: float
    unit: str
    better: Better


@dataclass(frozen=True, slots=True)
class ClientResult:
    """What one run of the client printed and wrote. `metrics` is empty exactly when `reason` says why."""

    metrics: tuple[Metric, ...] = ()
    reason: str | None = None
    """Why there are no metrics."""
    asked: int | None = None
    completed: int | None = None
    failed: int | None = None
    output_tokens: int | None = None
    window_s: float | None = None
    """Measured window in seconds."""
    disagreements: tuple[str, ...] = ()
    """Where the printed block and the JSON differ beyond rounding."""
    problems: tuple[str, ...] = ()
    """What was left out and why: a metric that is not finite or negative, a result file that cannot be read."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A line of a file in the run directory. `line` is 1-based; 0 where there is no line (an engine's word)."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Failure class, who is to blame, and what proves it."""

    failure: str
    blame: Blame
    reason: str
    """One sentence."""
    evidence: Evidence | None = None
    frame: str = ""
    """`path:line` in a file of the patch that the evidence's traceback passes through; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A finding about validity with the number that raised it."""

    name: str
    effect: Literal["invalidates", "notes"]
    text: str


@dataclass(frozen=True, slots=True)
class TrialFacts:
    """What the driver claims and the files show of one run of the client."""

    index: int
    counted: bool
    exit_code: int | None
    result: ClientResult


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of an attempt: an outcome, and for a success whether it counts."""

    outcome: Outcome
    metrics: tuple[Metric, ...] = ()
    """Means over the counted trials; only with outcome `success`."""
    diagnosis: Diagnosis | None = None
    """Present exactly when outcome is not `success`."""
    flags: tuple[Flag, ...] = field(default=())

    @property
    def valid(self) -> bool:
        return self.outcome == "success" and not any(f.effect == "invalidates" for f in self.flags)
