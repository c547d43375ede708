"""The help: made from the action table, the focused pane's keys first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.text import Text

from isobench_tui.tui.actions import Action
from isobench_tui.tui.views.words import DIM, HEAD, WARN

_NAMES = {
    "question_mark": "?", "slash": "/", "left_square_bracket": "[", "right_square_bracket": "]", "ampersand": "&",
    "exclamation_mark": "!", "colon": ":", "pageup": "PgUp", "pagedown": "PgDn", "escape": "Esc", "plus": "+",
    "minus": "-",
}  # fmt: skip


def help_lines(
    tables: Iterable[tuple[str, tuple[Action, ...]]], keymap: Mapping[str, str], *, readonly: bool, first: str = ""
) -> tuple[Text, ...]:
    """Every action with its key; what steers is left out with `readonly`. `first`: heading of the focused pane."""
    found = sorted(tables, key=lambda table: table[0].lower() != first.lower())
    lines: list[Text] = []
    for heading, actions in found:
        lines += [Text(heading, HEAD)]
        for action in actions:
            if readonly and action.steers:
                continue
            text = Text(f"  {keys(keymap.get(action.id, action.key)):<14}", no_wrap=True)
            text.append(f"{action.label:<16} ")
            text.append(action.help, DIM)
            if action.asks:
                text.append(" (asks first)", WARN)
            lines.append(text)
        lines.append(Text())
    return tuple(lines)


def keys(written: str) -> str:
    """`question_mark` as `?`, `up,k` as `up k`; what has no key is in the palette."""
    if not written:
        return "palette"
    return " ".join(_NAMES.get(key.strip(), key.strip()) for key in written.split(","))
