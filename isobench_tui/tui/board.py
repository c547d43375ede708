"""The one screen: header, queue, what runs, the machine, and the tabs. It passes snapshots on and steers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, TabbedContent, TabPane

from isobench_tui.store.answer import OK, Rejected
from isobench_tui.store.workspace import WorkspaceError
from isobench_tui.tui.actions import APP, allowed, bindings, tables
from isobench_tui.tui.dialogs.confirm import Confirm
from isobench_tui.tui.dialogs.page import Page
from isobench_tui.tui.messages import JobChosen, OpenJob, ShowLog, Steer
from isobench_tui.tui.panes.queue import QueuePane
from isobench_tui.tui.panes.texts import NowPane, TextPane
from isobench_tui.tui.settings import Settings
from isobench_tui.tui.snapshot import Clock, Selection, Snapshot
from isobench_tui.tui.source import Source
from isobench_tui.tui.steering import Nothing, order
from isobench_tui.tui.tabs import LOG, TABS, Content, preload
from isobench_tui.tui.views.header import header, total
from isobench_tui.tui.views.help import help_lines
from isobench_tui.tui.views.line import Room
from isobench_tui.tui.views.machine import machine_lines

StartRunner = Callable[[], None]
"""Starts a runner and returns once it lives; raises WorkspaceError."""


class Tabs(TabbedContent):
    """The tabs, which may have the screen for themselves."""

    ALLOW_MAXIMIZE = True


class Place(TabPane):
    """Of a tab's content, before which it is empty. A widget without any would show its own name."""

    def render(self) -> str:
        return ""


class Board(Screen[None]):
    """Everything that an operator sees and does."""

    BINDINGS: ClassVar = bindings(APP)
    AUTO_FOCUS = "#queue-list"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - Textual's is no class variable
    VERTICAL_BREAKPOINTS = [(0, "-low"), (34, "-tall")]  # noqa: RUF012

    def __init__(
        self, source: Source, settings: Settings, *, readonly: bool, start_runner: StartRunner | None, clock: Clock
    ) -> None:
        super().__init__()
        self._source, self._settings = source, settings
        self._readonly, self._start_runner, self._clock = readonly, start_runner, clock
        self.snapshot = Snapshot(str(source.workspace.root), True, 0.0)
        self.selection = Selection()
        self.queue = QueuePane(clock, id="queue", readonly=readonly, grouped=settings.grouped)
        self._head = TextPane(self._header, clock, id="header")
        self._now = NowPane(clock, id="now")
        self._machine = TextPane(machine_lines, clock, id="machine", title="Machine")
        self._tabs = {tab.name: Place(tab.title, id=f"tab-{tab.name}") for tab in TABS}
        self._tabbed = Tabs(id="tabs", initial=f"tab-{settings.tab}")
        self._contents: dict[str, Content] = {}
        """Of the tabs that were opened."""
        self._offered = ""
        self._trouble = ""

    def compose(self) -> ComposeResult:
        yield self._head
        with Container(id="body"):
            with Container(id="top"):
                yield self.queue
                with Vertical(id="side"):
                    yield self._now
                    yield self._machine
            with self._tabbed:
                yield from self._tabs.values()
        yield Footer(compact=True, show_command_palette=False)

    async def _content(self, name: str) -> Content:
        """What a tab shows; made when it is first wanted."""
        if name not in self._contents:
            tab = next(tab for tab in TABS if tab.name == name)
            self._contents[name] = tab.make(self._source, self._readonly)
            await self._tabs[name].mount(self._contents[name].widget)
        return self._contents[name]

    @property
    def readonly(self) -> bool:
        return self._readonly or not self.snapshot.writable

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return allowed(APP, action, readonly=self.readonly)

    def tell(self, snapshot: Snapshot) -> None:
        """A new snapshot: every pane gets it, and shows what of it is its own."""
        was, first = self.readonly, not self.snapshot.at
        self.snapshot = snapshot
        if was != self.readonly:
            self.refresh_bindings()
        self.selection = Selection(snapshot.job(self.queue.list.key))
        self._trouble = ""
        for pane in (self.queue, self._head, self._now, self._machine):
            pane.tell(snapshot)
        self._tell_tabs()
        self._offer_runner()
        if first:
            self.call_after_refresh(self._open_first)

    def trouble(self, text: str) -> None:
        """The store cannot be read now: the header says so until it can."""
        self._trouble = text
        self._head.tell(self.snapshot)

    def _header(self, snapshot: Snapshot, room: Room) -> tuple[Text, Text]:
        return header(snapshot, room, readonly=self.readonly, trouble=self._trouble)

    def _tell_tabs(self) -> None:
        for content in self._contents.values():
            content.tell(self.snapshot, self.selection)

    async def _open_first(self) -> None:
        """The queue is on the screen: now the tab, and what other tabs will need."""
        await self._tab_opened()
        if not self.is_attached:
            return
        self.run_worker(preload, thread=True, exit_on_error=False, group="preload")

    @on(TabbedContent.TabActivated)
    async def _tab_opened(self) -> None:
        if self.snapshot.at and self.is_attached:  # not where somebody quits meanwhile
            await self._content(self._tabbed.active.removeprefix("tab-"))
            self._tell_tabs()

    @on(JobChosen)
    def _chosen(self, event: JobChosen) -> None:
        self.selection = Selection(self.snapshot.job(event.job))
        self._tell_tabs()

    @on(OpenJob)
    async def _open(self, event: OpenJob) -> None:
        job = self.snapshot.job(event.job)
        failed = job is not None and job.state == "done" and not job.valid
        self.queue.choose(event.job)
        await self.action_tab(event.tab or ("diagnosis" if failed else LOG))

    @on(ShowLog)
    async def _show_log(self, event: ShowLog) -> None:
        await self.action_tab(LOG)
        content = self._contents.get(LOG)
        if content is not None and content.show_line is not None:
            content.show_line(event.attempt, event.file, event.line)

    async def action_tab(self, name: str) -> None:
        """Open a tab and go into it."""
        if not self.is_attached:
            return
        content = await self._content(name)
        if self.maximized is not None:
            self.minimize()
        self._tabbed.active = f"tab-{name}"
        _focus(content.widget)

    def action_queue(self) -> None:
        if self.maximized is not None:
            self.minimize()
        self.queue.list.focus()

    def action_zoom(self) -> None:
        """The pane that has the focus, over the whole screen."""
        if self.maximized is not None:
            self.minimize()
            return
        pane = self.focused
        while pane is not None and pane.id not in {"queue", "now", "machine", "tabs"}:
            pane = pane.parent if isinstance(pane.parent, Widget) else None
        if pane is not None:
            self.maximize(pane, container=False)

    def action_help(self) -> None:
        first = "Queue" if self.queue.has_focus_within else self._open_title()
        lines = help_lines(tables(), self._settings.keymap, readonly=self.readonly, first=first)
        self.app.push_screen(Page("Keys", lines))

    def _open_title(self) -> str:
        active = self._tabbed.active.removeprefix("tab-")
        return next((tab.title for tab in TABS if tab.name == active), "")

    @work(exit_on_error=False)
    async def action_commands(self) -> None:
        job = self.selection.job
        if job is None:
            self.notify("no job is chosen", markup=False)
            return
        from isobench_tui.tui import commands_page

        title, lines, text = await asyncio.to_thread(commands_page.page, self._source, job)
        self.app.push_screen(Page(title, lines, copy=text))

    def action_export(self) -> None:
        from isobench_tui.tui import loaders
        from isobench_tui.tui.dialogs.export import ExportDialog

        self.app.push_screen(ExportDialog(loaders.export(self._source), self._source.exports))

    def action_quit(self) -> None:
        self.app.exit()

    @on(Steer)
    def _steer(self, event: Steer) -> None:
        self._do(event.action, event.jobs)

    def action_pause(self) -> None:
        self._do("pause")

    def action_pause_now(self) -> None:
        self._do("pause_now")

    def action_stop(self) -> None:
        self._do("stop")

    def action_shutdown(self) -> None:
        self._do("shutdown")

    def action_shutdown_now(self) -> None:
        self._do("shutdown_now")

    def action_cancel(self) -> None:
        self._do("cancel")

    @work(exit_on_error=False)
    async def _do(self, action: str, keys: tuple[str, ...] = ()) -> None:
        """Ask where something would be destroyed, send the command, tell the answer."""
        if self.readonly:
            self.notify("this window only reads", severity="warning", markup=False)
            return
        chosen = tuple(job for job in self.snapshot.jobs if job.id in keys)
        found = order(action, self.snapshot, chosen, self.queue.under)
        if isinstance(found, Nothing):
            self.notify(found.why, severity="warning", markup=False)
            return
        if found.question and not await self.app.push_screen_wait(Confirm(found.question)):
            return
        try:
            answer = await asyncio.to_thread(self._source.command, found.name, found.args)
        except (Rejected, WorkspaceError, sqlite3.Error, OSError) as error:
            self.notify(f"{found.name}: {error}", severity="error", markup=False)
            return
        self.notify(answer.text, severity="information" if answer.exit_code == OK else "error", markup=False)

    def _offer_runner(self) -> None:
        """Once for each time that a runner is gone with work left."""
        runner = self.snapshot.runner
        gone = not runner.alive and total(self.snapshot).left > 0
        state = f"{runner.word} {runner.beat_at}" if gone else ""
        if not gone or state == self._offered or self._start_runner is None or self.readonly:
            return
        self._offered = state
        self.action_start_runner()

    @work(exit_on_error=False, exclusive=True, group="start")
    async def action_start_runner(self) -> None:
        if self.snapshot.runner.alive or self._start_runner is None:
            self.notify(
                "a runner is alive" if self.snapshot.runner.alive else "this window starts none", markup=False
            )
            return
        left = total(self.snapshot).left
        if not await self.app.push_screen_wait(Confirm(f"No runner is alive and {left} jobs are left. Start one?")):
            return
        try:
            await asyncio.to_thread(self._start_runner)
        except (WorkspaceError, OSError) as error:
            self.notify(str(error), severity="error", markup=False)


def _focus(widget: Widget) -> None:
    """The first thing in a pane that takes keys."""
    if widget.focusable:
        widget.focus()
        return
    for inner in widget.query("*"):
        if inner.focusable:
            inner.focus()
            return
