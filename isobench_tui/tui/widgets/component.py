"""The style of a widget's component, as it looks on that widget."""

from __future__ import annotations

from rich.style import Style
from textual.widget import Widget


def component_style(widget: Widget, name: str) -> Style:
    """Only what the stylesheet says of the component. Colours that depend on their ground are mixed with it.

    Textual's own partial style takes `auto` for white, and `20%` of a colour for all of it.
    """
    said = widget.get_component_styles(name)
    whole = widget.get_component_rich_style(name)
    own = widget.get_component_rich_style(name, partial=True)
    return own + Style(
        color=whole.color if said.has_rule("color") or said.has_rule("auto_color") else None,
        bgcolor=whole.bgcolor if said.has_rule("background") else None,
    )
