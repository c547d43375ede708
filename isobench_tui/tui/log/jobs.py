"""What takes the reader more than a moment, as steps between which it does other things and can drop the rest.

Each is a generator that yields between its steps and returns what to do with what it found.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from isobench_tui.tui.copying import clipped, new_file, to_file
from isobench_tui.tui.log.index import BLOCK
from isobench_tui.tui.log.lines import RawLine, line_start
from isobench_tui.tui.log.page import Lens, draw
from isobench_tui.tui.log.place import Place, ToLine, ToShare
from isobench_tui.tui.log.state import Written

_STEP_LINES = 500
COPY_CAP = 64 * 1024**2
"""Characters that the file of a copy gets; more is what saving is for."""


@dataclass(frozen=True, slots=True)
class GoTo:
    """Show this place; `at` None: there is none."""

    at: int | None
    note: str = ""
    match: bool = False
    """It is what was searched."""


Job = Generator[None, None, "GoTo | Written"]


def next_match(lens: Lens, here: int, *, back: bool) -> Job:
    """The next matching line that the filter shows as well; behind the last one the first one."""
    if (scan := lens.search) is None:
        return GoTo(None, "nothing is searched: / searches, e goes to the first error")
    for again in (False, True):
        start = (lens.document.size + 1 if back else -1) if again else here
        while True:
            at: int | None = None
            for at in scan.before(start) if back else scan.after(start):
                if at is None:
                    yield
                if scan.gave_up:
                    return GoTo(None, f"{scan.matcher.label}: this pattern does not come to an end on this log")
            if at is None:
                break
            if lens.filter is None or at in lens.filter.hits(at // BLOCK):
                return GoTo(at, f"search went on from the {'end' if back else 'start'}" if again else "", match=True)
            start = at
            yield
    return GoTo(None, f"{scan.matcher.label}: not found" + (" in what the filter shows" if lens.filter else ""))


def to_place(lens: Lens, place: Place) -> Job:
    """Where a place is; lines are waited for until they are counted."""
    document = lens.document
    if isinstance(place, ToLine):
        if document.merged:
            return GoTo(None, "merged logs have no line numbers: [ and ] choose one log")
        while (at := lens.index.offset(place.number)) is None or at >= document.size:
            if lens.index.complete:
                return GoTo(line_start(document, max(0, document.size - 1)), f"it has {lens.index.lines:,} lines")
            lens.index.step()
            yield
        return GoTo(at)
    if isinstance(place, ToShare):
        return GoTo(line_start(document, int(place.share * max(0, document.size - 1))))
    found = document.at_time(place.at)
    if found is None:
        if any(file.times.at for file in document.files):
            return GoTo(line_start(document, max(0, document.size - 1)), "nothing was written at that time or later")
        return GoTo(None, "it is not known when this log was written: it has no time index")
    start = line_start(document, found)
    # the line in which the index entry falls was written before, unless it begins there
    feed = document.read(found, BLOCK).find(b"\n")
    return GoTo(start if start == found or feed < 0 else found + feed + 1)


def visible(lens: Lens, start: int, end: int | None, *, tagged: bool) -> Generator[str | None, None, None]:
    """The shown lines from one offset to another (None: the end), each with its line end; None between steps."""
    for count, raw in enumerate(lens.down(start)):
        if raw is None or count % _STEP_LINES == 0:
            yield None
        if raw is None:
            continue
        if end is not None and raw.at >= end:
            return
        yield _as_text(lens, raw, tagged=tagged)


def _as_text(lens: Lens, raw: RawLine, *, tagged: bool) -> str:
    line = draw(lens.document, raw)
    more = f" … {line.shown.more:,} more" if line.shown.more else ""
    tag = f"{line.key[0].removesuffix('.log'):<9} | " if tagged else ""
    return f"{tag}{line.shown.text}{more}\n"


def copy(lens: Lens, start: int, end: int, folder: Path, stem: str) -> Job:
    """Lines to a file, and as many as it takes to the clipboard. Raises OSError."""
    parts: list[str] = []
    length = 0
    for text in visible(lens, start, end, tagged=lens.document.merged):
        if text is None:
            yield
            continue
        parts.append(text)
        length += len(text)
        if length > COPY_CAP:
            break
    whole = "".join(parts)
    short = clipped(whole)
    path = to_file(whole, folder, stem)
    lines = f"{len(parts):,} line{'s' if len(parts) != 1 else ''}"
    what = lines if short == whole else f"the first {len(short.encode()):,} bytes of {lines}"
    return Written(
        f"copied {what}, if the terminal allows it (tmux: set-clipboard on); all of it is in {path}", short
    )


def save(lens: Lens, folder: Path, stem: str, progress: list[str]) -> Job:
    """All that the filter shows to a new file. Raises OSError."""
    lines, told = 0, time.monotonic()
    with new_file(folder, stem) as (file, path):
        for text in visible(lens, 0, None, tagged=lens.document.merged):
            if text is not None:
                file.write(text)
                lines += 1
                continue
            if time.monotonic() - told > 0.5:
                told = time.monotonic()
                progress[:] = [f"saving: {lines:,} lines so far; escape stops it"]
            yield
    return Written(f"saved {lines:,} lines to {path}")
