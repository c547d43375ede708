"""A question before something is destroyed."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static


class Confirm(ModalScreen[bool]):
    """`y` says yes; everything else that closes it says no."""

    BINDINGS: ClassVar = [
        Binding("y", "answer(True)", "Yes", show=True),
        Binding("n,escape,q,enter", "answer(False)", "No", show=True),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._question, markup=False)
            yield Static("y  yes      n  no", markup=False, classes="keys")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)
