"""The dashboard as a program: hears what the store holds, tells its screen, dies without harm to anything."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textual import on
from textual.app import App, SystemCommand
from textual.screen import Screen

from isobench_tui.tui import crash
from isobench_tui.tui.board import Board, StartRunner
from isobench_tui.tui.copying import OSC52_MOST, to_file
from isobench_tui.tui.driver import LossyDriver
from isobench_tui.tui.feed import Feed
from isobench_tui.tui.messages import Copy, ReadFailed, SnapshotArrived
from isobench_tui.tui.palette import verbs
from isobench_tui.tui.settings import Settings
from isobench_tui.tui.snapshot import Snapshot
from isobench_tui.tui.views.notices import notices


class Dashboard(App[None]):
    """A window on a workspace. It holds no truth: quitting or killing it changes nothing."""

    CSS_PATH = "dashboard.tcss"
    TITLE = "isobench"
    ENABLE_COMMAND_PALETTE = True
    NOTIFICATION_TIMEOUT = 6

    def __init__(
        self,
        feed: Feed,
        settings: Settings,
        *,
        readonly: bool = False,
        start_runner: StartRunner | None = None,
    ) -> None:
        super().__init__(driver_class=LossyDriver)
        self.feed, self.source, self.settings = feed, feed.source, settings
        self._readonly, self._start_runner = readonly, start_runner
        self._last = Snapshot(str(feed.source.workspace.root), True, 0.0)
        self.report: Path | None = None
        """Where the report of a crash was written."""

    async def on_mount(self) -> None:
        self.theme = self.settings.theme
        self.set_keymap(self.settings.keymap)
        self.feed.listen(self._heard)  # what it found waits until the screen is there
        await self.push_screen(
            Board(
                self.source,
                self.settings,
                readonly=self._readonly,
                start_runner=self._start_runner,
                clock=self.feed.clock,
            )
        )
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGHUP, signal.SIGTERM):
                loop.add_signal_handler(name, self.exit)
        self.set_interval(0.5, self._catch_up)

    def on_unmount(self) -> None:
        self.feed.close()

    def _heard(self, what: Snapshot | str) -> None:
        """In the feed's thread."""
        self.post_message(ReadFailed(what) if isinstance(what, str) else SnapshotArrived(what))

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
