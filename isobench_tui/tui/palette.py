"""The command palette: the verbs of the action table that work everywhere, and the themes. Tens, not thousands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from textual.app import SystemCommand

from isobench_tui.tui.actions import APP, QUEUE, Action
from isobench_tui.tui.board import Board

if TYPE_CHECKING:
    from textual.app import App


def verbs(app: App[None]) -> Iterator[SystemCommand]:
    """Every action of the screen and of the queue that may be done now."""
    board = next((screen for screen in app.screen_stack if isinstance(screen, Board)), None)
    if board is None:
        return
    for action in (*APP, *QUEUE):
        if not (action.steers and board.readonly):
            yield SystemCommand(action.label, action.help, _does(app, board, action))
    yield SystemCommand("Theme", "choose other colours for now", app.action_change_theme)


def _does(app: App[None], board: Board, action: Action) -> Callable[[], Awaitable[None]]:
    where = board.queue if action.pane == "queue" else board

    async def do() -> None:
        await app.run_action(action.name, where)

    return do
