"""Colours and little drawings that several views share. Colour only repeats what a word or a sign says too."""

from __future__ import annotations

from collections.abc import Sequence

from isobench_tui.tui.snapshot import Job

GOOD, BAD, WARN, DIM, HEAD, LIVE = "green", "red", "yellow", "dim", "bold", "cyan"

_BLOCKS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def spark(values: Sequence[float | None], width: int, low: float | None = None, high: float | None = None) -> str:
    """Values as block characters, oldest first, one for each of `width` cells at most; a gap where there is none.

    `low` and `high` set the scale, else the values do.
    """
    known = [value for value in values if value is not None]
    if not known or width <= 0:
        return ""
    count = min(width, len(values))
    shown = [values[len(values) - 1 - (count - 1 - at) * len(values) // count] for at in range(count)]
    bottom = min(known) if low is None else low
    span = (max(known) if high is None else high) - bottom
    return "".join(" " if value is None else _block((value - bottom) / span if span > 0 else 0.5) for value in shown)


def _block(share: float) -> str:
    return _BLOCKS[max(1, min(8, round(8 * share)))]


def bar(share: float, width: int) -> str:
    """A share of 1 as a bar of `width` cells, in eighths."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width, "░")


def state_word(job: Job) -> tuple[str, str]:
    """(word, colour) for where a job stands: `valid`, `INVALID`, its failure class, its phase, or its state."""
    if job.state == "done":
        if job.outcome == "success":
            return ("valid", GOOD) if job.valid else ("INVALID", WARN)
        return job.failure or job.outcome or "failed", BAD
    if job.state == "running":
        return ("stopping" if job.stopping else job.phase or "running"), LIVE
    return job.state, WARN if job.state == "held" else DIM
