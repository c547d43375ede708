"""A real pseudo-terminal with a command in it, and an emulator that knows what a person would see there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyte

REPO = Path(__file__).resolve().parents[1]
CHUNK = 65536
FOREIGN = re.compile(rb"\x1b\[[?>=<][0-9;]*(?:\$p|u|m)")
"""Questions and key protocols (DECRQM, kitty, modifyOtherKeys) that pyte would print as text."""


class Terminal:
    """What runs in it has it as its controlling terminal. Nothing is read from it unless the test looks at it."""

    def __init__(
        self,
        argv: list[str],
        env: Mapping[str, str],
        *,
        columns: int = 160,
        rows: int = 48,
        controlling: bool = True,
        emulate: bool = True,
    ) -> None:
        """`emulate=False`: only `raw` is kept, for measurements that an emulator would disturb."""
        self._master, self._tty = pty.openpty()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen) if emulate else None
        self.raw = bytearray()
        """All that was written to the terminal so far."""
        self.size_unread(columns, rows)
        self.modes = termios.tcgetattr(self._tty)
        """The line discipline before anything ran."""
        self.process = subprocess.Popen(
            argv,
            cwd=REPO,
            env={"TERM": "xterm-256color", **env},
            stdin=self._tty,
            stdout=self._tty,
            stderr=self._tty,
            start_new_session=True,
            preexec_fn=_take_terminal if controlling else None,  # noqa: PLW1509 - it is one system call
        )
        self._open = True

    # ------------------------------------------------------------------------------------------- looking

    def read(self, seconds: float = 0.02) -> None:
        """Take what was written, waiting at most so long for the first of it."""
        while self._open and select.select([self._master], [], [], seconds)[0]:
            try:
                data = os.read(self._master, CHUNK)
            except OSError as error:
                if error.errno != errno.EIO:  # EIO: nobody has the terminal open any more
                    raise
                return
            self.raw += data
            if self._stream is not None:
                self._stream.feed(FOREIGN.sub(b"", data))
            seconds = 0.0

    @property
    def lines(self) -> list[str]:
        """The screen, after all that was written by now was read."""
        self.read()
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def full(self) -> bool:
        """Whether nothing more can be written to it until somebody reads; it is also locked while one writes."""
        return not select.select([], [self._tty], [], 0.5)[1]

    def until(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        """Read until it holds; a test that waits in vain shows the screen."""
        end = time.monotonic() + seconds
        while True:
            self.read()
            if condition():
                return
            assert time.monotonic() < end, f"not within {seconds:g} s: {what}\n{self.text}"

    def shows(self, *texts: str) -> None:
        """Wait until all of them are on the screen."""
        self.until(lambda: all(text in self.text for text in texts), f"on the screen: {texts}")

    @property
    def cells(self) -> list[list[pyte.screens.Char]]:
        """Every cell of the screen: its character, colours and attributes."""
        self.read()
        return [[self._screen.buffer[y][x] for x in range(self._screen.columns)] for y in range(self._screen.lines)]

    @property
    def title(self) -> str:
        """What programs called the window."""
        return f"{self._screen.title}{self._screen.icon_name}"

    # -------------------------------------------------------------------------------------------- acting

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def insist(self, keys: str, *texts: str) -> None:
        """Press until all of them are on the screen: a pane that is being made swallows a key."""
        again = 0.0

        def shown() -> bool:
            nonlocal again
            if time.monotonic() > again:
                again = time.monotonic() + 5
                self.press(keys)
            return all(text in self.text for text in texts)

        self.until(shown, f"on the screen: {texts}")

    def resize(self, columns: int, rows: int) -> None:
        """As a window manager does: the kernel tells the foreground process (SIGWINCH)."""
        self.read(0.0)
        self._screen.resize(rows, columns)
        self.size_unread(columns, rows)

    def size_unread(self, columns: int, rows: int) -> None:
        """`resize` of a terminal that reads nothing now."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """Close the window: the kernel sends SIGHUP to what runs in it."""
        self._open = False
        os.close(self._tty)
        os.close(self._master)

    def ends(self, code: int | None = None, seconds: float = 30.0) -> int:
        """Wait for the end of the command, reading what it says; its exit code."""
        self.until(lambda: self.process.poll() is not None, "the command's end", seconds)
        self.read()
        found = self.process.returncode
        assert code is None or found == code, f"{found}, not {code}\n{self.text}"
        return found

    @property
    def said(self) -> str:
        """What was printed outside of the alternate screen, that is before and after the dashboard."""
        outside = re.sub(rb"\x1b\[\?1049h.*?(\x1b\[\?1049l|\Z)", b"", bytes(self.raw), flags=re.DOTALL)
        return re.sub(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.", b"", outside).decode(errors="replace").replace("\r", "")

    def assert_restored(self) -> None:
        """The terminal is as it was: its line discipline, the screen, the cursor, mouse and paste reports."""
        assert termios.tcgetattr(self._tty) == self.modes
        state: dict[bytes, bytes] = {}
        for mode, switch in re.findall(rb"\x1b\[\?([0-9]+)([hl])", bytes(self.raw)):
            state[mode] = switch
        assert state.pop(b"25", b"h") == b"h", "the cursor is hidden"
        assert state.pop(b"7", b"h") == b"h", "long lines do not wrap"
        assert state.get(b"1049") == b"l", "the alternate screen was not left"
        on = {mode for mode, switch in state.items() if switch == b"h"}
        assert not on, f"private modes left on: {sorted(on)}"

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self._open:
            os.close(self._tty)
            os.close(self._master)
            self._open = False


def _take_terminal() -> None:
    """In the child: standard input becomes the controlling terminal of its new session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextlib.contextmanager
def terminal(
    env: Mapping[str, str], *argv: str | Path, columns: int = 160, rows: int = 48, controlling: bool = True
) -> Iterator[Terminal]:
    """`isobench ARGV` in a terminal of its own; what still runs at the end is killed."""
    command = [sys.executable, "-m", "isobench_tui", *map(str, argv)]
    made = Terminal(command, env, columns=columns, rows=rows, controlling=controlling)
    try:
        yield made
    finally:
        made.close()


class Tmux:
    """A tmux server of its own, with one window in which `isobench ARGV` runs."""

    def __init__(self, socket: Path, env: Mapping[str, str], *argv: str | Path) -> None:
        self._socket, self._env = socket, {"TERM": "xterm-256color", **env}
        command = shlex.join([sys.executable, "-m", "isobench_tui", *map(str, argv)])
        self.run("new-session", "-d", "-x", "160", "-y", "48", "-c", str(REPO), command)
        self.run("set-option", "-s", "set-clipboard", "on")
        self.pid = int(self.run("display-message", "-p", "#{pane_pid}"))

    def run(self, *argv: str) -> str:
        """A command of tmux; what it printed."""
        command = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *argv]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    @property
    def lines(self) -> list[str]:
        """What the window shows."""
        return self.run("capture-pane", "-p").splitlines()

    def press(self, *keys: str) -> None:
        self.run("send-keys", *keys)


@contextlib.contextmanager
def tmux(socket: Path, env: Mapping[str, str], *argv: str | Path) -> Iterator[Tmux]:
    """Killed at the end."""
    made = Tmux(socket, env, *argv)
    try:
        yield made
    finally:
        with contextlib.suppress(AssertionError):  # it ended with its last window
            made.run("kill-server")
