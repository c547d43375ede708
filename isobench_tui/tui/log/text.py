r"""Bytes of a log to what may be shown of them. Logs are hostile: any byte, any length, any control sequence.

Of a line is shown: of a progress bar its last state (what follows the last `\r`); UTF-8, other bytes as U+FFFD;
colours, as styles and never as sequences; no other control sequence or character, none that is invisible or turns
the direction of text; tabs as spaces; the first MAX_SHOWN characters. Searches see exactly this text, so what is
found is what is highlighted.
"""

from __future__ import annotations

from dataclasses import dataclass

import regex
from rich.style import Style

from isobench_tui.tui.log import sgr

MAX_SHOWN = 4096
"""Characters of a line that are shown."""
MAX_RAW = 16 * 1024
"""Bytes of a line that are looked at; the rest of a longer one is only counted."""
_MOST_CHANGES = 256
"""Colour changes of one line that are followed."""

_PLAIN = bytes(range(0x20, 0x7F)) + b"\n"
# Every alternative ends for certain where it stops, so that no text makes these patterns go back and try again.
_ESCAPE = regex.compile(
    r"(?:\x1b\[|\x9b)(?P<args>[0-?]*)[ -/]*(?P<end>[@-~])"  # CSI: colours, cursor (ECMA-48, 5.4)
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])"  # OSC, DCS, SOS, PM, APC ...
    r"[^\x07\x1b\x9c\n]*+(?:\x07|\x1b\\|\x9c|(?=[\n\x1b])|\Z)"  # ... up to their end, however they end
    r"|\x1b[ -/]*[0-~]"  # two characters
)
_OVERWRITTEN = regex.compile(r"(?m)^[^\n]*\r(?=[^\r\n])")
_UNSEEN = regex.compile(r"[[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]--[\t\n]]", regex.V1)
"""Controls, marks of direction, joiners, fillers, variation selectors, private and unassigned characters."""
_STACK = regex.compile(r"(\p{M}{3})\p{M}+")
"""More marks on one letter than any language has; terminals draw them over the lines above and below."""


Styles = tuple[tuple[int, int, Style], ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of one line."""

    text: str
    """Printable, without tabs and line ends; never markup."""
    styles: Styles = ()
    """(start, end, colours) of parts of the text, in order."""
    more: int = 0
    """Characters or bytes that were cut off."""


def plain(raw: bytes) -> str:
    r"""The shown text of whole lines, uncut, still separated by `\n`."""
    if not raw.translate(None, _PLAIN):
        return raw.decode("ascii")
    return _finish(_ESCAPE.sub("", _decode(raw)))


def shown(raw: bytes, more: int = 0) -> Shown:
    r"""One line without its `\n`. `more`: bytes of it that the caller left out."""
    easy = not raw.translate(None, _PLAIN)
    text, styles = (raw.decode("ascii"), ()) if easy else _styled(_decode(raw))
    if len(text) > MAX_SHOWN:
        more += len(text) - MAX_SHOWN
        styles = tuple((start, min(end, MAX_SHOWN), style) for start, end, style in styles if start < MAX_SHOWN)
        text = text[:MAX_SHOWN]
    return Shown(text, styles, more)


def _decode(raw: bytes) -> str:
    text = raw.replace(b"\0", b"").decode("utf-8", "replace")  # NULs: what a hole leaves of its first and last block
    return _OVERWRITTEN.sub("", text) if "\r" in text else text


def _finish(text: str) -> str:
    """`text`, free of sequences, without what must not or cannot be seen."""
    text = _UNSEEN.sub("", text)
    return (text if text.isascii() else _STACK.sub(r"\1", text)).expandtabs()


def _styled(text: str) -> tuple[str, Styles]:
    if _ESCAPE.search(text) is None:
        return _finish(text), ()
    parts: list[str] = []
    length, done = 0, 0
    changes: list[tuple[int, sgr.Pen]] = []
    pen = sgr.Pen()
    for match in _ESCAPE.finditer(text):
        parts.append(text[done : match.start()])
        length += match.start() - done
        done = match.end()
        if match["end"] == "m" and len(changes) < _MOST_CHANGES:
            pen = sgr.apply(pen, match["args"])
            changes.append((length, pen))
    parts.append(text[done:])
    joined = "".join(parts)
    final = _finish(joined)
    if final != joined:
        # a position is moved by what was dropped or widened before it; many are not worth that work
        changes = [(len(_finish(joined[:at])), pen) for at, pen in changes[:32]]
    ends = [at for at, _ in changes[1:]] + [len(final)]
    return final, tuple(
        (at, end, style)
        for (at, pen), end in zip(changes, ends, strict=False)
        if end > at and (style := sgr.style(pen)) is not None
    )
