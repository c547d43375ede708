"""Text that anybody may have written, as cells of a Markdown table."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from functools import lru_cache

from isobench_tui.results.text import clean

_MARKUP = re.compile(r"([\\`*_\[\]|~#!])")
_LINK = re.compile(r"(https?|ftp):(?=//)", re.IGNORECASE)


def plain(value: str) -> str:
    """One line of text without control characters."""
    if value.isascii() and value.isprintable():
        return value
    return clean(value.replace("\r", " ").replace("\n", " ").replace("\t", " "))


def cell(value: object) -> str:
    """Text that neither ends a cell nor becomes markup, HTML or a link; `-` where there is none."""
    return "-" if value is None or value == "" else _escaped(str(value))


@lru_cache(maxsize=4096)
def _escaped(value: str) -> str:
    """Most cells of a long table stand in many rows."""
    return _LINK.sub(r"\1&#58;", _MARKUP.sub(r"\\\1", html.escape(plain(value), quote=False)))


def row(cells: Iterable[str]) -> str:
    """One row of a table."""
    return "| " + " | ".join(cells) + " |"
