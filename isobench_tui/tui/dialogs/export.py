"""What to write to a file, in which form, and where; says the path once it is there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from isobench_tui.report.export import Format
from isobench_tui.report.save import FORMATS, WHATS, What
from isobench_tui.store.workspace import WorkspaceError
from isobench_tui.tui.widgets.choice import Choice

Write = Callable[[What, Format, str], Path]
"""(what, format, folder) -> the new file; called in a thread. Raises OSError, WorkspaceError, sqlite3.Error."""


class ExportDialog(ModalScreen[None]):
    """Stays open after a file is written, so that its path can be read and another form be chosen."""

    BINDINGS: ClassVar = [
        Binding("escape", "leave", "Close"),
        Binding("enter", "write", "Write"),
        Binding("down", "app.focus_next", "Next", show=False),
        Binding("up", "app.focus_previous", "Previous", show=False),
    ]

    def __init__(self, write: Write, folder: Path) -> None:
        super().__init__()
        self._write = write
        self._what = Choice[What]("what", WHATS, id="export-what")
        self._form = Choice[Format]("format", FORMATS, id="export-format")
        self._said = Static(id="export-said", markup=False)
        self._folder = Input(str(folder), id="export-folder")

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog", id="export"):
            yield Static("Export", classes="title", markup=False)
            yield self._what
            yield self._form
            yield Static("folder", markup=False)
            yield self._folder
            yield self._said
            yield Static("enter  write    arrows  choose    escape  close", markup=False, classes="keys")

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_write()

    @work(exclusive=True, exit_on_error=False)
    async def action_write(self) -> None:
        what, form, folder = self._what.value, self._form.value, self._folder.value.strip() or "."
        self._say("writing …")
        try:
            path = await asyncio.to_thread(self._write, what, form, folder)
        except (OSError, RuntimeError, WorkspaceError, sqlite3.Error) as error:
            self._say(f"cannot write it: {error}")
            return
        self._say(f"wrote {path}")

    def _say(self, text: str) -> None:
        self._said.update(text)

    def action_leave(self) -> None:
        self.dismiss(None)
