"""The story of a job as lines; those that stand for a line of a log can be opened there."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from isobench_tui.report.leaderboard_text import SIMULATED
from isobench_tui.report.text import span
from isobench_tui.report.why import Proof, Story, Try
from isobench_tui.report.why_words import Part, tell
from isobench_tui.store.clock import seconds
from isobench_tui.tui.views.cells import fit, plain, wrap
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.views.words import BAD, DIM, GOOD, HEAD, WARN

_TITLE = 15


def lines(story: Story, width: int) -> tuple[Line, ...]:
    """A line of a log has the key `log/ATTEMPT/FILE/LINE`, an attempt `log/ATTEMPT//0` where no line proves it."""
    head = Text(f"{plain(story.name)}  ", HEAD, no_wrap=True)
    head.append(f"job {story.job} of {plain(story.campaign)}", DIM)
    if story.simulated:
        head.append(f"  {SIMULATED}", WARN)
    found = [Line(head)]
    for part in tell(story):
        if part.title == "what proves it" and part.marked is not None:
            found += _proof(story)
        else:
            found += _part(part, width)
    if len(story.attempts) > 1:
        found += [Line(Text("attempts", HEAD)), *map(_attempt, story.attempts)]
    return tuple(found)


def place(key: str) -> tuple[str, str, int] | None:
    """(attempt, file, line) of a line's key; None for lines that stand for none."""
    kind, _, rest = key.partition("/")
    if kind != "log":
        return None
    attempt, _, rest = rest.partition("/")
    file, _, line = rest.rpartition("/")
    return attempt, file, int(line)


def proven(story: Story) -> tuple[str, str, int] | None:
    """Where the line is that proves the newest diagnosis; only the attempt where there is no such line."""
    last = story.last
    if last is None:
        return (story.attempts[-1].attempt, "", 0) if story.attempts else None
    return place(_key(last))


def _key(one: Try) -> str:
    proof = one.diagnosis.evidence if one.diagnosis else None
    return f"log/{one.attempt}/{proof.file}/{proof.line}" if proof and proof.line else f"log/{one.attempt}//0"


def _part(part: Part, width: int) -> Iterator[Line]:
    style = {"what to do": GOOD, "whose fault": WARN}.get(part.title, "")
    first = True
    for line in part.lines:
        for piece in wrap(line, width - _TITLE):
            text = Text(fit(part.title if first else "", _TITLE), HEAD, no_wrap=True)
            text.append(piece, style)
            yield Line(text)
            first = False


def _proof(story: Story) -> Iterator[Line]:
    """The line that proves it among those around it; each can be opened in the log."""
    last = story.last
    proof: Proof | None = last.diagnosis.evidence if last and last.diagnosis else None
    if last is None or proof is None:
        return
    head = Text(fit("what proves it", _TITLE), HEAD, no_wrap=True)
    head.append(f"{plain(proof.file)}:{proof.line}")
    yield Line(head)
    for one in proof.context:
        mine = one.line == proof.line
        text = Text(f"{'>' if mine else ' '} {one.line:>8} ", BAD if mine else DIM, no_wrap=True)
        text.append(plain_line(one.text), BAD if mine else "")
        yield Line(text, f"log/{last.attempt}/{proof.file}/{one.line}")


def plain_line(words: str) -> str:
    """A log's line with its indentation, which says where a traceback goes."""
    return "".join(char if char.isprintable() else "�" for char in words.expandtabs(4))


def _attempt(one: Try) -> Line:
    text = Text(f"  {one.number:>2} ", no_wrap=True)
    if one.outcome is None:
        text.append(f"runs, {one.phase}")
        return Line(text, f"log/{one.attempt}//0")
    took = span(max(0.0, seconds(one.ended_at or one.started_at) - seconds(one.started_at)))
    word, style = (
        (one.outcome, BAD) if one.outcome != "success" else ("valid", GOOD) if one.valid else ("invalid", WARN)
    )
    text.append(fit(word, 12), style)
    text.append(fit(took, 8, right=True) + "  ")
    found = one.diagnosis
    if found is not None:
        text.append(f"{found.failure} ({found.blame}) ", WARN)
        text.append(plain(found.reason), DIM)
    elif one.flags:
        text.append(", ".join(flag.name for flag in one.flags), DIM)
    return Line(text, _key(one))
