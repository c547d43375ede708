"""The dashboard as a program: reads the store in a thread, tells its screen, dies without harm to anything."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textual import on, work
from textual.app import App, SystemCommand
from textual.screen import Screen
from textual.worker import get_current_worker

from isobench_tui.store import db
from isobench_tui.store.workspace import WorkspaceError
from isobench_tui.tui import crash
from isobench_tui.tui.board import Board, StartRunner
from isobench_tui.tui.copying import OSC52_MOST, to_file
from isobench_tui.tui.driver import LossyDriver
from isobench_tui.tui.messages import Copy, ReadFailed, SnapshotArrived
from isobench_tui.tui.palette import verbs
from isobench_tui.tui.reading import Reading
from isobench_tui.tui.settings import Settings
from isobench_tui.tui.snapshot import Clock, Snapshot
from isobench_tui.tui.source import Source
from isobench_tui.tui.views.notices import notices

POLL_S = 0.2
AGAIN_S = 2.0
"""Seconds after which a store that could not be read is tried again."""


class Dashboard(App[None]):
    """A window on a workspace. It holds no truth: quitting or killing it changes nothing."""

    CSS_PATH = "dashboard.tcss"
    TITLE = "isobench"
    ENABLE_COMMAND_PALETTE = True
    NOTIFICATION_TIMEOUT = 6

    def __init__(
        self,
        source: Source,
        settings: Settings,
        *,
        readonly: bool = False,
        start_runner: StartRunner | None = None,
        clock: Clock = time.time,
    ) -> None:
        super().__init__(driver_class=LossyDriver)
        self.source, self.settings = source, settings
        self._readonly, self._start_runner, self._clock = readonly, start_runner, clock
        self._last = Snapshot(str(source.workspace.root), True, 0.0)
        self._ending = threading.Event()
        self.report: Path | None = None
        """Where the report of a crash was written."""

    async def on_mount(self) -> None:
        self.theme = self.settings.theme
        self.set_keymap(self.settings.keymap)
        self._read_on()  # what it finds waits until the screen is there
        await self.push_screen(
            Board(
                self.source,
                self.settings,
                readonly=self._readonly,
                start_runner=self._start_runner,
                clock=self._clock,
            )
        )
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGHUP, signal.SIGTERM):
                loop.add_signal_handler(name, self.exit)
        self.set_interval(0.5, self._catch_up)

    def on_unmount(self) -> None:
        self._ending.set()

    @work(thread=True, exclusive=True, group="reader", exit_on_error=False)
    def _read_on(self) -> None:
        """Poll the store until the end; whatever goes wrong is shown, and tried again."""
        worker = get_current_worker()
        while not worker.is_cancelled and not self._ending.is_set():
            try:
                self._read(worker.is_cancelled)
            except (WorkspaceError, sqlite3.Error, OSError) as error:
                self.post_message(ReadFailed(f"cannot read the store: {error}"))
                self._ending.wait(AGAIN_S)

    def _read(self, cancelled: bool) -> None:
        with contextlib.closing(db.open_store(self.source.workspace)) as connection:
            reading = Reading(self.source.workspace, connection, self.source.campaign, self._clock)
            while not cancelled and not self._ending.wait(POLL_S if reading.started else 0.0):
                snapshot = reading.next()
                if snapshot is not None:
                    self.post_message(SnapshotArrived(snapshot))

    @on(SnapshotArrived)
    def _arrived(self, event: SnapshotArrived) -> None:
        for notice in notices(self._last, event.snapshot):
            self.notify(notice.text, severity=notice.severity, markup=False)
            if notice.loud:
                self.alert(notice.text)
        self._last = event.snapshot
        for board in self._boards():
            board.tell(event.snapshot)

    @on(ReadFailed)
    def _failed(self, event: ReadFailed) -> None:
        for board in self._boards():
            board.trouble(event.text)

    def _boards(self) -> Iterator[Board]:
        """None while the screens are taken down at the end: what still arrives then has nobody to be told to."""
        if self.is_running:
            yield from (screen for screen in self.screen_stack if isinstance(screen, Board))

    def alert(self, text: str) -> None:
        """Tell somebody who looks elsewhere, in the way that the settings say."""
        if self.settings.alerts in {"bell", "both"}:
            self.bell()
        if self.settings.alerts in {"osc9", "both"} and self._driver is not None:
            plain = "".join(char for char in text if char.isprintable())[:200]
            self._driver.write(f"\x1b]9;{plain}\x07")

    @on(Copy)
    def _copy(self, event: Copy) -> None:
        """To the clipboard, which may be lost on the way, and always to a file."""
        try:
            path = to_file(event.text, self.source.exports, event.what)
        except OSError as error:
            self.notify(f"cannot write the copy: {error}", severity="error", markup=False)
            return
        if len(event.text.encode(errors="replace")) <= OSC52_MOST:
            self.copy_to_clipboard(event.text)
            self.notify(f"copied, and written to {path} (tmux needs `set -g set-clipboard on`)", markup=False)
        else:
            self.notify(f"too long for the clipboard; written to {path}", markup=False)

    def _catch_up(self) -> None:
        """Paint anew a terminal that reads again, since frames were dropped; end with one that is gone."""
        driver = self._driver
        if not isinstance(driver, LossyDriver):
            return
        if driver.gone:
            self.exit()
        elif driver.behind and driver.drained:
            driver.behind = False
            whole = self.screen._compositor.render_update(full=True, screen_stack=self._background_screens)
            self._display(self.screen, whole)

    @property
    def stuck(self) -> bool:
        """At the end: the terminal reads no more, so that nothing can be said in it."""
        return isinstance(self._driver, LossyDriver) and self._driver.stuck

    def action_help_quit(self) -> None:
        """ctrl+c where no text is selected: as everywhere in isobench, it only detaches."""
        self.exit()

    def get_system_commands(self, screen: Screen[Any]) -> Iterator[SystemCommand]:
        yield from verbs(self)

    def _fatal_error(self) -> None:
        """Textual prints the locals of every frame, secrets among them; we write a report without and say where."""
        self.report = crash.write()
        self._close_messages_no_wait()
