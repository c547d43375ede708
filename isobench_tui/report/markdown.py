"""Text that anybody may have written, as cells of a Markdown table."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from isobench_tui.results.text import clean

_MARKUP = re.compile(r"([\\`*_\[\]|~#!])")
_LINK = re.compile(r"(https?|ftp):(?=//)", re.IGNORECASE)


def plain(value: str) -> str:
    """One line of text without control characters."""
    return clean(value.replace("\r", " ").replace("\n", " ").replace("\t", " "))


def cell(value: object) -> str:
    """Text that neither ends a cell nor becomes markup, HTML or a link; `-` where there is none."""
    if value is None or value == "":
        return "-"
    return _LINK.sub(r"\1&#58;", _MARKUP.sub(r"\\\1", html.escape(plain(str(value)), quote=False)))


def row(cells: Iterable[str]) -> str:
    """One row of a table."""
    return "| " + " | ".join(cells) + " |"
