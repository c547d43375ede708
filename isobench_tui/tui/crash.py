"""The report of a crash: the traceback without the values of variables, in a file that only the user can read."""

from __future__ import annotations

import os
import platform
import tempfile
import time
import traceback
from pathlib import Path

import platformdirs
import textual

from isobench_tui import __version__


def write() -> Path:
    """Write the exception that is being handled; returns where."""
    head = (
        f"isobench {__version__}, textual {textual.__version__}, Python {platform.python_version()}, "
        f"{platform.platform()}, TERM={os.environ.get('TERM', '')}, {time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n\n"
    )
    return _save(head + traceback.format_exc())


def _save(text: str) -> Path:
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        folder = Path(platformdirs.user_state_dir("isobench"))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / name
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        fd, other = tempfile.mkstemp(prefix="isobench-", suffix=f"-{name}")
        path = Path(other)
    with os.fdopen(fd, "w", errors="backslashreplace") as file:
        file.write(text)
    return path
