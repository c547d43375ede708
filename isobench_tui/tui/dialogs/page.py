"""A page of text over the dashboard: the help, or commands to copy."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from isobench_tui.tui.messages import Copy
from isobench_tui.tui.views.line import Line
from isobench_tui.tui.widgets.lines import LineList


class Page(ModalScreen[None]):
    """Lines to read; `copy` is what the key y copies, nothing by default."""

    BINDINGS: ClassVar = [
        Binding("escape,q,question_mark", "leave", "Close", show=True),
        Binding("y", "copy", "Copy", show=True),
    ]

    def __init__(self, title: str, lines: tuple[Text, ...], copy: str = "") -> None:
        super().__init__()
        self._title, self._lines, self._copy = title, lines, copy

    def compose(self) -> ComposeResult:
        with Vertical(classes="page"):
            yield Static(self._title, markup=False, classes="title")
            yield LineList(cursor=False)
            keys = "y  copy      escape  close" if self._copy else "escape  close"
            yield Static(keys, markup=False, classes="keys")

    def on_mount(self) -> None:
        shown = self.query_one(LineList)
        shown.show(tuple(Line(text) for text in self._lines))
        shown.focus()

    def action_leave(self) -> None:
        self.dismiss(None)

    def action_copy(self) -> None:
        if self._copy:
            self.post_message(Copy(self._copy, self._title))
