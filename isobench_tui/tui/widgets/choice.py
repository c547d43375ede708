"""One of a few words: left and right go to the next, the chosen one stands in brackets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual.binding import Binding
from textual.widgets import Static

from isobench_tui.tui.views.words import DIM, HEAD

Word = TypeVar("Word", bound=str)


class Choice(Static, Generic[Word], can_focus=True):
    """`what      [results]  leaderboard   events`."""

    BINDINGS: ClassVar = [
        Binding("right,space,l", "step(1)", "Next", show=False),
        Binding("left,h", "step(-1)", "Previous", show=False),
    ]

    def __init__(self, label: str, words: Sequence[Word], *, id: str) -> None:
        super().__init__(id=id, markup=False)
        self._label, self._words, self._at = label, tuple(words), 0

    @property
    def value(self) -> Word:
        return self._words[self._at]

    def on_mount(self) -> None:
        self._draw()

    def action_step(self, by: int) -> None:
        self._at = (self._at + by) % len(self._words)
        self._draw()

    def on_click(self) -> None:
        self.action_step(1)

    def _draw(self) -> None:
        text = Text(f"{self._label:<9}", no_wrap=True)
        for word in self._words:
            mine = word == self.value
            text.append(f"[{word}] " if mine else f" {word}  ", HEAD if mine else DIM)
        self.update(text)
