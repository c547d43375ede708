"""Colours and little drawings that several views share. Colour only repeats what a word or a sign says too."""

from __future__ import annotations

from collections.abc import Sequence

from isobench_tui.tui.snapshot import Job

GOOD, BAD, WARN, DIM, HEAD, LIVE = "green", "red", "yellow", "dim", "bold", "cyan"

_BLOCKS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def spark(values: Sequence[float], width: int, low: float | None = None, high: float | None = None) -> str:
    """The last values as block characters, one for each of `width` cells at most; `low` and `high` set the scale."""
    if not values or width <= 0:
        return ""
    step = max(1.0, len(values) / width)
    shown = [values[min(len(values) - 1, int(at * step))] for at in range(min(width, len(values)))]
    shown[-1] = values[-1]
    bottom = min(shown) if low is None else low
    top = max(shown) if high is None else high
    span = top - bottom
    return "".join(_BLOCKS[round(8 * min(1.0, max(0.0, (v - bottom) / span)))] if span > 0 else "▄" for v in shown)


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
