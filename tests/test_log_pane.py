"""The log pane by its keys, in a small terminal; and on a real one: nothing that a log holds reaches the terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest
from logdirs import Logs
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

from isobench_tui.tui.actions import LOG
from isobench_tui.tui.log.pane import LogPane
from isobench_tui.tui.log.view import LogView

HERE = Path(__file__).parent


class Window(App[None]):
    """Nothing but the pane."""

    def __init__(self, run_dir: Path, save_dir: Path) -> None:
        super().__init__()
        self._dirs = run_dir, save_dir
        self.clipboards: list[str] = []

    def compose(self) -> ComposeResult:
        yield LogPane(self._dirs[1])

    def on_mount(self) -> None:
        pane = self.query_one(LogPane)
        pane.show_attempt(self._dirs[0], label="1a2b3c4d:human#1")
        pane.view.focus()

    def copy_to_clipboard(self, text: str) -> None:
        self.clipboards.append(text)


@dataclass
class Seen:
    """The window in a pilot's hands."""

    app: Window
    pilot: Pilot[None]

    @property
    def pane(self) -> LogPane:
        return self.app.query_one(LogPane)

    @property
    def rows(self) -> list[str]:
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    @property
    def body(self) -> list[str]:
        """The lines, without the scroll bar."""
        return [row[: self.app.size.width - 1].rstrip() for row in self.rows[1:-1]]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, opener: str, text: str) -> None:
        await self.press(opener)
        self.app.query_one("#log-input").value = ""  # type: ignore[attr-defined]
        await self.press(*text, "enter")

    async def until(self, what: Callable[[], object]) -> None:
        """Until it is so; the test's own time limit ends what never is."""
        while not what():
            await self.pilot.pause(0.02)

    async def shows(self, text: str) -> None:
        """Until the screen holds it."""
        for _ in range(500):
            if any(text in row for row in self.rows):
                return
            await self.pilot.pause(0.02)
        raise AssertionError(f"{text!r} is not on the screen:\n" + "\n".join(self.rows))

    async def point(self, text: str) -> None:
        """Until the line found last is this one, and on the screen."""
        for _ in range(500):
            if any(row.startswith((">", "*")) and text in row for row in self.body):
                return
            await self.pilot.pause(0.02)
        raise AssertionError(f"{text!r} is not the line that was found:\n" + "\n".join(self.rows))


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    made = Logs(tmp_path / "run")
    made.add("setup.log", b"setup 1\n", 0)
    made.add("server.log", b"".join(b"INFO line %d\n" % number for number in range(1, 301)), 60)
    made.add("server.log", b"".join(b"\x1b[32mINFO\x1b[0m line %d\n" % number for number in range(301, 601)), 120)
    made.add("client-00.log", b"ValueError: boom\n" + b"x" * 100 + b" end of a long line\nbar 1%\rbar 100%\n", 180)
    return made


@asynccontextmanager
async def window(logs: Logs, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Seen]:
    app = Window(logs.run.path, logs.run.path.parent / "saved")
    async with app.run_test(size=size, notifications=True) as pilot:
        seen = Seen(app, pilot)
        await seen.shows("following")
        await seen.shows("bar 100%")
        yield seen


async def test_it_opens_at_the_end_of_all_logs_and_follows(logs: Logs) -> None:
    async with window(logs) as seen:
        assert seen.rows[0].startswith("all logs by time (3) · 1a2b3c4d:human#1")
        assert seen.body[-1] == " client-00 bar 100%"
        assert any(row.startswith(" server    INFO line 600") for row in seen.body)
        logs.add("server.log", b"and on it goes\n", 240)
        await seen.shows("server    and on it goes")
        await seen.press("up")
        await seen.shows("not following")
        logs.add("server.log", b"one\ntwo\n", 250)
        await seen.shows("2 new below")
        await seen.press("G")
        await seen.shows("following")
        assert seen.body[-1] == " server    two"


async def test_scrolling_up_and_down_passes_every_line(logs: Logs) -> None:
    async with window(logs) as seen:
        await seen.press("right_square_bracket", "right_square_bracket")
        await seen.shows("server.log 2/3")
        await seen.shows("INFO line 600")
        passed: list[int] = []
        while True:
            passed += [int(row.rsplit(" ", 1)[1]) for row in seen.body]
            top = seen.body[0]
            if top.endswith("line 1"):
                break
            await seen.press("pageup")
            await seen.until(lambda top=top: seen.body[0] != top)  # type: ignore[misc]
        assert set(passed) == set(range(1, 601))
        await seen.press("home")
        await seen.point("  1 INFO line 1")
        await seen.press("pagedown")
        await seen.shows("   22 INFO line 22")
        await seen.press("end")
        await seen.shows("  600 INFO line 600")


async def test_search_steps_through_matches_with_their_count(logs: Logs) -> None:
    async with window(logs) as seen:
        seen.pane.show("server.log", 1)
        await seen.point("INFO line 1")
        await seen.type("slash", "line .00$")
        await seen.point("line 100")
        await seen.shows("search: line .00$ (1 of 6)")
        await seen.press("n")
        await seen.point("line 200")
        await seen.press("N", "N")
        await seen.point("line 600")
        await seen.shows("search went on from the end")
        hit = seen.pane.view.here
        assert hit is not None
        assert hit.hits == ((5, 13),)
        await seen.press("escape")
        await seen.until(lambda: "search" not in seen.rows[0])


async def test_a_bad_pattern_is_said_and_may_be_mended(logs: Logs) -> None:
    async with window(logs) as seen:
        await seen.type("slash", "(")
        await seen.shows("not a regular expression")
        assert seen.pane.has_class("-asking")
        await seen.press("escape")
        assert not seen.pane.has_class("-asking")
        assert isinstance(seen.app.focused, LogView)


async def test_filter_and_its_inverse(logs: Logs) -> None:
    async with window(logs) as seen:
        await seen.press("right_square_bracket", "right_square_bracket")
        await seen.type("ampersand", "line [0-9]+7$")
        await seen.shows("filter: line [0-9]+7$ (59 lines)")
        assert seen.body[-2:] == ["  587 INFO line 587", "  597 INFO line 597"]
        await seen.press("exclamation_mark")
        await seen.shows("filter: not line [0-9]+7$ (541 lines)")
        assert seen.body[-4:] == [
            "  596 INFO line 596",
            "  598 INFO line 598",
            "  599 INFO line 599",
            "  600 INFO line 600",
        ]
        await seen.press("escape")
        await seen.shows("  597 INFO line 597")


async def test_the_first_error_the_place_and_the_other_log(logs: Logs) -> None:
    async with window(logs) as seen:
        await seen.press("home", "e")
        await seen.point("ValueError: boom")
        await seen.shows("search: errors (1 of 1)")
        seen.pane.show("server.log", 333)
        await seen.point("333 INFO line 333")
        await seen.shows("server.log 2/3")
        await seen.type("colon", "42")
        await seen.point("42 INFO line 42")
        await seen.type("colon", "+1m")
        await seen.point("301 INFO line 301")
        await seen.type("colon", "soon")
        await seen.shows("is no place")


async def test_times_wrap_and_the_way_to_the_side(logs: Logs) -> None:
    async with window(logs, (60, 12)) as seen:
        await seen.shows("end of a long line")
        await seen.press("w")
        await seen.until(lambda: not any("end of a long line" in row for row in seen.rows))
        await seen.press(*["right"] * 6)
        await seen.shows("end of a long line")
        await seen.press("t")
        clock = time.strftime("%H:%M:%S", time.localtime(seen.pane.view.lines[-1].when))
        await seen.shows(f" {clock} client-00")


async def test_marks_copy_and_save(logs: Logs, tmp_path: Path) -> None:
    async with window(logs) as seen:
        seen.pane.show("server.log", 10)
        await seen.point("line 10")
        await seen.press("m")
        await seen.shows("1 marked")
        seen.pane.show("server.log", 13)
        await seen.point("line 13")
        await seen.press("m", "y")
        await seen.until(lambda: seen.app.clipboards)
        assert seen.app.clipboards == ["INFO line 10\nINFO line 11\nINFO line 12\nINFO line 13\n"]
        (path,) = (tmp_path / "saved").iterdir()
        assert path.read_text() == seen.app.clipboards[0]
        await seen.press("apostrophe")
        await seen.point("line 10")
        await seen.press("s")
        await seen.shows("saved 600 lines to")
        path = max((tmp_path / "saved").iterdir(), key=lambda path: path.stat().st_size)
        assert path.read_text().splitlines()[-1] == "INFO line 600"


async def test_what_did_not_change_is_not_painted(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    async with window(logs) as seen:
        painted: list[Region] = []
        refresh = LogView.refresh

        def watched(view: LogView, *regions: Region, **options: bool) -> LogView:
            painted.extend(regions or [view.size.region])
            return refresh(view, *regions, **options)

        monkeypatch.setattr(LogView, "refresh", watched)
        await seen.press("m")
        await seen.shows("1 marked")
        assert painted == [Region(0, 0, 80, 1)], "one line was marked"
        painted.clear()
        logs.add("client-00.log", b"new\n", 200)
        await seen.shows("client-00 new")
        assert painted
        painted.clear()
        await seen.press("up")
        painted.clear()
        logs.add("client-00.log", b"below the screen\n", 201)
        await seen.shows("1 new below")
        assert sum(region.area for region in painted) <= 3 * 80, "the scroll bar at most"


async def test_a_log_that_is_away_says_so_and_a_hidden_pane_rests(logs: Logs) -> None:
    async with window(logs) as seen:
        seen.pane.display = False
        await seen.until(lambda: seen.pane._reader._resting)
        logs.add("client-00.log", b"meanwhile\n", 300)
        seen.pane.display = True
        await seen.shows("client-00 meanwhile")
        seen.pane.show_attempt(logs.run.path.parent / "nothing")
        await seen.shows("no log has been written yet")


async def test_a_failure_of_the_reader_is_shown_and_not_fatal(logs: Logs) -> None:
    async with window(logs) as seen:
        reader = seen.pane._reader

        def fail() -> None:
            raise RuntimeError("on purpose")

        reader.ask(fail)
        await seen.shows("the log cannot be shown: RuntimeError: on purpose")
        seen.pane.show_attempt(logs.run.path)
        await seen.shows("bar 100%")


def test_every_action_of_the_table_has_its_method() -> None:
    for action in LOG:
        assert hasattr(LogPane, f"action_{action.name}"), action.id
        assert action.key and action.label and action.help
    used = [key for action in LOG for key in action.key.split(",")]
    assert len(used) == len(set(used))


# -- on a real terminal

EVIL = (
    b"\x1b]0;EVIL-TITLE\x07\x1b]2;EVIL-TITLE\x1b\\\x1b]52;c;RVZJTA==\x07\x1b]8;;http://evil/\x1b\\link\x1b]8;;\x1b\\"
    b" 1one\n"
    b"\x1b[2J\x1b[H\x1b[?1049l\x1b[?1000hEVIL-SCREEN 2two\n\x1b[6n\x1b[c\x1b[>q\x1bP+q544e\x1b\\ 3three\n"
    b"\x9b2J\x9d0;EVIL\x9c 4four\n\xc2\x9b2J\xc2\x9d0;EVIL-TITLE\xc2\x9c 5five\n\x1bc\x1b(0\x0e 6six\x0f\n"
    b"\x07\x08\x7f 7seven\n[bold red]no markup[/] \x1b[31;5;8mred\x1b[0m 8eight\n\xe2\x80\xae\xe2\x81\xa6 9nine\n"
    b"\0\0\r\0 10ten\n"
    + "zalgo\u0301\u0301\u0301\u0301\u0301\u0301\u0301 \ufe0f\u200d\u2028 11eleven\n".encode()
    + b"\x1b]9;EVIL-NOTICE\x07\x1b_Ga=T;AAAA\x1b\\\x1b]1337;File=:AAAA\x07 12twelve\n"
)  # fmt: skip
WORDS = "1one 2two 3three 4four 5five 6six 7seven 8eight 9nine 10ten 11eleven 12twelve"
FORBIDDEN = (
    rb"\x1b\]", rb"\x07", b"EVIL-TITLE", b"EVIL-NOTICE", b"http://evil", rb"\x1b\[2J\x1b\[H\x1b\[\?1049l",
    rb"\x1b\[6n",
    rb"\x1b\[>q", rb"\x1bP\+q", rb"\x1b_", rb"\x1bc", rb"\x1b\(0", rb"\xc2[\x80-\x9f]", rb"\x0e|\x0f|\x08|\x7f",
    b"\xe2\x80\xae|\xe2\x81\xa6|\xe2\x80\x8d|\xe2\x80\xa8|\xef\xb8\x8f", b"(?:\xcc\x81){4}",
)  # fmt: skip
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_log_pane import Window
Window(Path(sys.argv[2]), Path(sys.argv[3])).run()
"""


def test_no_hostile_sequence_reaches_a_real_terminal(tmp_path: Path) -> None:
    logs = Logs(tmp_path / "run")
    logs.add("server.log", EVIL, 1)
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 80))
    argv = [sys.executable, "-c", PROGRAM, str(HERE), str(logs.run.path), str(tmp_path / "saved")]
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(argv, stdin=side, stdout=side, stderr=side, env=env, start_new_session=True)
    os.close(side)
    screen = pyte.Screen(80, 24)
    stream = pyte.ByteStream(screen)
    sent = b""

    def pump(done: Callable[[], bool]) -> None:
        nonlocal sent
        until = time.monotonic() + 60
        while not done():
            assert time.monotonic() < until, "\n".join(screen.display)
            ready, _, _ = select.select([main], [], [], 0.1)
            if ready:
                try:
                    data = os.read(main, 65536)
                except OSError:
                    return
                sent += data
                stream.feed(data)

    try:
        pump(lambda: any("12twelve" in row for row in screen.display))
        os.write(main, b"\x1b[A")  # scroll, so that it paints again
        pump(lambda: any("not following" in row for row in screen.display))
        text = "\n".join(screen.display)
    finally:
        process.terminate()
        process.wait(30)
        os.close(main)
    for word in WORDS.split():
        assert word in text, text
    assert "[bold red]no markup[/] red 8eight" in text
    # Textual's own: the shape of the mouse pointer
    sent = re.sub(rb"\x1b\]22;[a-z-]*\x07", b"", sent)
    for bad in FORBIDDEN:
        found = re.search(bad, sent)
        assert found is None, (bad, sent[max(0, found.start() - 60) : found.end() + 60])
    assert "EVIL" not in screen.title
