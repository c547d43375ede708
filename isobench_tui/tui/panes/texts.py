"""Panes that are a few lines of text made from the snapshot: the header, what runs now, the machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical

from isobench_tui.tui.snapshot import Clock, Snapshot
from isobench_tui.tui.views.line import Line, Room
from isobench_tui.tui.views.now import now_lines
from isobench_tui.tui.widgets.lines import LineList

RATES = 240
"""Readings of tokens/s that the little graph may use."""

View = Callable[[Snapshot, Room], tuple[Text, ...]]


class TextPane(Vertical):
    """Lines drawn from the newest snapshot, again once a second: times pass although nothing moves in the store."""

    ALLOW_MAXIMIZE = True

    def __init__(self, view: View, clock: Clock, *, id: str, title: str = "") -> None:
        super().__init__(id=id)
        self._clock = clock
        self._view = view
        self._snapshot: Snapshot | None = None
        self._lines = LineList(cursor=False)
        self.border_title = title or None

    def compose(self) -> ComposeResult:
        yield self._lines

    def on_mount(self) -> None:
        self.set_interval(1.0, self.draw)

    def on_resize(self) -> None:
        self.draw()

    def tell(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.draw()

    def draw(self) -> None:
        """Only lines that differ are painted."""
        shown = self._lines
        if self._snapshot is not None and shown.size.width:
            found = self._view(self._snapshot, Room(self._clock(), shown.size.width, shown.size.height))
            shown.show(tuple(Line(text) for text in found))


class NowPane(TextPane):
    """The running attempts. Remembers what tokens/s were, for the graph."""

    def __init__(self, clock: Clock, *, id: str) -> None:
        super().__init__(lambda snapshot, room: now_lines(snapshot, room, self._rates), clock, id=id, title="Now")
        self._rates: dict[str, deque[float]] = {}
        self._rated: dict[str, str] = {}
        """Attempt -> when its newest reading was written: a snapshot may bring it again."""

    def tell(self, snapshot: Snapshot) -> None:
        open_now = {one.attempt for one in snapshot.running}
        self._rates = {key: rates for key, rates in self._rates.items() if key in open_now}
        for one in snapshot.running:
            if one.live is None or one.live.tokens_per_s is None or self._rated.get(one.attempt) == one.live_at:
                continue
            self._rated[one.attempt] = one.live_at
            self._rates.setdefault(one.attempt, deque(maxlen=RATES)).append(one.live.tokens_per_s)
        super().tell(snapshot)
