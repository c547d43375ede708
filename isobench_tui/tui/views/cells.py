"""Text cut and padded to terminal cells: wide characters take two of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.cells import cell_len, chop_cells, set_cell_size

from isobench_tui.report.text import safe


def fit(words: str, width: int, *, right: bool = False) -> str:
    """Exactly so many cells; what is cut off is marked with an ellipsis."""
    taken = cell_len(words)
    if taken > width:
        return set_cell_size(words, width - 1) + "…" if width > 0 else ""
    return " " * (width - taken) + words if right else words + " " * (width - taken)


def plain(words: str) -> str:
    """Other people's words on one line, without anything that a terminal obeys."""
    return safe(" ".join(words.split()))


def wrap(words: str, width: int) -> list[str]:
    """Lines of at most so many cells, cut between words where there are any."""
    return list(_wrapped(plain(words).split(" "), max(8, width)))


def _wrapped(words: Iterable[str], width: int) -> Iterator[str]:
    line = ""
    for word in words:
        if line and cell_len(line) + 1 + cell_len(word) > width:
            yield line
            line = ""
        if cell_len(word) > width:
            *whole, line = chop_cells(word, width)
            yield from whole
        else:
            line = f"{line} {word}" if line else word
    yield line
